#!/bin/sh
# Installs sereno from the checkout that this file is in; `install.sh --help` says how.
#
# A version is staged as a whole directory PREFIX/releases/ID, which nothing refers to until it is complete and its
# units have been verified. Only then are the unit files renamed into place one by one and the link PREFIX/current is
# switched. Killed at any moment, the version before or the new one works, and the next run finishes. ID is a hash of
# what is shipped, so installing the same checkout again finds everything done. A first install that fails is undone.
set -eu

python_min=3.11
systemd_min=252
job=cache_cleanup_hourly
data_dir=/var/cache/sereno
state_dir=/var/lib/sereno
# For apt, or another install.sh, to end.
patience_s=600
# All that pip takes from pip.conf and PIP_*: where packages are, and how to get there. `user` would put them elsewhere.
pip_settings='index-url\|extra-index-url\|no-index\|find-links\|proxy\|cert\|client-cert\|trusted-host'
pip_settings="$pip_settings\|timeout\|default-timeout\|retries"

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

Exit status: 0 done, 1 something is missing, foreign or failed, 2 wrong use.
END
}

# One line for each argument.
say() { printf '%s\n' "$@"; }

# die MESSAGE [WAY-OUT...]
die() {
    told=yes
    printf 'install.sh: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

wrong_use() {
    printf 'install.sh: %s\n\n' "$1" >&2
    usage >&2
    exit 2
}

# Every command that changes something outside the temporary directory goes through here.
run() {
    changed=yes
    if [ "$dry_run" = yes ]; then
        say "would run: $*"
    else
        "$@" 2>"$tmp/error" ||
            die "this failed: $*: $(cause)" "What was installed before still works. Mend the cause, then run install.sh again."
        cat "$tmp/error" >&2
    fi
}

# Why the command failed whose standard error is in $tmp/error: the last error of apt or pip, else the last line.
cause() {
    said=$(sed -n 's/^E\(RROR\)\{0,1\}: //p' "$tmp/error" | tail -n 1)
    say "${said:-$(tail -n 1 "$tmp/error")}"
}

parse_arguments() {
    user=no root='' staged=no prefix='' wheels='' start=yes dry_run=no uninstall=no purge=no changed=no undo=nothing told=no
    while [ $# -gt 0 ]; do
        case $1 in
            --prefix=* | --wheels=* | --root=*)
                option=${1%%=*} value=${1#*=}
                shift
                set -- "$option" "$value" "$@"
                ;;
        esac
        case $1 in
            --prefix | --wheels | --root)
                [ -n "${2-}" ] || wrong_use "$1 needs a directory"
                case $1 in
                    --prefix) prefix=$2 ;;
                    --wheels) wheels=$(readlink -m -- "$2") ;;
                    --root) root=$(readlink -m -- "$2" | sed 's|^/$||') staged=yes ;;
                esac
                shift
                ;;
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

