"""install.sh is killed, or one of its commands fails, at every change: the old state or the new one works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from staged_system import ACCOUNTS, RELEASES, TARGET_LINK, TEMPLATE, TIMER, Image

pytestmark = pytest.mark.staged
# Every change takes minutes; without it every few.
STEP = 1 if os.environ.get("SERENO_TEST_LONG") == "1" else 4


def assert_works(image: Image) -> None:
    """What runs and what people call is one whole release each, and no timer is lost."""
    named = re.search(r"^ExecStart=/(\S+)/bin/%i$", image.read(TEMPLATE), re.MULTILINE)
    assert named is not None
    for release in (image.root / named[1], image.root / RELEASES / image.current()):
        subprocess.run(
            ["sha256sum", "--check", "--quiet", "--strict", "MANIFEST"], cwd=release, check=True
        )
        subprocess.run(
            [str(release / "venv/bin/python3"), "-I", str(release / "bin/sereno"), "--version"],
            check=True,
            capture_output=True,
        )
    assert "[X-Sereno]" in image.read(TIMER)
    assert (image.root / TARGET_LINK).is_symlink()


def outside_releases(image: Image) -> dict[str, str]:
    return {
        path: kind
        for path, kind in image.listing(code=False).items()
        if RELEASES not in path and path != "opt/sereno/manifest"
    }


@pytest.fixture(scope="module")
def staged_halfway(
    installed_once: Image, newer_checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> Image:
    """An image whose upgrade was killed at each change up to the moment at which the new release was complete."""
    image = installed_once.copy(tmp_path_factory.mktemp("halfway"))
    before = outside_releases(image)
    stop_at = 0
    while not any((image.root / RELEASES).glob("99.0-*/MANIFEST")):
        stop_at += 1
        done = image.install(newer_checkout, stop_at=stop_at, check=False)
        assert done.returncode == -9
        assert outside_releases(image) == before
        assert_works(image)
    assert stop_at > 5
    return image


@pytest.fixture(scope="module")
def upgraded(
    staged_halfway: Image, newer_checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> Image:
    """The image after its upgrade, with the record of the calls that it took."""
    image = staged_halfway.copy(tmp_path_factory.mktemp("upgraded"))
    image.install(newer_checkout, stop_at=0)
    return image


def test_an_upgrade_switches_everything_and_keeps_the_release_before(
    upgraded: Image, installed_once: Image, newer_checkout: Path
) -> None:
    assert_works(upgraded)
    assert upgraded.current().startswith("99.0-")
    assert upgraded.current() in upgraded.read(TEMPLATE)
    assert "Changed in this version" in upgraded.read("etc/systemd/system/sereno.target")
    assert (upgraded.root / "etc/systemd/system/sereno-new.slice").exists()
    releases = {path.name for path in (upgraded.root / RELEASES).iterdir()}
    assert releases == {upgraded.current(), installed_once.current()}
    assert upgraded.read("opt/sereno/manifest").startswith("sereno installed 99.0-")


def test_going_back_removes_the_units_that_the_older_version_does_not_have(
    upgraded: Image, installed_once: Image, checkout: Path, tmp_path: Path
) -> None:
    image = upgraded.copy(tmp_path)
    image.install(checkout)
    assert outside_releases(image) == outside_releases(installed_once)


@pytest.mark.parametrize("stop", ["kill", "fail"])
def test_an_upgrade_stopped_at_any_change_leaves_old_or_new_and_the_next_run_finishes(
    staged_halfway: Image, upgraded: Image, newer_checkout: Path, tmp_path: Path, stop: str
) -> None:
    assert len(upgraded.calls) > 10
    for stop_at in range(1, len(upgraded.calls) + 1, 1 if stop == "kill" else STEP):
        directory = tmp_path / str(stop_at)
        directory.mkdir()
        image = staged_halfway.copy(directory)
        done = image.install(newer_checkout, stop_at=stop_at, stop=stop, check=False)
        assert done.returncode == (-9 if stop == "kill" else 1), upgraded.calls[stop_at - 1]
        assert stop == "kill" or "this failed: " in done.stderr
        assert_works(image)
        image.install(newer_checkout)
        assert outside_releases(image) == outside_releases(upgraded), upgraded.calls[stop_at - 1]
        assert image.read("opt/sereno/manifest") == upgraded.read("opt/sereno/manifest")


def advance(image: Image, checkout: Path, *arguments: str) -> list[str]:
    """Kill install.sh again and again, each time STEP changes further, to its end; return what was next each time.

    Each run starts from what the killed ones before it left. Where a run must first do again what is never done for
    good, it is let one further.
    """
    reached: list[str] = []
    allowed = STEP
    while True:
        done = image.install(checkout, *arguments, stop_at=allowed, check=False)
        if done.returncode == 0:
            return reached
        assert done.returncode == -9, done.stderr
        stopped_at = re.sub(r"/tmp\.\w+", "", image.calls[-1])
        if stopped_at in reached:
            allowed += 1
        else:
            reached.append(stopped_at)
            allowed = max(STEP, allowed - 1)


def test_a_first_install_killed_at_every_change_ends_as_one_that_was_not(
    installed_once: Image, checkout: Path, tmp_path: Path
) -> None:
    image = installed_once.copy(tmp_path)
    image.install(checkout, "--uninstall", "--purge")
    (image.root / RELEASES).mkdir(parents=True)
    release = Path(RELEASES, installed_once.current())
    subprocess.run(
        ["cp", "-a", str(installed_once.root / release), str(image.root / release)], check=True
    )
    assert len(advance(image, checkout)) > 30 / STEP
    assert_works(image)
    assert outside_releases(image) == outside_releases(installed_once)


@pytest.fixture
def new_server(installed_once: Image, tmp_path: Path) -> Image:
    """An image with what every system has, and nothing of sereno."""
    image = Image(tmp_path / "image", tmp_path / "scratch", installed_once.wheels)
    for directory in ("etc", "opt"):
        (image.root / directory).mkdir(parents=True)
    for name, text in ACCOUNTS.items():
        (image.root / "etc" / name).write_text(text)
    return image


@pytest.fixture(scope="module")
def changes(installed_once: Image, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many changes a first install makes."""
    image = Image(*map(tmp_path_factory.mktemp, ("counted", "scratch")), installed_once.wheels)
    image.install(checkout, stop_at=0)
    assert len(image.calls) > 30
    return len(image.calls)


