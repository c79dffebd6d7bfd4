#!/bin/sh
# Installs sereno from the checkout that this file is in; `install.sh --help` says how.
#
# A version is staged as a whole directory PREFIX/releases/ID, which nothing refers to until it is complete and its
# units have been verified. Only then are the unit files renamed into place and the link PREFIX/current is switched.
# Killed at any moment, the version before or the new one works, and the next run finishes. ID is a hash of what is
# shipped, so installing the same checkout again finds everything done. Releases with the same requirements and the
# same interpreter have one environment, PREFIX/environments/ID. A first install that fails is undone.
# This file does what must be done before Python can do it; lib/sereno/install does the rest.
set -eu

python_min=3.11
patience_s=600 # for apt, or another install.sh, to end

usage() {
    cat <<'END'
usage: install.sh [--user] [--prefix DIR] [--wheels DIR] [--root DIR] [--no-start] [--dry-run]
       install.sh --uninstall [--purge] [--user] [--prefix DIR] [--root DIR] [--dry-run]

Installs sereno from this checkout: code, its Python environment, units, timers; or a newer version over an older one.

  --user        for the calling user alone, without root: systemctl --user, XDG directories
  --prefix DIR  where the code goes (/opt/sereno; with --user ~/.local/share/sereno)
  --wheels DIR  take the Python dependencies from this folder, without a network
  --root DIR    install into the system image in DIR; nothing is started, no running manager is asked
  --no-start    start nothing now; the timers start with the next boot
  --dry-run     print every change and make none
  --uninstall   remove exactly what was installed; cached data, user and group stay
  --purge       with --uninstall: the data, the timers' stamps, the users and their groups too; what you wrote stays
  --help        this text

The last line is `changed` or `unchanged`; with --dry-run it says which it would be.
Exit status: 0 done, 1 something is missing, foreign or failed, 2 wrong use, 129, 130 or 143 ended by a signal.
END
}

# One line for each argument.
say() { printf '%s\n' "$@"; }

die() { # die MESSAGE [WAY-OUT...]
    told=yes
    say "install.sh: $1" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

wrong_use() {
    say "install.sh: $1" '' >&2
    usage >&2
    exit 2
}

run() {
    "$@" >"$tmp/error" 2>&1 ||
        die "this failed: $*: $(cause)" "What was installed before still works. Mend the cause, then run install.sh again."
    cat "$tmp/error" >&2
}

# On a terminal: whoever waits for pip or apt sees that something goes on.
count_seconds() {
    [ -t 1 ] && [ -t 2 ] && [ "${TERM-dumb}" != dumb ] || return 0
    # It ends with this shell too.
    (seconds=0; while sleep 1 && kill -0 $$ 2>/dev/null; do printf '%ss\r' "$((seconds += 1))" >&2; done) &
    counter=$!
}

# Why the command failed whose words are in $tmp/error: the last error of apt or pip, else the last line.
cause() {
    said=$(sed -n 's/^E\(RROR\)\{0,1\}: //p' "$tmp/error" | tail -n 1)
    say "${said:-$(tail -n 1 "$tmp/error")}"
}

parse_arguments() {
    user=no root='' staged=no prefix='' wheels='' start=yes dry_run=no uninstall=no purge=no
    while [ $# -gt 0 ]; do
        name=$1 value=${2-}
        case $1 in
            --prefix=* | --wheels=* | --root=*) name=${1%%=*} value=${1#*=} ;;
            --prefix | --wheels | --root) [ $# -eq 1 ] || shift ;;
            *) value=none ;;
        esac
        [ -n "$value" ] || wrong_use "$name needs a directory"
        case $name in
            --prefix) prefix=$value ;;
            --wheels) wheels=$(readlink -m -- "$value") ;;
            --root) root=$(readlink -m -- "$value" | sed 's|^/$||') staged=yes ;;
            --user) user=yes ;;
            --no-start) start=no ;;
            --dry-run) dry_run=yes ;;
            --uninstall) uninstall=yes ;;
            --purge) purge=yes ;;
            --help) usage; exit 0 ;;
            *) wrong_use "unknown argument: $1" ;;
        esac
        shift
    done
    [ "$user$staged" != yesyes ] || wrong_use "--user and --root: only a whole system can be staged"
    [ "$purge$uninstall" != yesno ] || wrong_use "--purge goes with --uninstall"
    [ -z "$wheels" ] || [ -d "$wheels" ] || wrong_use "--wheels: $wheels is not a directory"
}

