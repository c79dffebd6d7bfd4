"""install.sh is killed, or one of its commands fails, at every change: the old state or the new one works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from staged_system import (
    ACCOUNTS,
    ENVIRONMENTS,
    RELEASES,
    TARGET_LINK,
    TEMPLATE,
    TIMER,
    Image,
    is_whole,
)

pytestmark = pytest.mark.staged
# Every change takes minutes; without it every few.
STEP = 1 if os.environ.get("SERENO_TEST_LONG") == "1" else 6


def assert_works(image: Image) -> None:
    """What runs and what people call is one whole release each, and no timer is lost."""
    named = re.search(r"^ExecStart=/(\S+)/bin/%i$", image.read(TEMPLATE), re.MULTILINE)
    assert named is not None
    for release in {image.root / named[1], image.root / RELEASES / image.current()}:
        assert is_whole(release)
        assert is_whole(release / "venv")
    assert "[X-Sereno]" in image.read(TIMER)
    assert (image.root / TARGET_LINK).is_symlink()


def assert_starts(image: Image) -> None:
    """The current release, and the one before."""
    for release in (image.root / RELEASES).iterdir():
        subprocess.run(
            [str(release / "venv/bin/python3"), "-I", str(release / "bin/sereno"), "--version"],
            check=True,
            capture_output=True,
        )


def outside_releases(image: Image) -> dict[str, str]:
    return {
        path: kind
        for path, kind in image.listing(code=False).items()
        if not path.startswith((RELEASES, ENVIRONMENTS, "opt/sereno/manifest"))
    }


@pytest.fixture(scope="module")
def staged_halfway(
    installed_once: Image, newer_checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> Image:
    """An image whose upgrade was killed at each change up to the moment at which the new release was complete."""
    image = installed_once.copy(tmp_path_factory.mktemp("halfway"), linked=True)
    before = outside_releases(image)
    stop_at = 0
    while not any((image.root / RELEASES).glob("99.0-*/MANIFEST")):
        stop_at += 1
        done = image.install(newer_checkout, stop_at=stop_at, check=False)
        assert done.returncode == -9
        assert outside_releases(image) == before
        assert_works(image)
    assert stop_at > 5
    assert len(list((image.root / ENVIRONMENTS).iterdir())) == 1
    return image


def newer(image: Image) -> str:
    """The release that is staged and not current yet."""
    (release,) = (image.root / RELEASES).glob("99.0-*")
    return release.name


@pytest.fixture(scope="module")
def upgraded(staged_halfway: Image, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image after its upgrade, with the record of the changes that it took."""
    image = staged_halfway.copy(tmp_path_factory.mktemp("upgraded"), linked=True)
    image.commit(newer(image))
    return image


def test_an_upgrade_switches_everything_and_keeps_the_release_before(
    upgraded: Image, installed_once: Image
) -> None:
    assert_works(upgraded)
    assert_starts(upgraded)
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
    image = upgraded.copy(tmp_path, linked=True)
    image.install(checkout)
    assert outside_releases(image) == outside_releases(installed_once)


@pytest.mark.parametrize("stop", ["kill", "fail"])
def test_an_upgrade_stopped_at_any_change_leaves_old_or_new_and_the_next_run_finishes(
    staged_halfway: Image, upgraded: Image, tmp_path: Path, stop: str
) -> None:
    assert len(upgraded.calls) >= 20
    expected = outside_releases(upgraded)
    for stop_at in range(1, len(upgraded.calls) + 1, 1 if stop == "kill" else 2 * STEP):
        image = staged_halfway.copy(tmp_path / str(stop_at), linked=True)
        done = image.commit(newer(image), stop_at=stop_at, stop=stop, check=False)
        assert done.returncode == (-9 if stop == "kill" else 1), upgraded.calls[stop_at - 1]
        assert stop == "kill" or "install.sh: this failed: " in done.stderr
        assert_works(image)
        if stop_at % STEP == 1 % STEP:
            image.commit(newer(image))
            assert outside_releases(image) == expected, upgraded.calls[stop_at - 1]
            assert image.read("opt/sereno/manifest") == upgraded.read("opt/sereno/manifest")
        shutil.rmtree(image.root)


def advance(image: Image, checkout: Path, *arguments: str) -> list[str]:
    """Kill install.sh again and again, each time some changes further, to its end; return what was next each time.

    Each run starts from what the killed ones before it left. Where a run must first do again what is never done for
    good, it is let further.
    """
    reached: list[str] = []
    allowed = step = 3 * STEP if STEP > 1 else 1
    while True:
        done = image.install(checkout, *arguments, stop_at=allowed, check=False)
        if done.returncode == 0:
            return reached
        assert done.returncode == -9, done.stderr
        stopped_at = re.sub(r"/tmp\.\w+", "", image.calls[-1])
        if stopped_at in reached:
            allowed += STEP
        else:
            reached.append(stopped_at)
            allowed = max(step, allowed - 1)