# All paths are those of the installed system; "$root" goes before each that is touched.
choose_paths() {
    here=$(dirname -- "$(readlink -f -- "$0")")
    { [ -f "$0" ] && [ -f "$here/bin/sereno" ] && [ -d "$here/lib/sereno" ] && [ -d "$here/systemd/system" ]; } ||
        die "not a checkout of sereno: $here" "Get all of it (a clone, or an unpacked archive), and there: ./install.sh"
    if [ "$user" = yes ]; then
        data_home=$(xdg "${XDG_DATA_HOME-}" "$HOME/.local/share")
        kind=user scope=--user
        prefix=${prefix:-$data_home/sereno}
        unit_dir=$data_home/systemd/user
        old_unit_dir=$unit_dir
        config_dir=$(xdg "${XDG_CONFIG_HOME-}" "$HOME/.config")/sereno
        generated_dir=${config_dir%/*}/systemd/user
        stamp_dir=$data_home/systemd/timers
        data_dir=$(xdg "${XDG_CACHE_HOME-}" "$HOME/.cache")/sereno
        state_dir=$HOME/.local/state/sereno
        command_path=$HOME/.local/bin/sereno
        share_dir=$data_home
    else
        kind=system scope=--system
        prefix=${prefix:-/opt/sereno}
        # systemd reads its units before it mounts anything but the root file system and /usr: not in /usr/local.
        unit_dir=/etc/systemd/system
        old_unit_dir=/usr/local/lib/systemd/system
        config_dir=/etc/sereno
        generated_dir=/etc/systemd/system
        stamp_dir=/var/lib/systemd/timers
        command_path=/usr/local/bin/sereno
        share_dir=/usr/local/share
        sysusers_conf=/usr/local/lib/sysusers.d/sereno.conf
        tmpfiles_conf=/usr/local/lib/tmpfiles.d/sereno.conf
        needrestart_conf=/etc/needrestart/conf.d/sereno.conf
        # systemd reads two directories of catalogues; the other one belongs to packages.
        catalog_dir=/usr/local/lib/systemd/catalog
    fi
    for path in "$prefix" "$root$prefix" "$unit_dir" "$generated_dir" "$command_path"; do check_path "$path"; done
    [ "${#prefix}" -le 120 ] || die "--prefix: longer than 120 characters: $prefix" \
        "The kernel reads no more than 255 of a script's first line."
    manifest=$prefix/manifest
    manager=running
    [ -d /run/systemd/system ] || manager=absent
    [ "$staged" = no ] || manager=staged
    # Without a manager, systemctl and `sereno apply` work on the files alone.
    offline=
    [ "$manager" = running ] || offline=--root=${root:-/}
    systemctl=${offline:-$scope}
}

# The XDG base directory specification: a relative path is to be ignored.
xdg() {
    case $1 in /*) say "$1" ;; *) say "$2" ;; esac
}

# Units, scripts and the manifest name these paths; outside this set each would need another way of quoting.
check_path() {
    case $1 in
        *[!A-Za-z0-9._/+-]*) die "this path has a character other than A-Z a-z 0-9 . _ / + -: $1" ;;
        */../* | */.. | */./* | */. | *//*) die "this path is not in its plain form: $1" ;;
        /*[!/]) ;;
        *) die "this path is not absolute, or ends with a slash: $1" ;;
    esac
}

# --- checks: nothing is touched, except that root gets the packages that are missing -------------------------------

check_rights() {
    uid=$(id -u)
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

check_commands() {
    missing=
    for name in cmp find flock grep mktemp sed sha256sum sort stat xargs \
        systemctl systemd-analyze systemd-sysusers systemd-tmpfiles; do
        command -v "$name" >/dev/null || missing="$missing $name"
    done
    [ -z "$missing" ] || die "commands are missing:$missing" "They are in findutils, diffutils, coreutils, sed, grep, util-linux, systemd."
    version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge "$systemd_min" ] || die "systemd $systemd_min or newer is needed; here is ${version:-an unknown one}"
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
    [ "$seen" = 'none is installed' ] || die "Python $python_min or newer is needed; $seen"
    python=''
}

missing_packages() {
    [ -n "$python" ] || { say python3 python3-venv python3-systemd; return; }
    [ -n "$(find_pip)" ] || say python3-venv
    # An image that is staged brings its own; report says so.
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
    find_python
    packages=$(missing_packages | tr '\n' ' ')
    if [ -n "$packages" ] && [ "$uid$staged" = 0no ] && command -v apt-get >/dev/null; then
        # shellcheck disable=SC2086  # package names, one word each
        install_packages $packages
        [ "$dry_run" = no ] || return 0
        find_python
        packages=$(missing_packages | tr '\n' ' ')
    fi
    [ -z "$packages" ] || die "Python packages of the distribution are missing for ${python:-python3}: $packages" \
        "Debian, Ubuntu: sudo apt-get install $packages" "Fedora: sudo dnf install python3 python3-systemd"
}

install_packages() {
    say "Installing $*"
    if [ "$dry_run" = yes ]; then say "would run: apt-get install $*"; return; fi
    export DEBIAN_FRONTEND=noninteractive
    set -- --yes --no-install-recommends install "$@"
    # Lists that are missing, or too old for the mirror: the same again with new ones.
    apt_get "$@" || { apt_get update && apt_get "$@"; } ||
        die "this failed: apt-get $*: $(cause)" "Mend the cause, or install the packages in another way, then run install.sh again."
}

# Fails as apt-get does, its words in $tmp/error. DPkg::Lock::Timeout= would not wait for the lock of the lists, which the
# first boot's `apt-get update` holds.
apt_get() {
    waited_s=0
    until apt-get --quiet "$@" >/dev/null 2>"$tmp/error" </dev/null; do
        grep -q 'Could not get lock' "$tmp/error" && [ "$waited_s" -lt "$patience_s" ] || return
        [ "$waited_s" -gt 0 ] ||
            say "apt is busy; waiting up to $((patience_s / 60)) minutes: $(sed -n 's/^E: \(Could not get lock .*\)/\1/p' "$tmp/error")"
        sleep 2
        waited_s=$((waited_s + 2))
    done
}

# Whoever can write to the prefix, or rename a directory above it, decides what runs: above a link as above its target.
check_owners() {
    writable=/022
    [ "$kind" = system ] || writable=/002 # a user's own group is often that user alone
    set --
    for path in "$root$prefix" "$(readlink -m -- "$root$prefix")"; do
        until [ "$path" = "$root" ] || [ -z "$path" ]; do set -- "$@" "$path" && path=${path%/*}; done
    done
    path=$({
        find "$@" -maxdepth 0 \( ! -uid 0 ! -uid "$uid" -o ! -type l -perm "$writable" ! -perm -1000 \) || :
        find "$root$prefix/" \( ! -uid 0 ! -uid "$uid" -o ! -type l -perm "$writable" \) || :
    } 2>/dev/null | sed -n 1p)
    [ -z "$path" ] || die "another user could change what runs here: $path is $(stat -c '%U:%G, mode %a' -- "$path")" \
        "Choose another --prefix; or, when all in it is as it should be: chown -h $(id -un) $path; chmod go-w $path"
}

check_mounts() {
    for path in "$unit_dir" "$generated_dir" "${command_path%/*}" "$share_dir" "$prefix"; do
        path=$root$path
        while [ -n "$path" ] && [ ! -e "$path" ]; do path=${path%/*}; done
        [ -w "${path:-/}" ] || die "${path:-/} cannot be written: its file system is read-only, or it is another's" \
            "For a file system: mount -o remount,rw $(stat -c %m -- "${path:-/}")"
    done
    # The last one is the prefix.
    "$python" -I -c 'import os, sys; sys.exit(os.statvfs(sys.argv[1]).f_flag & os.ST_NOEXEC)' "${path:-/}" ||
        die "${path:-/} is on a file system that is mounted noexec: no job could run from there" "Choose another --prefix."
}

# systemd-sysusers takes an account that is there for its own: jobs would run as that person.
check_accounts() {
    for name in sereno sereno-notify; do
        account=$(if [ "$staged" = yes ]; then grep -s "^$name:" "$root/etc/passwd"; else getent passwd "$name"; fi) || continue
        shell=${account##*/} number=${account#*:*:} number=${number%%:*}
        if [ "$number" -eq 0 ] || { [ "$number" -ge 1000 ] && [ "$shell" != nologin ] && [ "$shell" != false ]; }; then
            die "the account $name (uid $number) is a person's: jobs would run as that person" \
                "Rename it (usermod --login NEW $name; groupmod --new-name NEW $name), or: ./install.sh --user"
        fi
    done
}

# --- the release ---------------------------------------------------------------------------------------------------

choose_release() {
    # Without what interpreters, editors and tools leave there.
    find lib bin systemd \( -name '.*' -o -name __pycache__ -o -name '*.egg-info' \) -prune -o \
        -type f ! -name '*~' -print0 | sort -z >"$tmp/shipped"
    version=$(sed -n 's/^__version__ = "\([A-Za-z0-9.+-]*\)".*/\1/p' lib/sereno/__init__.py)
    hash=$({
        say "$prefix" "$python" "$python_version"
        xargs -0 -a "$tmp/shipped" sha256sum --
    } | sha256sum | cut -c 1-12)
    # A complete release is used again. One that has been changed since is left alone, and made anew beside.
    id=${version:-0}-$hash number=1
    while [ -e "$root$prefix/releases/$id/MANIFEST" ] &&
        ! (cd "$root$prefix/releases/$id" && sha256sum --check --quiet --strict MANIFEST >/dev/null 2>&1); do
        number=$((number + 1))
        id=${version:-0}-$hash.$number
    done
    release=$prefix/releases/$id
    tree=$root$release
}

stage() {
    if [ "$dry_run$state" = noinstalling ] && [ ! -L "$root$prefix/current" ]; then
        # Data of an earlier installation stay also if this one fails.
        undo=all purge=yes
        if [ -e "$root$data_dir" ] || [ -e "$root$state_dir" ] || is_our_user sereno; then purge=no; fi
    fi
    [ -d "$root$prefix" ] || run mkdir -p "$root$prefix"
    [ "$state" = upgrading ] || cmp -s "$tmp/new" "$tmp/old" || put "$tmp/both" "$manifest"
    for path in "$root$prefix"/releases/*; do
        # Left by a run that was killed: the MANIFEST is written last.
        if [ -d "$path" ] && [ ! -e "$path/MANIFEST" ]; then run rm -rf "$path"; fi
    done
    if [ -e "$tree/MANIFEST" ]; then
        # `prune` goes by their times: what comes into use again is not an old one.
        [ "$(readlink "$root$prefix/current" || :)" = "releases/$id" ] || run touch "$tree/MANIFEST"
        return 0
    fi
    fetch
    say "Staging $release"
    [ "$undo" = all ] || undo=release
    run mkdir -p "$tree"
    run xargs -0 -a "$tmp/shipped" cp --parents -t "$tree" --
    run chmod -R u=rwX,go=rX "$tree"
    run chmod -R a+x "$tree/bin"
    run find "$tree/bin" -type f -exec sed -i "1s|^#!.*python.*|#!$release/venv/bin/python3 -I|" {} +
    make_environment
    make_completions
    [ "$dry_run" = yes ] || (cd "$tree" && find . -type f ! -path '*/__pycache__/*' ! -name 'MANIFEST*' -print0 |
        sort -z | xargs -0 sha256sum --) >"$tmp/MANIFEST"
    [ "$staged" = yes ] || run sync -f "$tree"
    run cp "$tmp/MANIFEST" "$tree/MANIFEST.new"
    run mv -T "$tree/MANIFEST.new" "$tree/MANIFEST"
}

# The release's own environment holds the dependencies and no pip: that runs from its wheel.
make_environment() {
    run "$python" -I -m venv --system-site-packages --without-pip "$tree/venv"
    # Where the tree is staged, this line names a path that will not exist.
    run sed -i '/^command = /d' "$tree/venv/pyvenv.cfg"
    # --ignore-installed: what a package of the distribution has, it may take away again.
    run pip "$tree/venv/bin/python3" install --no-index --find-links "$tmp/wheels" --ignore-installed --no-compile
    # So do the scripts: those of activation, and those of the dependencies, which nobody starts.
    run find "$tree/venv/bin" -type f -delete
    run "$tree/venv/bin/python3" -I -m compileall -q -s "$root" -p / "$tree/lib" "$tree/venv/lib"
}

# Whatever comes from outside comes before anything is staged.
fetch() {
    if [ "$dry_run" = yes ]; then say "would fetch the packages of lib/requirements*.txt"; return; fi
    say "Fetching the packages of lib/requirements*.txt"
    isolate_pip
    set -- "$python" download --dest "$tmp/wheels"
    [ -z "$wheels" ] || set -- "$@" --no-index --find-links "$wheels"
    pip "$@" >"$tmp/error" 2>&1 || die \
        "the packages cannot be had: $(cause)$(sed -n "s/.*connection broken by '\(.*\)': .*/; \1/p" "$tmp/error" | tail -n 1)" \
        "$(sed -n 's/^# \(Wheels for .*\)\. To move.*/\1/p' lib/requirements.txt). Here: Python $python_version, $(uname -m)." \
        "By a mirror or proxy: index-url and proxy in pip.conf; PIP_INDEX_URL, HTTPS_PROXY." \
        "Without a network: ./install.sh --wheels DIR, which \`pip download -r\` of lib/requirements*.txt has filled elsewhere."
}

# From here on pip finds the settings of $pip_settings in the environment, and no others anywhere.
isolate_pip() {
    # These would choose what is listed; pip.conf may have them for other commands.
    env -u PIP_PYTHON PIP_QUIET=0 PIP_USER=0 PIP_GLOBAL=0 PIP_SITE=0 "$python" -I "$(find_pip)/pip" config list \
        >"$tmp/pip" 2>"$tmp/error" ||
        die "pip's settings cannot be read: $(cause)"
    for name in $(env | sed -n 's/^\(PIP_[A-Za-z_]*\)=.*/\1/p'); do unset "$name"; done
    # The later one holds. A value is quoted as in Python, and may have several lines.
    sed -n "s/^global\./1/; s/^install\./2/; s/^:env:\./3/; s/\\\\n/ /g; s/^\([123]\)\($pip_settings\)='\(.*\)'\$/\1PIP_\U\2\E=\3/p" "$tmp/pip" |
        sort | sed 's/^.//; :name; s/^\([A-Z_]*\)-/\1_/; t name' >"$tmp/settings"
    while [ -z "$wheels" ] && IFS= read -r setting; do export "${setting?}"; done <"$tmp/settings"
    export PIP_CONFIG_FILE=/dev/null
}

pip() { # pip PYTHON COMMAND OPTION...
    interpreter=$1
    shift
    "$interpreter" -I "$(find_pip)/pip" -q --no-input --disable-pip-version-check --no-cache-dir "$@" --no-deps \
        --require-hashes --only-binary :all: -r lib/requirements.txt -r lib/requirements-command.txt
}

make_completions() {
    run mkdir -p "$tree/share"
    [ "$dry_run" = no ] || return 0
    for shell in bash fish zsh; do
        "$tree/venv/bin/python3" -I "$tree/bin/sereno" completion "$shell" >"$tree/share/sereno.$shell" 2>"$tmp/error" ||
            die "the completion script of $shell could not be made: $(cause)"
    done
}

# The files that go outside the release, each at its path below DIRECTORY, with RELEASE in their text.
render() { # render DIRECTORY RELEASE
    mkdir -p "$1$unit_dir"
    for path in systemd/"$kind"/*; do sed "s|@RELEASE@|$2|g" "$path" >"$1$unit_dir/${path##*/}"; done
    [ "$kind" = system ] || return 0
    mkdir -p "$1${sysusers_conf%/*}" "$1${tmpfiles_conf%/*}" "$1${needrestart_conf%/*}" "$1$catalog_dir"
    cp systemd/*.catalog "$1$catalog_dir"
    cp systemd/sereno.sysusers "$1$sysusers_conf"
    cp systemd/sereno.tmpfiles "$1$tmpfiles_conf"
    cp systemd/needrestart.conf "$1$needrestart_conf"
}

# The template comes last: it names the release, so it is what switches the jobs over.
list_outside() {
    (cd "$tmp/outside" && find . -type f ! -name 'sereno@.service' -printf '/%P\n' | sort)
    say "$unit_dir/sereno@.service"
}

# systemd reads every unit as it will be, with the paths where the files are now, and finds nothing to say.
verify() {
    [ "$dry_run" = no ] || return 0
    render "$tmp/verify" "$tree"
    units=$tmp/verify$unit_dir
    "$tree/venv/bin/python3" -I "$tree/bin/sereno" render --to "$units" >/dev/null 2>"$tmp/error" ||
        die "the units of the shipped jobs could not be made: $(cause)"
    for path in "$units"/sereno@?*.timer; do
        instance=${path##*/sereno@} instance=${instance%.timer}.service
        for template in sereno sereno-failed; do
            ln -s "$template@.service" "$units/$template@$instance"
            set -- "$@" "$units/$template@$instance"
        done
        set -- "$@" "$path"
    done
    set -- "$@" "$units/sereno-notify.socket" "$units/sereno-notify.service"
    SYSTEMD_UNIT_PATH=$units: systemd-analyze verify --man=no --recursive-errors=no "$@" 2>"$tmp/verify.log" ||
        say failed >>"$tmp/verify.log"
    [ ! -s "$tmp/verify.log" ] || die "systemd does not accept the units; nothing was changed" "$(cat "$tmp/verify.log")"
}

