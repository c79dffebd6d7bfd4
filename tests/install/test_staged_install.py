"""What install.sh does to a system image, and what it refuses to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from staged_system import RELEASES, TARGET_LINK, TEMPLATE, TIMER, Image

from pseudo_terminal import PseudoTerminal

pytestmark = pytest.mark.staged
GOLDEN = Path(__file__).with_name("golden") / "tree.txt"
# Made by systemd-tmpfiles, which needs root.
NEEDS_ROOT = re.compile(r" (home|var/cache/sereno.*)$")


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.splitlines()[-1]


def listing_for_people(image: Image) -> str:
    """One line a path, without what varies with the version of sereno, of Python and of the dependencies."""
    lines = []
    for path, kind in sorted(image.listing(code=False).items()):
        if "/lib/sereno/" in path or "/site-packages/" in path or "__pycache__" in path:
            continue
        line = re.sub(r"(-> \S+)? ?[0-9a-f]{64}$", "", kind).strip() + " " + path
        line = line.replace(image.current(), "@ID@").replace("python3.11", "python3.X")
        line = re.sub(r"environments/[0-9a-f]{12}", "environments/@ENVIRONMENT@", line)
        if os.geteuid() == 0 or not NEEDS_ROOT.search(line):
            lines.append(re.sub(r"python3\.\d+", "python3.X", line))
    return "\n".join(lines) + "\n"


def test_the_staged_tree_is_the_golden_listing(installed_once: Image) -> None:
    found = listing_for_people(installed_once)
    if os.environ.get("SERENO_TEST_GOLDEN") == "write":
        GOLDEN.write_text(found)
    golden = GOLDEN.read_text()
    if os.geteuid() != 0:
        golden = "".join(
            line
            for line in golden.splitlines(keepends=True)
            if not NEEDS_ROOT.search(line.rstrip())
        )
    assert found == golden


def test_no_file_of_a_staged_tree_names_the_directory_it_was_staged_in(
    installed_once: Image,
) -> None:
    found = subprocess.run(
        ["grep", "-rlF", str(installed_once.root), str(installed_once.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.stdout, found.returncode) == ("", 1)


def test_every_program_and_unit_names_the_release_that_is_current(installed_once: Image) -> None:
    release = f"/{RELEASES}/{installed_once.current()}"
    assert f"ExecStart={release}/bin/%i\n" in installed_once.read(TEMPLATE)
    for script in (installed_once.root / release[1:] / "bin").iterdir():
        assert script.read_text().startswith(f"#!{release}/venv/bin/python3 -I\n")
        assert script.stat().st_mode & 0o777 == 0o755


def test_a_second_install_changes_nothing_and_says_so(installed: Image, checkout: Path) -> None:
    before = installed.listing()
    done = installed.install(checkout, stop_at=0)
    assert last_line(done) == "unchanged"
    assert installed.calls == []
    assert installed.listing() == before
    assert installed.install(checkout, "--dry-run").stdout == "unchanged\n"


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_removed_installation_comes_back_under_every_shell(
    installed: Image, checkout: Path, shell: str
) -> None:
    before = installed.listing(code=False)
    (installed.root / TEMPLATE).unlink()
    (installed.root / "opt/sereno/current").unlink()
    (installed.root / "opt/sereno/manifest").unlink()
    (installed.root / TARGET_LINK).unlink()
    installed.install(checkout, shell=shell)
    after = installed.listing(code=False)
    # Which directories were there before it cannot know any more.
    assert {path for path in before if before[path] != after.get(path)} <= {"opt/sereno/manifest"}
    installed.install(checkout, "--uninstall", shell=shell)
    assert not (installed.root / "opt/sereno").exists()


def test_a_dry_run_prints_every_change_and_makes_none(
    installed: Image, empty: Image, newer_checkout: Path, checkout: Path, tmp_path: Path
) -> None:
    first = Image(tmp_path / "nothing", empty.scratch).install(checkout, "--dry-run")
    assert last_line(first) == "changed"
    assert not (tmp_path / "nothing").exists()
    assert f"{tmp_path}/nothing/{TEMPLATE}" in first.stdout
    before = installed.listing()
    upgrade = installed.install(newer_checkout, "--dry-run", stop_at=0)
    assert f"{installed.root}/{TEMPLATE}" in upgrade.stdout
    removal = installed.install(newer_checkout, "--uninstall", "--purge", "--dry-run")
    assert f"would remove {installed.root}/{TEMPLATE}" in removal.stdout
    assert (last_line(upgrade), last_line(removal)) == ("changed", "changed")
    assert installed.listing() == before


def test_a_dry_run_tells_of_a_timer_that_is_gone(installed: Image, checkout: Path) -> None:
    (installed.root / TIMER).unlink()
    dry = installed.install(checkout, "--dry-run")
    assert "would create sereno@cache_cleanup_hourly.timer" in dry.stdout
    assert last_line(dry) == "changed"
    assert not (installed.root / TIMER).exists()
    assert last_line(installed.install(checkout)) == "changed"
    assert last_line(installed.install(checkout, "--dry-run")) == "unchanged"


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_on_a_terminal_the_seconds_of_what_takes_long_are_counted(
    installed: Image, newer_checkout: Path, shell: str, tmp_path: Path
) -> None:
    slow = tmp_path / "slow/mkdir"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\nPATH=${PATH#*:}\nsleep 2.5\nexec mkdir "$@"\n')
    slow.chmod(0o755)
    words = [shell, str(newer_checkout / "install.sh"), "--root", str(installed.root)]
    environ = {"PATH": f"{slow.parent}:{os.environ['PATH']}", "TERM": "xterm"}
    with PseudoTerminal(words, environ, columns=160) as shown:
        assert shown.ended(deadline_s=120) == 0
        # What is said in between does not stop it.
        assert re.search(rb"\b1s\r.*\b2s\r", shown.sent, re.DOTALL)
        assert shown.shown()[-1] == "changed"
        assert not re.search(r"Terminated|^\d+s$", "\n".join(shown.shown()), re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--frobnicate"], "unknown argument: --frobnicate"),
        (["here"], "unknown argument: here"),
        (["--prefix"], "--prefix needs a directory"),
        (["--wheels="], "--wheels needs a directory"),
        (["--wheels", "/no/such"], "--wheels: /no/such is not a directory"),
        (["--purge"], "--purge goes with --uninstall"),
        (["--user"], "--user and --root"),
    ],
)
def test_a_wrong_option_ends_with_status_2_and_the_usage(
    empty: Image, checkout: Path, arguments: list[str], complaint: str
) -> None:
    empty.wheels = None
    done = empty.install(checkout, *arguments, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[0]
    assert "usage: install.sh" in done.stderr
    assert done.stdout == ""
    assert not empty.root.exists()


def test_help_names_every_option(empty: Image, checkout: Path) -> None:
    text = empty.install(checkout, "--help").stdout
    script = (checkout / "install.sh").read_text()
    handled = set(re.findall(r"^            (--[a-z-]+)\)", script, re.MULTILINE))
    assert {"--user", "--dry-run", "--uninstall", "--purge", "--no-start"} <= handled
    for option in {*handled, "--prefix", "--root", "--wheels"}:
        assert f"\n  {option} " in text


@pytest.mark.parametrize(
    "prefix",
    [
        "/opt/with space",
        "/opt/%i",
        "/opt/a$b",
        "/opt/a;b",
        "opt/sereno",
        "/",
        "/opt/../sereno",
        "/opt/",
        "/opt/" + "x" * 120,
    ],
)
def test_a_prefix_that_units_could_not_name_plainly_is_refused(
    empty: Image, checkout: Path, prefix: str
) -> None:
    done = empty.install(checkout, "--prefix", prefix, check=False)
    assert done.returncode == 1
    assert prefix in done.stderr
    assert not empty.root.exists()


@pytest.mark.parametrize(
    "path",
    [
        TEMPLATE,
        "usr/local/bin/sereno",
        "opt/sereno/bin/mine",
        "usr/local/lib/sysusers.d/sereno.conf",
    ],
)
def test_a_foreign_file_is_refused_by_name_and_nothing_is_changed(
    empty: Image, checkout: Path, path: str
) -> None:
    (empty.root / path).parent.mkdir(parents=True)
    (empty.root / path).write_text("mine\n")
    before = empty.listing()
    done = empty.install(checkout, check=False)
    assert done.returncode == 1
    assert f"{empty.root}/{path.removesuffix('/mine')}" in done.stderr
    assert empty.listing() == before


def test_a_unit_that_was_changed_by_hand_stops_an_upgrade_and_survives_an_uninstall(
    installed: Image, newer_checkout: Path
) -> None:
    with (installed.root / TEMPLATE).open("a") as unit:
        unit.write("# mine\n")
    before = installed.listing()
    refused = installed.install(newer_checkout, check=False)
    assert refused.returncode == 1
    assert f"{installed.root}/{TEMPLATE}" in refused.stderr
    assert "systemctl edit" in refused.stderr
    assert installed.listing() == before

    done = installed.install(newer_checkout, "--uninstall")
    assert f"{installed.root}/{TEMPLATE}" in done.stdout
    assert installed.read(TEMPLATE).endswith("# mine\n")
    assert not (installed.root / "opt/sereno").exists()


def without_accounts(image: Image) -> dict[str, str]:
    return {
        path: kind
        for path, kind in image.listing(code=False).items()
        if not path.startswith("etc/.")
    }


def test_uninstall_with_purge_returns_to_the_tree_before(
    installed: Image, checkout: Path, tmp_path: Path
) -> None:
    stamps = installed.root / "var/lib/systemd/timers"
    stamps.mkdir(parents=True)
    (stamps / "stamp-sereno@cache_cleanup_hourly.timer").touch()
    (stamps / "stamp-other.timer").touch()
    installed.install(checkout, "--uninstall", "--purge")
    found = set(without_accounts(installed))
    assert found == {
        *("etc", "etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"),
        *("var", "var/lib", "var/lib/systemd", "var/lib/systemd/timers"),
        "var/lib/systemd/timers/stamp-other.timer",
        # Made where a tree has none, and everybody's from then on.
        "home",
    }
    assert "sereno" not in installed.read("etc/passwd") + installed.read("etc/group")
    assert "root:" in installed.read("etc/passwd")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make accounts and the cache")
def test_uninstall_keeps_data_and_accounts_says_so_and_purge_finds_them_later(
    installed: Image, checkout: Path
) -> None:
    entry = installed.root / "var/cache/sereno/metadata/data"
    entry.write_text("cached")
    done = installed.install(checkout, "--uninstall")
    assert entry.read_text() == "cached"
    assert "sereno:" in installed.read("etc/passwd")
    assert (
        f"Kept: the cache in {installed.root}/var/cache/sereno, the users and groups" in done.stdout
    )
    assert not (installed.root / TIMER).exists()
    installed.install(checkout, "--uninstall", "--purge")
    assert not entry.exists()
    assert "sereno:" not in installed.read("etc/passwd") + installed.read("etc/group")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make accounts")
def test_purge_leaves_an_account_that_install_did_not_make(
    empty: Image, installed: Image, checkout: Path
) -> None:
    passwd = installed.root / "etc/passwd"
    passwd.write_text(passwd.read_text().replace("Periodic jobs of sereno", "Serena Reno"))
    installed.install(checkout, "--uninstall", "--purge")
    assert "Serena Reno" in passwd.read_text()
    assert "sereno:" in installed.read("etc/group")


@pytest.mark.parametrize(
    "gone",
    [
        RELEASES,
        "opt/sereno/current",
        TEMPLATE,
        TIMER,
        TARGET_LINK,
        "usr/local/bin/sereno",
        "usr/local/lib",
    ],
)
def test_uninstall_works_when_half_of_it_is_gone(
    installed: Image, checkout: Path, gone: str
) -> None:
    path = installed.root / gone
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    installed.install(checkout, "--uninstall", "--purge")
    assert [path for path in without_accounts(installed) if "sereno" in path] == []


def test_uninstall_of_nothing_says_so(empty: Image, checkout: Path) -> None:
    done = empty.install(checkout, "--uninstall", "--purge")
    assert "Nothing is installed" in done.stdout
    assert last_line(done) == "unchanged"
    assert not empty.root.exists()


def test_an_image_may_move_before_it_is_uninstalled(installed: Image, checkout: Path) -> None:
    elsewhere = installed.root.rename(installed.root.with_name("elsewhere"))
    moved = Image(elsewhere, installed.scratch)
    moved.install(checkout, "--uninstall", "--purge")
    assert [path for path in without_accounts(moved) if "sereno" in path] == []


def test_of_the_older_releases_only_the_latest_stays(installed: Image, checkout: Path) -> None:
    for number in (1, 2, 3):
        old = installed.root / RELEASES / f"0.0.{number}-old"
        old.mkdir()
        (old / "MANIFEST").touch()
        os.utime(old / "MANIFEST", (number, number))
    installed.install(checkout)
    kept = {path.name for path in (installed.root / RELEASES).iterdir()}
    assert kept == {installed.current(), "0.0.3-old"}


def test_a_damaged_release_is_made_anew_beside_the_damaged_one(
    installed: Image, checkout: Path
) -> None:
    damaged = installed.current()
    (installed.root / RELEASES / damaged / "lib/sereno/errors.py").write_text("")
    installed.install(checkout)
    assert installed.current() == f"{damaged}.2"
    assert f"/{damaged}.2/bin/%i" in installed.read(TEMPLATE)


def test_units_that_systemd_does_not_accept_are_refused_before_anything_is_switched(
    installed: Image, checkout: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(checkout, tmp_path / "broken")
    with (broken / "systemd/system/sereno@.service").open("a") as unit:
        unit.write("\n[Service]\nTimeoutStartSec=soon\n")
    before = {path: kind for path, kind in installed.listing().items() if RELEASES not in path}
    done = installed.install(broken, check=False)
    assert done.returncode == 1
    assert "TimeoutStartSec" in done.stderr
    after = {path: kind for path, kind in installed.listing().items() if RELEASES not in path}
    assert after == before


def fake_command(directory: Path, name: str, text: str) -> str:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{text}\n")
    (directory / name).chmod(0o755)
    return str(directory)


def test_a_systemd_that_is_too_old_is_named_with_the_version_that_is_needed(
    empty: Image, checkout: Path, tmp_path: Path
) -> None:
    path = fake_command(tmp_path / "old", "systemctl", "echo 'systemd 249 (249.11-0ubuntu3)'")
    done = empty.install(checkout, path=path, check=False)
    assert done.returncode == 1
    assert "systemd 252 or newer is needed; here is 249" in done.stderr
    assert not empty.root.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is what root is told")
def test_the_user_scope_is_refused_to_root(checkout: Path) -> None:
    done = subprocess.run(
        ["sh", str(checkout / "install.sh"), "--user", "--dry-run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "For the whole machine: ./install.sh" in done.stderr


def test_without_root_the_message_says_sudo_or_user(checkout: Path, tmp_path: Path) -> None:
    path = fake_command(tmp_path / "nobody", "id", "echo 1000")
    done = subprocess.run(
        ["sh", str(checkout / "install.sh")],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"},
        check=False,
    )
    assert done.returncode == 1
    assert "sudo ./install.sh" in done.stderr
    assert "./install.sh --user" in done.stderr