check_rights() {
    manager=running uid=$(id -u)
    [ -d /run/systemd/system ] || manager=absent
    [ "$staged" = no ] || manager=staged
    if [ "$user" = yes ]; then
        [ "$uid" -ne 0 ] || die "--user as root would install for the user root alone" "For the whole machine: ./install.sh"
        [ "$manager" = running ] || die "--user needs a user's systemd manager, and systemd is not process 1 here"
        export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$uid}"
        systemctl --user show -P Version >/dev/null 2>&1 || die "no systemd manager runs for $(id -un)" \
            "Log in anew (not by su or sudo), or as root: loginctl enable-linger $(id -un)"
    elif [ "$staged$dry_run" = nono ]; then
        [ "$uid" -eq 0 ] || die "only root can install for the whole machine" "sudo ./install.sh, or as root ./install.sh" \
            "./install.sh --user   for yourself alone, without root"
    fi
}

# Debian's own Python comes first: only it sees the package python3-systemd.
find_python() {
    seen='none is installed'
    for python in /usr/bin/python3 "$(command -v python3 || true)"; do
        [ -x "$python" ] || continue
        python_version=$("$python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])
sys.exit(sys.version_info[:2] < tuple(map(int, sys.argv[1].split("."))))' "$python_min") && return
        seen="$python is $python_version"
    done
    [ "$seen$uninstall" = 'none is installedno' ] || die "Python $python_min or newer is needed; $seen"
    python=''
}

missing_packages() {
    [ -n "$python" ] || { say python3 python3-venv python3-systemd; return; }
    [ -n "$(find_pip)" ] || say python3-venv
    # An image that is staged brings its own; the report says so.
    [ "$staged" = yes ] || "$python" -I -c 'from systemd import journal' 2>/dev/null || say python3-systemd
}

# The wheel of pip that `python3 -m venv` would put into an environment.
find_pip() {
    "$python" -I -c '
import ensurepip, glob, sysconfig, venv
places = [sysconfig.get_config_var("WHEEL_PKG_DIR"), ensurepip.__path__[0] + "/_bundled"]
print(next(wheel for place in places if place for wheel in glob.glob(place + "/pip-*.whl")))
' 2>/dev/null || :
}

check_packages() {
    packages=$(missing_packages | paste -s -d ' ')
    if [ -n "$packages" ] && [ "$uid$staged" = 0no ] && command -v apt-get >/dev/null; then
        say "Installing $packages"
        changed=yes
        if [ "$dry_run" = yes ]; then say "would run: apt-get install $packages"; return; fi
        # Lists that are missing, or too old for the mirror: the same again with new ones.
        # shellcheck disable=SC2086  # package names, one word each
        apt_get install $packages || { apt_get update && apt_get install $packages; } || die "this failed: apt-get install $packages: $(cause)" \
            "Mend the cause, or install the packages in another way, then run install.sh again."
        find_python
        packages=$(missing_packages | paste -s -d ' ')
    fi
    [ -z "$packages" ] || die "Python packages of the distribution are missing for ${python:-python3}: $packages" \
        "Debian, Ubuntu: sudo apt-get install $packages" "Fedora: sudo dnf install python3 python3-systemd"
}

# Fails as apt-get does, its words in $tmp/error. DPkg::Lock::Timeout= would not wait for the lock of the lists, which the
# first boot's `apt-get update` holds.
apt_get() {
    waited_s=0
    until apt-get --quiet --yes --no-install-recommends "$@" >/dev/null 2>"$tmp/error" </dev/null; do
        grep -q 'Could not get lock' "$tmp/error" && [ "$waited_s" -lt "$patience_s" ] || return
        [ "$waited_s" -gt 0 ] ||
            say "apt is busy; waiting up to $((patience_s / 60)) minutes: $(sed -n 's/^E: \(Could not get lock .*\)/\1/p' "$tmp/error")"
        sleep 2
        waited_s=$((waited_s + 2))
    done
}

stage() {
    [ -e "$environment/MANIFEST" ] || make_environment
    say "Staging $prefix/releases/$release"
    run mkdir -p "$tree"
    run xargs -0 -a "$tmp/shipped" cp --parents -t "$tree" --
    run chmod -R u=rwX,go=rX "$tree"
    run chmod -R a+x "$tree/bin"
    run find "$tree/bin" -type f -exec sed -i "1s|^#!.*python.*|#!$prefix/releases/$release/venv/bin/python3 -I|" {} +
    run ln -s "../../environments/${environment##*/}" "$tree/venv"
    run "$python" -I -m compileall -q -s "$root" -p / "$tree/lib"
    changed=yes
    installer "$tree" verify
}

# It holds the dependencies and no pip: that runs from its wheel.
make_environment() {
    # Whatever comes from outside comes before anything is staged.
    say "Fetching the packages of lib/requirements*.txt"
    # Unpacked, so that its second start is a quick one.
    run "$python" -I -m zipfile -e "$(find_pip)" "$tmp/pip"
    # pip finds from here on in the environment what it may go by, and nothing anywhere else.
    installer "$here" pip-settings
    for name in $(env | sed -n 's/^\(PIP_[A-Za-z_]*\)=.*/\1/p'); do unset "$name"; done
    while [ -z "$wheels" ] && IFS= read -r setting; do export "${setting?}"; done <"$tmp/settings"
    pip "$python" download --dest "$tmp/wheels" ${wheels:+--no-index --find-links "$wheels"} >"$tmp/error" 2>&1 || die \
        "the packages cannot be had: $(cause)$(sed -n "s/.*connection broken by '\(.*\)': .*/; \1/p" "$tmp/error" | tail -n 1)" \
        "$(sed -n 's/^# \(Wheels for .*\)\. To move.*/\1/p' lib/requirements.txt). Here: Python $python_version, $(uname -m)." \
        "By a mirror or proxy: index-url and proxy in pip.conf; PIP_INDEX_URL, HTTPS_PROXY." \
        "Without a network: ./install.sh --wheels DIR, which \`pip download -r\` of lib/requirements*.txt has filled elsewhere."
    say "Making the environment ${environment#"$root"}"
    run "$python" -I -m venv --system-site-packages --without-pip "$environment"
    # Where the tree is staged, this line names a path that will not exist.
    run sed -i '/^command = /d' "$environment/pyvenv.cfg"
    # --ignore-installed: what a package of the distribution has, it may take away again.
    run pip "$environment/bin/python3" install --no-index --find-links "$tmp/wheels" --ignore-installed --no-compile
    # So do the scripts: those of activation, and those of the dependencies, which nobody starts.
    run find "$environment/bin" -type f -delete
    run "$environment/bin/python3" -I -m compileall -q -s "$root" -p / "$environment/lib"
    installer "$here" seal-environment
}

pip() { # pip PYTHON COMMAND OPTION...
    interpreter=$1; shift
    PIP_CONFIG_FILE=/dev/null "$interpreter" -I "$tmp/pip/pip" -q --no-input --disable-pip-version-check --no-cache-dir "$@" --no-deps \
        --require-hashes --only-binary :all: -r lib/requirements.txt -r lib/requirements-command.txt
}

# What is not done here: by the code in DIRECTORY, with the interpreter that was found and nothing but its library. What
# it has to tell is in files in $tmp; with status 1 it has said what is wrong.
installer() { # installer DIRECTORY ACTION
    "$python" -I -B "$1/lib/sereno/install/__main__.py" "$2" "user=$user" "root=$root" "prefix=$prefix" "tmp=$tmp" \
        "manager=$manager" "start=$start" "dry_run=$dry_run" "uninstall=$uninstall" "purge=$purge" "changed=$changed" \
        "release=$release" "environment=$environment" "python=$python" "python_version=$python_version" && return
    status=$?
    [ "$status" -ne 1 ] || told=yes
    exit "$status"
}

# At the end, whatever it is. What a first install made goes again; of another one, what is not complete.
finish() {
    status=$?
    trap '' HUP INT TERM
    [ -z "$counter" ] || { kill "$counter" && wait "$counter" || printf '\033[K'; } 2>/dev/null
    [ "$status" -eq 0 ] || [ "$told" = yes ] || say "install.sh: it ended before it was done" >&2
    if [ "$status" -ne 0 ] && [ -e "$tmp/undo" ]; then
        say "What this run made is removed again."
        read -r purge <"$tmp/undo"
        (installer "$here" remove >/dev/null) || say "  When the cause is mended: ./install.sh --uninstall --purge" >&2
    elif [ "$status" -ne 0 ] && [ -n "$release" ]; then
        for path in "$tree" "$environment"; do [ -e "$path/MANIFEST" ] || rm -rf "$path"; done
    fi
    rm -rf "$tmp"
    exit "$status"
}

# One install.sh at a time, whatever its prefix; the lock is on a directory that is always there, and leaves no file.
lock() {
    place=${root:-/}
    [ "$user" = no ] || place=$HOME
    [ -d "$place" ] || [ "$uninstall$dry_run" != nono ] || run mkdir -p "$place"
    [ -d "$place" ] && [ "$dry_run" = no ] || return 0
    exec 9<"$place"
    ! flock -n 9 || return 0
    say "Another install.sh is at work; waiting up to $((patience_s / 60)) minutes for it to end."
    flock -w "$patience_s" 9 || die "another install.sh is still at work" "See which: pgrep -af install.sh"
}

main() {
    umask 022
    # What the caller's environment may hold that the commands here would go by, or search for words.
    unset CDPATH LANGUAGE LD_LIBRARY_PATH LD_PRELOAD POSIXLY_CORRECT PYTHONHOME PYTHONPATH SYSTEMD_LOG_LEVEL SYSTEMD_UNIT_PATH
    # `su` without `-` leaves out where root's programs are.
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
    export HOME="${HOME:-$(getent passwd "$(id -u)" | cut -d : -f 6)}"
    changed=no told=no release='' environment='' counter=''
    parse_arguments "$@"
    here=$(dirname -- "$(readlink -f -- "$0")")
    { [ -f "$0" ] && [ -f "$here/bin/sereno" ] && [ -d "$here/lib/sereno" ] && [ -d "$here/systemd/system" ]; } ||
        die "not a checkout of sereno: $here" "Get all of it (a clone, or an unpacked archive), and there: ./install.sh"
    check_rights
    cd "$here"
    tmp=$(mktemp -d 2>/dev/null) || die "no temporary directory can be made in ${TMPDIR:-/tmp}" "TMPDIR=DIR ./install.sh"
    trap finish EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    count_seconds
    find_python
    [ "$uninstall" = yes ] || check_packages
    # So ends a dry run that has said what would be installed first.
    [ -n "$python" ] || { say "$changed"; return; }
    installer "$here" check
    read -r prefix <"$tmp/prefix"
    lock
    if [ "$uninstall" = yes ]; then read -r code <"$tmp/code"; installer "$code" remove; return; fi
    installer "$here" prepare
    read -r release environment <"$tmp/chosen"
    code=$here tree=$root$prefix/releases/$release
    [ "$dry_run" = yes ] || { [ -e "$tree/MANIFEST" ] || stage; code=$tree; }
    installer "$code" commit
}

main "$@"