# --- the manifest: what lies outside the releases ------------------------------------------------------------------
#
# First line `sereno installing|upgrading|installed ID`, then `dir - PATH`, `file SHA256 PATH`, `link TARGET PATH`. Before
# anything is switched (a first time: staged) it is written with the old lines and the new ones: whatever a kill leaves
# there is known as ours.

list_links() { # TARGET:PATH; `current` is what switches people's commands over
    say "releases/$id:$prefix/current"
    say "current/bin:$prefix/bin"
    say "current/lib:$prefix/lib"
    say "$prefix/bin/sereno:$command_path"
    # Where each shell, and man, looks for them by itself.
    say "$prefix/current/share/sereno.bash:$share_dir/bash-completion/completions/sereno"
    say "$prefix/current/share/sereno.fish:$share_dir/fish/vendor_completions.d/sereno.fish"
    for page in sereno.1 sereno-jobs.5 sereno-notify.5 sereno-cache.7 sereno-fields.7 sereno-sandbox.7 \
        sereno-security.7 sereno-troubleshooting.7; do
        say "$prefix/current/systemd/man/$page:$share_dir/man/man${page##*.}/$page"
    done
    [ "$kind" = user ] || say "$prefix/current/share/sereno.zsh:$share_dir/zsh/site-functions/_sereno"
}