@pytest.fixture
def ready(installed_once: Image, checkout: Path, tmp_path: Path) -> Image:
    """A new server on which the release and its environment are complete, and nothing refers to them."""
    image = new_image(tmp_path / "ready", installed_once)
    prefix = Path("opt/sereno")
    (image.root / prefix).mkdir()
    for name in ("releases", "environments"):
        words = ["cp", "-al", str(installed_once.root / prefix / name), str(image.root / prefix)]
        subprocess.run(words, check=True)
    return image


def test_a_first_install_killed_at_every_change_ends_as_one_that_was_not(
    ready: Image, installed_once: Image, checkout: Path
) -> None:
    assert len(advance(ready, checkout)) > 30 / (3 * STEP)
    assert_works(ready)
    assert outside_releases(ready) == outside_releases(installed_once)


def test_the_making_of_an_environment_killed_at_every_change_leaves_none_that_is_incomplete(
    new_server: Image, without_pip: Path
) -> None:
    checkout = without_pip
    stop_at = 0
    while not list((new_server.root / ENVIRONMENTS).glob("*/MANIFEST")):
        stop_at += 1
        done = new_server.install(checkout, stop_at=stop_at, check=False)
        assert done.returncode == -9
        assert not (new_server.root / "opt/sereno/current").is_symlink()
    assert stop_at > 6
    (environment,) = (new_server.root / ENVIRONMENTS).iterdir()
    assert is_whole(environment)
    done = new_server.install(checkout)
    assert "Making the environment" not in done.stdout
    assert_works(new_server)
    assert_starts(new_server)