def points(changes: int) -> list[int]:
    """Some changes of a first install, or all: its beginning, the staging, what follows, and its last but one."""
    if STEP == 1:
        return list(range(2, changes))
    return [3, changes // 4, changes * 2 // 3, changes - 1]


@pytest.mark.parametrize("stop", ["fail", "interrupt"])
def test_a_first_install_that_does_not_succeed_takes_back_what_it_made(
    new_server: Image, checkout: Path, changes: int, stop: str
) -> None:
    before = new_server.listing(code=False)
    for stop_at in points(changes):
        done = new_server.install(checkout, stop_at=stop_at, stop=stop, check=False)
        assert done.returncode == 1 if stop == "fail" else done.returncode in (1, 130)
        # Before it: what systemd's tools say of what they do.
        error = done.stderr[done.stderr.index("install.sh: ") :].splitlines()
        assert all(line.startswith("  ") for line in error[1:]), done.stderr
        assert new_server.listing(code=False) == before, new_server.calls[stop_at - 1]


def test_a_first_install_that_fails_leaves_what_was_there(
    installed: Image, checkout: Path, changes: int
) -> None:
    """The cache and the accounts of an earlier installation, and a directory that is in its way."""
    installed.install(checkout, "--uninstall")
    before = installed.listing(code=False)
    assert "sereno:" in installed.read("etc/passwd")
    done = installed.install(checkout, stop_at=changes - 3, stop="fail", check=False)
    assert done.returncode == 1
    assert installed.listing(code=False) == before


def test_what_a_killed_first_install_left_is_purged(
    new_server: Image, checkout: Path, changes: int
) -> None:
    before = new_server.listing(code=False)
    for stop_at in points(changes):
        done = new_server.install(checkout, stop_at=stop_at, check=False)
        assert done.returncode == -9
        new_server.install(checkout, "--uninstall", "--purge")
        assert new_server.listing(code=False) == before, new_server.calls


def test_an_uninstall_killed_at_every_change_ends_with_nothing_left(
    installed: Image, checkout: Path
) -> None:
    assert len(advance(installed, checkout, "--uninstall", "--purge")) > 20 / STEP
    left = [path for path in installed.listing(code=False) if "sereno" in path]
    assert left == []
    assert not (installed.root / "usr").exists()


def test_an_uninstall_whose_commands_fail_says_so_and_the_next_run_finishes(
    installed: Image, checkout: Path, tmp_path: Path
) -> None:
    (tmp_path / "counted").mkdir()
    counted = installed.copy(tmp_path / "counted")
    counted.install(checkout, "--uninstall", "--purge", stop_at=0)
    assert len(counted.calls) > 10
    for stop_at in range(1, len(counted.calls) + 1, 2 * STEP):
        directory = tmp_path / str(stop_at)
        directory.mkdir()
        image = installed.copy(directory)
        done = image.install(
            checkout, "--uninstall", "--purge", stop_at=stop_at, stop="fail", check=False
        )
        assert done.returncode == 1, counted.calls[stop_at - 1]
        assert "only partly uninstalled; this failed: " in done.stderr
        image.install(checkout, "--uninstall", "--purge")
        left = [path for path in image.listing(code=False) if "sereno" in path]
        assert left == [], counted.calls[stop_at - 1]


def on_a_full_disk(image: Image, checkout: Path, disk: Path, room_kib: int) -> None:
    """Upgrade a copy of `image` on a disk with so much room, which is not enough; and again with enough."""
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "none", str(disk)], check=True)
    try:
        copy = image.copy(disk)
        copy.scratch = disk.parent / "scratch"
        used = os.statvfs(disk)
        size_kib = (used.f_blocks - used.f_bfree) * used.f_frsize // 1024 + room_kib
        subprocess.run(["mount", "-o", f"remount,size={size_kib}k", str(disk)], check=True)
        done = copy.install(checkout, check=False)
        assert done.returncode == 1
        assert "No space left on device" in done.stdout + done.stderr
        assert_works(copy)
        subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
        copy.install(checkout)
        assert copy.current().startswith("99.0-")
        assert_works(copy)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")