wanted_dirs() {
    say "$unit_dir" "$generated_dir/timers.target.wants"
    for link in $(list_links); do
        link=${link#*:}
        case $link in "$prefix"/*) ;; *) say "${link%/*}" ;; esac
    done
    [ "$kind" = user ] || say "${sysusers_conf%/*}" "${tmpfiles_conf%/*}" "${needrestart_conf%/*}" "$catalog_dir" "${data_dir%/*}"
}

hash_of() { sha256sum <"$root$1" | cut -d ' ' -f 1; }

listed() { sed -n "s/^$1 //p" "$tmp/old" | sort -u; }

is_ours() { grep -qxF -- "$*" "$tmp/old"; }

make_manifests() {
    cat "$root$manifest" >"$tmp/old" 2>/dev/null || :
    was=$(sed -n '1s/^sereno \([a-z]*\) .*/\1/p' "$tmp/old")
    case $was in '' | installing) state=installing ;; *) state=upgrading ;; esac
    {
        say "dir - $prefix" "dir - $prefix/releases"
        listed 'dir -' | sed 's/^/dir - /'
        for path in $(wanted_dirs) "${prefix%/*}"; do
            while [ -n "$path" ] && [ ! -d "$root$path" ]; do
                say "dir - $path"
                path=${path%/*}
            done
        done
        for path in $(list_outside); do say "file $(sha256sum <"$tmp/outside$path" | cut -d ' ' -f 1) $path"; done
        list_links | sed 's/\(.*\):/link \1 /'
    } | sort -u >"$tmp/lines"
    { say "sereno installed $id"; cat "$tmp/lines"; } >"$tmp/new"
    { say "sereno $state $id"; sed 1d "$tmp/old" | sort -u - "$tmp/lines"; } >"$tmp/both"
}

check_foreign() {
    foreign=
    for path in $(list_outside); do
        [ -e "$root$path" ] || [ -L "$root$path" ] || continue
        cmp -s "$tmp/outside$path" "$root$path" || is_ours file "$(hash_of "$path")" "$path" || foreign="$foreign $root$path"
    done
    for link in $(list_links); do
        path=${link#*:}
        [ -e "$root$path" ] || [ -L "$root$path" ] || continue
        there=$(readlink "$root$path" || :)
        [ "$there" = "${link%%:*}" ] || is_ours link "$there" "$path" || foreign="$foreign $root$path"
    done
    [ -z "$foreign" ] || die "in the way, and not as sereno installed it:$foreign" "Nothing was changed. Move it away and run again." \
        "(A change of your own to a unit belongs in a drop-in: systemctl edit UNIT.)"
}

has_entry() { grep -qs "^$2:" "$root/etc/$1"; } # has_entry passwd|group NAME

# --- commit: the only part that changes what runs ------------------------------------------------------------------

commit() {
    [ "$undo" = all ] || undo=nothing
    units_changed=no catalog_changed=no
    if ! cmp -s "$tmp/new" "$tmp/old"; then
        put "$tmp/both" "$manifest"
        # Whatever a killed run did or did not get to tell systemd is told again.
        case $was in installing | upgrading) units_changed=yes catalog_changed=yes ;; esac
    fi
    for path in $(wanted_dirs); do [ -d "$root$path" ] || run mkdir -p "$root$path"; done
    for path in $(list_outside); do put "$tmp/outside$path" "$path"; done
    [ "$kind" = user ] || make_user_and_cache
    for link in $(list_links); do put_link "${link%%:*}" "${link#*:}"; done
    remove_old_files
    [ "$catalog_changed" = no ] || update_catalog
    enable_timers
    put "$tmp/new" "$manifest"
    undo=nothing
}

put() { # put SOURCE PATH
    ! cmp -s "$1" "$root$2" || return 0
    case $2 in
        "$unit_dir"/*) units_changed=yes ;;
        *.catalog) catalog_changed=yes ;;
    esac
    run cp "$1" "$root$2.new"
    run mv -T "$root$2.new" "$root$2"
}

put_link() { # put_link TARGET PATH
    [ "$(readlink "$root$2" || :)" != "$1" ] || return 0
    run ln -sfn "$1" "$root$2.new"
    run mv -T "$root$2.new" "$root$2"
}

# In an image staged without root they are made by the image's own systemd; report says so.
make_user_and_cache() {
    [ "$uid" -eq 0 ] || return 0
    if ! has_entry group sereno || ! has_entry passwd sereno || ! has_entry passwd sereno-notify; then
        run systemd-sysusers --root="${root:-/}" sereno.conf
    fi
    [ "$(stat -c %a "$root$data_dir/metadata" 2>/dev/null || :)" = 2770 ] ||
        run systemd-tmpfiles --root="${root:-/}" --create sereno.conf
}

# For `journalctl -x`. Another's malformed file makes it fail, and is no reason for us to.
update_catalog() {
    [ "$kind$staged" = systemno ] || return 0
    if [ "$dry_run" = yes ]; then say "would run: journalctl --update-catalog"; return; fi
    journalctl --update-catalog >"$tmp/catalog.log" 2>&1 ||
        say "journalctl --update-catalog failed, so that journalctl -x may not explain what it should:" "$(cat "$tmp/catalog.log")"
}

# Units of the version before that this one no longer has.
remove_old_files() {
    for path in $(listed 'file [^ ]*'); do
        ! grep -q "^file [^ ]* $path\$" "$tmp/new" || continue
        remove_file "$path"
        units_changed=yes
    done
}

# Stopping or disabling sereno.target is the administrator's switch: an upgrade leaves it as it is.
enable_timers() {
    enabled=$generated_dir/timers.target.wants/sereno.target
    [ "$(readlink "$root$enabled" || :)" != "$old_unit_dir/sereno.target" ] || put_link "$unit_dir/sereno.target" "$enabled"
    if [ "$manager" = running ] && [ "$units_changed" = yes ]; then run systemctl "$systemctl" daemon-reload; fi
    if [ "$state" = installing ]; then
        is_target enabled || run systemctl "$systemctl" --no-reload enable sereno.target
        [ "$start$manager" != yesrunning ] || is_target active || run systemctl "$systemctl" start sereno.target
    fi
    set -- "$tree/venv/bin/python3" -I "$tree/bin/sereno" apply --prune --no-diff "$scope" ${offline:+"$offline"}
    [ "$start" = yes ] || set -- "$@" --no-start
    if [ "$dry_run" = yes ]; then say "would run: $*"; return; fi
    "$@" >"$tmp/applied" 2>"$tmp/error" || die "the timers could not be made: $(cause)" "Mend the cause, then run install.sh again."
    cat "$tmp/error" >&2
    grep -qx 'nothing to do' "$tmp/applied" || { cat "$tmp/applied"; changed=yes; }
}

is_target() { systemctl "$systemctl" "is-$1" --quiet sereno.target 2>/dev/null; }

# The version before stays, for runs that began with it and for going back; older ones go when nothing uses them.
prune() {
    kept=0
    for path in $(cd "$root$prefix/releases" 2>/dev/null && ls -t -- */MANIFEST 2>/dev/null); do
        path=${path%/MANIFEST}
        [ "$path" != "$id" ] || continue
        kept=$((kept + 1))
        [ "$kept" -gt 1 ] || continue
        is_in_use "$prefix/releases/$path" || run rm -rf "$root$prefix/releases/$path"
    done
}

