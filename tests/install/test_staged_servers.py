"""install.sh where a server is not as one would have it: said in a line with the way out, before anything is made."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from staged_system import RELEASES, Image

pytestmark = pytest.mark.staged
CALLER_ID = os.geteuid()
needs_root = pytest.mark.skipif(CALLER_ID != 0, reason="needs root, to give files away or mount")


def mount_tmpfs(place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)


def unmount(place: Path) -> None:
    subprocess.run(["umount", str(place)], check=True)


def assert_refused(done: subprocess.CompletedProcess[str], complaint: str) -> None:
    """One line that says what, at least one with the way out, and nothing that a tool said."""
    assert done.returncode == 1, done.stdout + done.stderr
    first, *ways_out = done.stderr.splitlines()
    assert first.startswith("install.sh: ")
    assert complaint in first
    assert ways_out
    assert all(line.startswith("  ") for line in ways_out), done.stderr


@pytest.mark.parametrize("words", ["sh -s", 'sh -c "$(cat)"', "sh /dev/fd/0"])
def test_without_its_checkout_it_says_that_it_needs_it(
    checkout: Path, tmp_path: Path, words: str
) -> None:
    script = (checkout / "install.sh").read_text()
    done = subprocess.run(
        words, shell=True, input=script, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert_refused(done, "not a checkout of sereno: ")
    (tmp_path / "install.sh").write_text(script)
    done = subprocess.run(
        ["sh", "install.sh"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert_refused(done, f"not a checkout of sereno: {tmp_path}")


def test_called_by_a_link_from_elsewhere_it_finds_its_checkout(
    empty: Image, checkout: Path, tmp_path: Path
) -> None:
    (tmp_path / "a link").symlink_to(checkout / "install.sh")
    words = ["sh", str(tmp_path / "a link"), "--root", str(empty.root), "--dry-run"]
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, check=True)
    assert "would stage " in done.stdout


def test_a_temporary_directory_that_is_not_there_is_named(empty: Image, checkout: Path) -> None:
    done = empty.install(checkout, env={"TMPDIR": "/no/such"}, check=False)
    assert_refused(done, "no temporary directory can be made in /no/such")
    assert not empty.root.exists()


def test_the_environment_of_the_caller_changes_nothing(
    empty: Image, installed_once: Image, checkout: Path, tmp_path: Path
) -> None:
    """Nor do a blank in the path to the checkout, a /tmp that is mounted noexec, and a pip.conf for other places."""
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "python").mkdir()
    (tmp_path / "python/sitecustomize.py").write_text("raise SystemExit('not to be loaded')\n")
    settings = (
        f"[global]\nuser = true\ntarget = {elsewhere}\nquiet = 3\n[install]\nprefix = {elsewhere}\n"
    )
    (tmp_path / "pip.conf").write_text(settings)
    env = {
        "CDPATH": "/usr",
        "HOME": "",
        "LANG": "tr_TR.ISO-8859-9",
        "LC_ALL": "tr_TR.ISO-8859-9",
        "LD_LIBRARY_PATH": str(tmp_path),
        "LD_PRELOAD": "/no/such.so",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_NO_BINARY": ":all:",
        "PIP_PYTHON": "/no/such",
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PIP_TARGET": str(elsewhere),
        "PIP_USER": "1",
        "POSIXLY_CORRECT": "1",
        "PYTHONHOME": "/no/such",
        "PYTHONPATH": str(tmp_path / "python"),
        "SYSTEMD_LOG_LEVEL": "debug",
        "SYSTEMD_UNIT_PATH": "/no/such",
    }
    spaced = shutil.copytree(checkout, tmp_path / "my checkout")
    empty.root.mkdir()
    shutil.copytree(installed_once.root / "etc", empty.root / "etc", ignore=only_accounts)
    for account in ("passwd", "group", "shadow", "gshadow"):
        path = empty.root / "etc" / account
        path.write_text(re.sub(r"^sereno.*\n", "", path.read_text(), flags=re.MULTILINE))
    (empty.scratch / "tmp").mkdir(parents=True)
    if CALLER_ID == 0:
        mount_tmpfs(empty.scratch / "tmp", "noexec")
    try:
        empty.install(spaced, env=env, umask=0o077)
    finally:
        if CALLER_ID == 0:
            unmount(empty.scratch / "tmp")
    assert not elsewhere.exists()
    found, expected = (
        {path: kind.split()[0] for path, kind in image.listing(code=False).items()}
        for image in (empty, installed_once)
    )
    assert found == expected


def only_accounts(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("systemd", "needrestart") or name.endswith("-")]


@needs_root
@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        ("install -d -o 1000 opt/sereno", "{root}/opt/sereno is "),
        ("install -d -o 1000 opt && install -d opt/sereno", "{root}/opt is "),
        ("install -d -m 777 opt", "{root}/opt is "),
        ("install -d -g 1000 -m 775 opt", "{root}/opt is "),
        ("mkdir -p srv opt; install -d -o 1000 srv/hers; ln -s ../srv/hers opt/sereno", "srv/hers"),
        ("mkdir -p srv opt; ln -s /srv opt/sereno; chown -h 1000 opt/sereno", "opt/sereno is "),
        ("install -d -m 777 -o 1000 opt/sereno/releases/0.1.0-planted; chown 0 opt/sereno", "planted"),
        ("mkdir -p opt/sereno/releases; touch opt/sereno/x; chown 1000 opt/sereno/x", "sereno/x is "),
    ],
)  # fmt: skip
def test_a_prefix_that_another_user_could_change_is_refused(
    empty: Image, checkout: Path, make: str, complaint: str
) -> None:
    empty.root.mkdir()
    subprocess.run(["sh", "-ec", make], cwd=empty.root, check=True)
    before = empty.listing()
    done = empty.install(checkout, check=False)
    assert_refused(done, "another user could change what runs here: ")
    assert complaint.format(root=empty.root) in done.stderr
    assert empty.listing() == before


@needs_root
def test_an_uninstall_obeys_no_manifest_that_another_user_may_have_written(
    empty: Image, checkout: Path
) -> None:
    victim = empty.root / "etc/victim"
    victim.parent.mkdir(parents=True)
    victim.write_text("")
    prefix = empty.root / "opt/sereno"
    prefix.mkdir(parents=True)
    digest = hashlib.sha256(b"").hexdigest()
    (prefix / "manifest").write_text(f"sereno installed 1\nfile {digest} /etc/victim\n")
    os.chown(prefix, 1000, 1000)
    done = empty.install(checkout, "--uninstall", check=False)
    assert_refused(done, "another user could change what runs here: ")
    assert victim.exists()


@needs_root
def test_a_prefix_below_a_directory_with_the_sticky_bit_is_as_good_as_another(
    empty: Image, checkout: Path
) -> None:
    (empty.root / "opt").mkdir(parents=True)
    (empty.root / "opt").chmod(0o1777)
    empty.install(checkout, "--dry-run")


@needs_root
@pytest.mark.parametrize(
    ("options", "at", "complaint"),
    [
        ("noexec", "opt", "is mounted noexec: "),
        ("ro", "opt", "cannot be written: "),
        ("ro", "usr", "cannot be written: "),
    ],
)
def test_a_mount_that_will_not_do_is_named(
    empty: Image, checkout: Path, options: str, at: str, complaint: str
) -> None:
    place = empty.root / at
    place.mkdir(parents=True)
    mount_tmpfs(place, options)
    try:
        done = empty.install(checkout, check=False)
    finally:
        unmount(place)
    assert_refused(done, f"{place} ")
    assert complaint in done.stderr
    assert list(empty.listing()) == [at]


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("sereno:x:1000:1000:Serena Reno:/home/sereno:/bin/bash", True),
        ("sereno:x:1000:1000:Serena Reno:/home/sereno:", True),
        ("sereno-notify:x:1001:1001::/home/n:/bin/zsh", True),
        ("sereno:x:0:0::/root:/usr/sbin/nologin", True),
        ("sereno:x:1000:1000::/nonexistent:/usr/sbin/nologin", False),
        ("sereno:x:998:998:made beforehand:/:/bin/sh", False),
        ("serenoa:x:1000:1000::/home/s:/bin/bash", False),
    ],
)
def test_the_account_of_a_person_is_not_taken_for_that_of_the_jobs(
    empty: Image, checkout: Path, line: str, refused: bool
) -> None:
    (empty.root / "etc").mkdir(parents=True)
    (empty.root / "etc/passwd").write_text(f"root:x:0:0:root:/root:/bin/bash\n{line}\n")
    done = empty.install(checkout, "--dry-run", check=not refused)
    if refused:
        assert_refused(done, f"the account {line.partition(':')[0]} (uid ")
        assert "usermod --login" in done.stderr


def test_two_at_once_come_one_after_the_other_and_the_second_says_so(
    installed: Image, checkout: Path, tmp_path: Path
) -> None:
    words = ["sh", str(checkout / "install.sh"), "--root", str(installed.root)]
    with (tmp_path / "said").open("w") as said:
        holder = subprocess.Popen(["flock", str(installed.root), "cat"], stdin=subprocess.PIPE)
        while subprocess.run(["flock", "-n", str(installed.root), "true"]).returncode == 0:
            time.sleep(0.05)
        second = subprocess.Popen(words, stdout=said, stderr=said)
        try:
            deadline = time.monotonic() + 60
            while "Another install.sh is at work" not in (tmp_path / "said").read_text():
                assert time.monotonic() < deadline
                assert second.poll() is None
                time.sleep(0.05)
        finally:
            assert holder.stdin
            holder.stdin.close()
            holder.wait(10)
        assert second.wait(120) == 0
    assert (tmp_path / "said").read_text().endswith("\nunchanged\n")


def test_whoever_waits_too_long_for_another_is_told(
    installed: Image, checkout: Path, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/flock").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin/flock").chmod(0o755)
    done = installed.install(checkout, path=str(tmp_path / "bin"), check=False)
    assert_refused(done, "another install.sh is still at work")
    assert "waiting up to 10 minutes" in done.stdout


def test_the_version_that_was_in_use_stays_whatever_order_they_came_in(
    installed: Image, checkout: Path, newer_checkout: Path, tmp_path: Path
) -> None:
    """A, B, A again, then C: A is what was in use, B the oldest in use."""
    first = installed.current()
    third = shutil.copytree(newer_checkout, tmp_path / "third")
    package = third / "lib/sereno/__init__.py"
    package.write_text(package.read_text().replace("99.0", "99.1"))
    for source in (newer_checkout, checkout, third):
        installed.install(source)
    kept = {path.name for path in (installed.root / RELEASES).iterdir()}
    assert kept == {installed.current(), first}
    assert installed.current().startswith("99.1-")


def test_purge_lists_what_is_the_administrators_and_leaves_it(
    installed: Image, checkout: Path
) -> None:
    his = [
        "etc/sereno/notify.toml",
        "etc/systemd/system/sereno@.service.d/metrics.conf",
        "etc/systemd/system/sereno@cache_cleanup_hourly.service.d/alerts.conf",
        "etc/systemd/system.control/sereno.slice.d/50-MemoryMax.conf",
    ]
    for path in his:
        (installed.root / path).parent.mkdir(parents=True, exist_ok=True)
        (installed.root / path).write_text("")
    done = installed.install(checkout, "--uninstall", "--purge")
    (line,) = [
        line for line in done.stdout.splitlines() if line.startswith("Kept, because it is yours:")
    ]
    assert {str(installed.root / path) for path in his} == set(line.split()[5:])
    left = [path for path in installed.listing() if "sereno" in path and path not in his]
    assert {*left} == {str(Path(path).parent) for path in his if "sereno" in str(Path(path).parent)}


def test_needrestart_is_told_to_leave_runs_alone(installed_once: Image) -> None:
    if not shutil.which("perl"):
        pytest.skip("no perl, which needrestart reads its configuration with")
    script = (
        "our %nrconf = (override_rc => {qr(^dbus) => 0}); do shift; die $@ if $@; my $rules = $nrconf{override_rc};"
        "for my $unit (@ARGV) { print join(',', map { $rules->{$_} } grep { $unit =~ /$_/ } keys %$rules), \"\\n\" }"
    )
    file = installed_once.root / "etc/needrestart/conf.d/sereno.conf"
    units = "sereno@a_b.service sereno-failed.service sereno-notify.service dbus.service serenity.service".split()
    done = subprocess.run(
        ["perl", "-we", script, str(file), *units], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["0", "0", "0", "0", ""]