@needs_root
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9] if STEP == 1 else [0.01, 0.8])
def test_an_upgrade_that_cannot_be_staged_on_a_full_disk_leaves_the_old_version(
    installed_once: Image, newer_checkout: Path, tmp_path: Path, share: float
) -> None:
    release = installed_once.root / RELEASES / installed_once.current()
    words = ["du", "-sk", str(release)]
    needed_kib = int(subprocess.run(words, capture_output=True, text=True).stdout.split()[0])
    on_a_full_disk(installed_once, newer_checkout, tmp_path / "disk", int(share * needed_kib))


@needs_root
@pytest.mark.parametrize("room_kib", [0, 4])
def test_an_upgrade_that_cannot_be_switched_on_a_full_disk_leaves_old_or_new(
    staged_halfway: Image, newer_checkout: Path, tmp_path: Path, room_kib: int
) -> None:
    on_a_full_disk(staged_halfway, newer_checkout, tmp_path / "disk", room_kib)


@needs_root
def test_a_first_install_that_a_full_disk_ends_leaves_nothing(
    new_server: Image, checkout: Path, tmp_path: Path
) -> None:
    words = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "none", str(new_server.root)]
    subprocess.run(words, check=True)
    try:
        done = new_server.install(checkout, check=False)
        assert done.returncode == 1
        assert re.match(
            "install.sh: this failed: .*No space left on device$", done.stderr.splitlines()[0]
        )
        assert list(new_server.listing()) == []
    finally:
        subprocess.run(["umount", str(new_server.root)], check=True)


def test_an_upgrade_moves_the_units_out_of_usr_local_and_every_link_with_them(
    empty: Image, checkout: Path, newer_checkout: Path, tmp_path: Path
) -> None:
    """systemd looks for units before /usr/local is mounted, where it is on a file system of its own."""
    older = tmp_path / "older"
    shutil.copytree(checkout, older, symlinks=True)
    script = older / "install.sh"
    script.write_text(
        script.read_text().replace(
            "unit_dir=/etc/systemd/system\n", "unit_dir=/usr/local/lib/systemd/system\n", 1
        )
    )
    image = empty
    image.install(older)
    old_units = image.root / "usr/local/lib/systemd/system"
    app_link = image.root / "etc/systemd/system/sereno.target.wants/sereno-app@sereno.target"
    backend = app_link.with_name("sereno-app@shop.target")
    backend.symlink_to("/usr/local/lib/systemd/system/sereno-app@.target")
    assert (old_units / "sereno@.service").exists()
    assert str(app_link.readlink()).startswith("/usr/local/")

    image.install(newer_checkout)
    assert list(old_units.glob("sereno*")) == []
    assert (image.root / TEMPLATE).exists()
    for link in (app_link, backend):
        assert str(link.readlink()) == "/etc/systemd/system/sereno-app@.target"
    assert str((image.root / TARGET_LINK).readlink()) == "/etc/systemd/system/sereno.target"