is_in_use() {
    # By a file and not as an argument, or grep would find its own command line.
    say "$1/" >"$tmp/in-use"
    [ "$manager" != staged ] && grep -qsFf "$tmp/in-use" /proc/[0-9]*/cmdline /proc/[0-9]*/maps
}

# --- what there is now ---------------------------------------------------------------------------------------------

report() {
    if [ "$dry_run" = yes ]; then
        [ "$changed" = yes ] || say "Nothing would be changed: $id is installed."
        return 0
    fi
    if [ "$changed" = yes ]; then say "Installed: sereno $id in $prefix"; else say "Nothing changed: sereno $id is installed in $prefix"; fi
    case $manager in
        staged) report_staged ;;
        absent) report_absent ;;
        running) report_running ;;
    esac
}

report_staged() {
    say "Staged in ${root:-/}; the timers start when that system boots."
    [ -e "$root/usr/lib/python3/dist-packages/systemd/journal.py" ] || say "The image needs the package python3-systemd."
    say "For journalctl -x, run in the image: journalctl --update-catalog"
    [ "$uid" -eq 0 ] || say "Made without root: in the image run systemd-sysusers, then systemd-tmpfiles --create."
}

report_absent() {
    say "systemd is not process 1 here: everything is installed and enabled, no timer runs until it is."
    if [ "$start$changed" = yesyes ]; then
        say "One run of $job, directly:"
        setpriv --reuid=sereno --regid=sereno --clear-groups --reset-env "$release/bin/$job" || die "$job failed"
    fi
    say "Next: $command_path list"
}