@pytest.fixture(scope="module")
def without_pip(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that makes its environment as ever, but for pip: nothing comes into it."""
    stubbed = shutil.copytree(checkout, tmp_path_factory.mktemp("stubbed") / "sereno")
    script = stubbed / "install.sh"
    text = script.read_text()
    for pip, stub in {
        '"$python" -I -m zipfile -e "$(find_pip)" "$tmp/pip"': "true",
        'installer "$here" pip-settings': ': >"$tmp/settings"',
        'PIP_CONFIG_FILE=/dev/null "$interpreter" -I "$tmp/pip/pip"': "true",
    }.items():
        assert text.count(pip) == 1
        text = text.replace(pip, stub)
    script.write_text(text)
    return stubbed


def new_image(directory: Path, like: Image) -> Image:
    image = Image(directory / "image", directory / "scratch", like.wheels)
    for name in ("etc", "opt"):
        (image.root / name).mkdir(parents=True)
    for name, text in ACCOUNTS.items():
        (image.root / "etc" / name).write_text(text)
    return image


@pytest.fixture
def new_server(installed_once: Image, tmp_path: Path) -> Image:
    """An image with what every system has, and nothing of sereno."""
    return new_image(tmp_path / "new", installed_once)


def points() -> list[int]:
    """Some changes of a first install whose release is complete, or all but the last ones."""
    return list(range(2, 60)) if STEP == 1 else [3, 55]


@pytest.mark.parametrize(
    ("stop", "stage", "stop_at"),
    [
        ("fail", "new", 3),
        ("interrupt", "new", 10),
        ("kill", "new", 5),
        *((stop, "ready", at) for stop in ("fail", "interrupt", "kill") for at in points()),
    ],
)
def test_a_first_install_that_does_not_succeed_takes_back_what_it_made_and_one_killed_is_purged(
    new_server: Image,
    ready: Image,
    checkout: Path,
    without_pip: Path,
    stop: str,
    stage: str,
    stop_at: int,
) -> None:
    before = new_server.listing(code=False)
    image, checkout = (new_server, without_pip) if stage == "new" else (ready, checkout)
    done = image.install(checkout, stop_at=stop_at, stop=stop, check=False)
    assert len(image.calls) >= stop_at
    if stop == "kill":
        assert done.returncode == -9
        image.install(checkout, "--uninstall", "--purge")
    else:
        assert done.returncode == 1 if stop == "fail" else done.returncode in (1, 130)
        # Before it: what systemd's tools say of what they do.
        error = done.stderr[done.stderr.index("install.sh: ") :].splitlines()
        assert all(line.startswith("  ") for line in error[1:]), done.stderr
    assert image.listing(code=False) == before, image.calls


def test_a_first_install_that_fails_leaves_what_was_there(
    ready: Image, installed: Image, checkout: Path
) -> None:
    """The cache and the accounts of an earlier installation, and a directory that is in its way."""
    installed.install(checkout, "--uninstall")
    (installed.root / "opt").mkdir()
    before = installed.listing(code=False)
    assert "sereno:" in installed.read("etc/passwd")
    (ready.root / "opt/sereno").rename(installed.root / "opt/sereno")
    done = installed.install(checkout, stop_at=points()[-1], stop="fail", check=False)
    assert done.returncode == 1
    assert installed.listing(code=False) == before


def test_an_uninstall_killed_at_every_change_ends_with_nothing_left(
    installed: Image, checkout: Path
) -> None:
    assert len(advance(installed, checkout, "--uninstall", "--purge")) > 30 / (3 * STEP)
    left = [path for path in installed.listing(code=False) if "sereno" in path]
    assert left == []
    assert not (installed.root / "usr").exists()


def test_an_uninstall_whose_commands_fail_says_so_and_the_next_run_finishes(
    installed: Image, checkout: Path, tmp_path: Path
) -> None:
    counted = installed.copy(tmp_path / "counted", linked=True)
    counted.install(checkout, "--uninstall", "--purge", stop_at=0)
    assert len(counted.calls) > 30
    for stop_at in range(1, len(counted.calls) + 1, 4 * STEP):
        image = installed.copy(tmp_path / str(stop_at), linked=True)
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
        copy = image.copy(disk / "copy")
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
def test_an_upgrade_that_cannot_be_staged_on_a_full_disk_leaves_the_old_version(
    installed_once: Image, newer_checkout: Path, tmp_path: Path
) -> None:
    on_a_full_disk(installed_once, newer_checkout, tmp_path / "disk", 800)


@needs_root
def test_an_upgrade_that_cannot_be_switched_on_a_full_disk_leaves_old_or_new(
    staged_halfway: Image, newer_checkout: Path, tmp_path: Path
) -> None:
    on_a_full_disk(staged_halfway, newer_checkout, tmp_path / "disk", 4)


@needs_root
def test_a_first_install_that_a_full_disk_ends_leaves_nothing(
    new_server: Image, without_pip: Path
) -> None:
    words = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "none", str(new_server.root)]
    subprocess.run(words, check=True)
    try:
        done = new_server.install(without_pip, check=False)
        assert done.returncode == 1
        assert re.match(
            "install.sh: this failed: .*No space left on device$", done.stderr.splitlines()[0]
        )
        assert list(new_server.listing()) == []
    finally:
        subprocess.run(["umount", str(new_server.root)], check=True)


def test_an_upgrade_moves_the_units_out_of_usr_local_and_every_link_with_them(
    ready: Image, newer_checkout: Path
) -> None:
    """systemd looks for units before /usr/local is mounted, where it is on a file system of its own."""
    image = ready
    (release,) = (image.root / RELEASES).iterdir()
    older = shutil.copytree(release, release.with_name("0.0-older"), symlinks=True)
    places = older / "lib/sereno/install/places.py"
    new = "str(found.units),\n"
    assert new in places.read_text()
    places.write_text(places.read_text().replace(new, '"/usr/local/lib/systemd/system",\n', 1))
    image.commit(older.name)
    old_units = image.root / "usr/local/lib/systemd/system"
    app_link = image.root / "etc/systemd/system/sereno.target.wants/sereno-app@sereno.target"
    backend = app_link.with_name("sereno-app@shop.target")
    # Where they were at that time, too.
    app_link.parent.mkdir()
    for link in (app_link, backend):
        link.symlink_to("/usr/local/lib/systemd/system/sereno-app@.target")
    linked = app_link.parents[1] / "sereno-jobs@sereno.target.wants"
    linked.rename(linked.with_name("sereno-app@sereno.target.wants"))
    assert (old_units / "sereno@.service").exists()
    assert str(app_link.readlink()).startswith("/usr/local/")

    image.install(newer_checkout)
    assert list(old_units.glob("sereno*")) == []
    assert (image.root / TEMPLATE).exists()
    assert not app_link.parent.exists()
    for link in (app_link, backend):
        moved = app_link.parents[1] / "sereno-apps.target.wants" / link.name
        assert str(moved.readlink()) == "/etc/systemd/system/sereno-app@.target"
    assert (linked / "sereno@cache_cleanup_hourly.timer").is_symlink()
    assert str((image.root / TARGET_LINK).readlink()) == "/etc/systemd/system/sereno.target"