report_running() {
    if [ "$start$changed" = yesyes ]; then
        say "One run of $job:"
        "$release/bin/sereno" run --wait "$scope" "$job" 2>"$tmp/run" || { cat "$tmp/run" >&2; die "$job failed" "sereno logs $job"; }
    fi
    # The job's own records: from systemd 257 those of the manager about it have the field SERENO_JOB as well.
    journalctl -q --no-pager -o cat -n 2 "SERENO_JOB=$job" "SYSLOG_IDENTIFIER=$job" || :
    systemctl "$systemctl" --no-pager list-timers 'sereno@*'
    say "LAST of an interval that has not elapsed yet is the moment that it counts from."
    is_target active || say "sereno.target is stopped, no timer elapses. To start: systemctl $systemctl start sereno.target"
    is_target enabled || say "sereno.target is disabled. To start it at boot: systemctl $systemctl enable sereno.target"
    if [ "$kind" = user ] && [ ! -e "/var/lib/systemd/linger/$(id -un)" ]; then
        say "Your timers stop when you log out. To keep them: loginctl enable-linger"
    fi
    say "Next: $command_path list; journalctl SERENO_JOB=$job; when something is wrong: man sereno-troubleshooting"
}

# --- uninstall -----------------------------------------------------------------------------------------------------

# As run, but what fails is remembered and the rest still done.
try() {
    changed=yes
    if [ "$dry_run" = yes ]; then say "would run: $*"; else "$@" 2>"$tmp/error" || failed="$failed; $*: $(cause)"; fi
}

remove_file() { # remove_file PATH: only as we wrote it
    [ ! -e "$root$1.new" ] || try rm -f "$root$1.new"
    [ -e "$root$1" ] || return 0
    if is_ours file "$(hash_of "$1")" "$1"; then try rm -f "$root$1"; else kept_files="$kept_files $root$1"; fi
}

uninstall() {
    kept_files='' failed='' metrics_dir=''
    [ ! -e "$root$manifest" ] || cat "$root$manifest" >"$tmp/old"
    if [ ! -s "$tmp/old" ]; then
        say "Nothing is installed in $root$prefix: there is no $manifest."
        # The very last step of an uninstall that was killed, or the first ones of an install.
        [ ! -e "$root$manifest.new" ] || try rm -f "$root$manifest.new"
        [ ! -d "$root$prefix" ] || try rmdir --ignore-fail-on-non-empty "$root$prefix"
    else
        stop_and_remove_timers
        for path in $(listed 'file [^ ]*'); do remove_file "$path"; done
        remove_links_and_releases
        update_catalog
        if [ "$manager" = running ]; then
            try systemctl "$systemctl" daemon-reload
            try systemctl "$systemctl" reset-failed 'sereno@*' 'sereno-failed@*' 'sereno-notify.*'
            [ "$kind" = user ] || [ ! -d /run/sereno ] || try rmdir --ignore-fail-on-non-empty /run/sereno
        fi
    fi
    if [ "$purge" = yes ]; then remove_data; else say_what_stays; fi
    [ ! -s "$tmp/old" ] || remove_dirs
    [ -z "$kept_files" ] || say "Kept, because it was changed since it was installed:$kept_files"
    set -- "$root$config_dir" "$root$generated_dir"/sereno* "$root$generated_dir.control"/sereno*
    yours=$(find "$@" ! -type d -printf ' %p' 2>/dev/null || :)
    [ -z "$yours" ] || say "Kept, because it is yours:$yours"
    [ -z "$failed" ] || die "only partly uninstalled; this failed: ${failed#; }" "Mend the cause, then run install.sh --uninstall again."
}

stop_and_remove_timers() {
    # What the cleanup leaves in a directory that the administrator chose.
    [ "$purge$manager" != yesrunning ] || metrics_dir=$(systemctl "$systemctl" show -P Environment "sereno@$job.service" |
        tr ' ' '\n' | sed -n 's|^SERENO_TEXTFILE_DIR=/|/|p')
    code=
    for path in "$root$prefix"/releases/* "$root$prefix/current"; do [ ! -e "$path/MANIFEST" ] || code=$path; done
    if [ -x "$code/venv/bin/python3" ]; then
        try "$code/venv/bin/python3" -I "$code/bin/sereno" remove --all "$scope" ${offline:+"$offline"}
    else
        find_python
        try "$python" -I -B bin/sereno remove --all "$scope" ${offline:+"$offline"}
    fi
    [ "$manager" != running ] || try systemctl "$systemctl" stop 'sereno@*' 'sereno-app@*' 'sereno.*' 'sereno-seed.*' \
        'sereno-failed@*' 'sereno-notify.*'
    [ ! -e "$root$unit_dir/sereno.target" ] || try systemctl "$systemctl" --no-reload disable sereno.target
    # Links and drop-ins whose timer was gone already, so that nobody but their names says whose they are.
    cd "$root$generated_dir" 2>/dev/null || return 0
    try find . -maxdepth 2 -type l \( -path ./timers.target.wants/sereno.target -o -path './sereno.target.wants/sereno-app@*' -o \
        -path './sereno-app@*.wants/sereno@*.timer' \) -delete
    for path in $(grep -lsx '\[X-Sereno\]' ./sereno@*.service.d/50-sereno.conf || :); do try rm -f "$path"; done
    try find . -maxdepth 1 -type d -name 'sereno*[sd]' -empty -delete
    cd "$here"
}

remove_links_and_releases() {
    for link in $(listed link | tr ' ' :); do
        path=${link#*:}
        [ "$(readlink "$root$path" || :)" != "${link%%:*}" ] || try rm -f "$root$path"
        [ ! -L "$root$path.new" ] || try rm -f "$root$path.new"
    done
    try rm -rf "$root$prefix/releases"
}

say_what_stays() {
    stays=
    [ ! -e "$root$data_dir" ] || stays=", the cache in $root$data_dir"
    [ ! -e "$root$state_dir" ] || stays="$stays, the messages' state in $root$state_dir"
    ! is_our_user sereno || stays="$stays, the users and groups sereno and sereno-notify"
    [ -z "$stays" ] || say "Kept: ${stays#, } (--uninstall --purge removes them)"
}

remove_data() {
    [ ! -e "$root$data_dir" ] || try rm -rf "$root$data_dir"
    for path in "$root$stamp_dir"/stamp-sereno@*.timer; do [ ! -e "$path" ] || try rm -f "$path"; done
    [ ! -e "$root$state_dir" ] || try rm -rf "$root$state_dir"
    [ -z "$metrics_dir" ] || try find "$metrics_dir" -maxdepth 1 -name 'sereno_cache_*.prom' -delete
    for name in sereno sereno-notify; do
        is_our_user "$name" || continue
        set -- "$name"
        [ -z "$root" ] || set -- --prefix "$root" "$name"
        try userdel "$@"
        # userdel takes the group of the same name along, unless it has members.
        ! has_entry group "$name" || try groupdel "$@"
    done
}

# An account that was there before us is not ours to remove; systemd-sysusers gave ours this name.
is_our_user() { # is_our_user NAME
    [ "$kind" = system ] && grep -qs "^$1:.*:\(Periodic jobs\|Messages\) of sereno:" "$root/etc/passwd"
}

# The manifest goes when all that it lists is gone, so that an uninstall that was killed or failed can be finished.
remove_dirs() {
    for path in $(listed 'dir -' | sort -r); do
        [ "$path" != "$prefix" ] || [ -n "$failed" ] || try rm -f "$root$manifest" "$root$manifest.new"
        [ ! -d "$root$path" ] || try rmdir --ignore-fail-on-non-empty "$root$path"
    done
}

# --- the whole -----------------------------------------------------------------------------------------------------

# At the end, whatever it is. What a first install made goes again; of an upgrade, a release that nothing refers to.
finish() {
    status=$?
    trap '' HUP INT TERM
    [ "$status" -eq 0 ] || [ "$told" = yes ] || say "install.sh: it ended before it was done" >&2
    case $status:$undo in
        0:*) ;;
        *:release) rm -rf "$tree" ;;
        *:all)
            say "What this run made is removed again."
            cat "$tmp/both" >"$tmp/old"
            (uninstall >/dev/null) || say "  When the cause is mended: ./install.sh --uninstall --purge" >&2
            ;;
    esac
    rm -rf "$tmp"
    exit "$status"
}

# One install.sh at a time, whatever its prefix; the lock is on a directory that is always there, and leaves no file.
lock() {
    place=${root:-/}
    [ "$kind" = system ] || place=$HOME
    [ -d "$place" ] || [ "$uninstall" = yes ] || run mkdir -p "$place"
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
    export LC_ALL=C.UTF-8 PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
    export HOME="${HOME:-$(getent passwd "$(id -u)" | cut -d : -f 6)}"
    parse_arguments "$@"
    choose_paths
    check_rights
    check_commands
    cd "$here"
    tmp=$(mktemp -d 2>/dev/null) || die "no temporary directory can be made in ${TMPDIR:-/tmp}" "TMPDIR=DIR ./install.sh"
    trap finish EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    : >"$tmp/old"
    check_owners
    if [ "$uninstall" = yes ]; then
        lock
        uninstall
        return
    fi
    check_packages
    [ "$dry_run" = yes ] || check_mounts
    [ "$kind" = user ] || check_accounts
    lock
    choose_release
    render "$tmp/outside" "$release"
    make_manifests
    check_foreign
    stage
    verify
    commit
    prune
    exec 9<&-
    report
}

main "$@"
