"""Machines as fixtures; see machine.py for how to use them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sysconfig
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import image
import machine as machines
import pytest
from shop import Shop, lay_out

from shipped import copy_of_checkout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from machine import Machine

HERE = Path(__file__).parent
INSTALL_DEADLINE_S = 180.0
# What every boot starts and every daemon-reload reads again, and no test looks at: the more units there are, the longer
# each of a thousand reloads takes. The generator that reads fstab stays.
MASK = """
mkdir -p /etc/systemd/system-generators
cd /lib/systemd/system-generators
for generator in *; do
    [ "$generator" = systemd-fstab-generator ] || ln -s /dev/null /etc/systemd/system-generators/"$generator"
done
cd /lib/systemd/system
for unit in dev-hugepages.mount sys-kernel-*.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.* \\
    apt-daily*.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer man-db.timer \\
    getty.target getty-static.service *cryptsetup.target integritysetup.target *veritysetup.target initrd*.target \\
    kmod-static-nodes.service rc-local.service systemd-ask-password-*.path systemd-binfmt.service \\
    systemd-fsck-root.service systemd-fsckd.socket systemd-hibernate-clear.service systemd-initctl.socket \\
    systemd-journald-audit.socket systemd-modules-load.service systemd-networkd.s* systemd-pcr* \\
    systemd-pstore.service systemd-random-seed.service systemd-repart.service systemd-sysctl.service \\
    systemd-sysext.s* systemd-tpm2-setup* systemd-update-utmp*; do
    [ ! -f "$unit" ] || ln -s /dev/null /etc/systemd/system/"$unit"
done
"""
HOUR_S = 3600.0
# Nearly all tests are shorter.
TEST_S = 30.0


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    reason = machines.why_not()
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.boot)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
    yield
    # After -k and -m: of what was asked for on one release alone nothing is left out.
    if not image.NAMED and not image.LONG:
        _choose_releases(config, items)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "suite" in metafunc.fixturenames:
        metafunc.parametrize("suite", image.CHOSEN, indirect=True, scope="session")


def _choose_releases(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the ordinary run, what systemd decides is tested on each release; any other test, or row of one, on one.

    Which one is the name's to say, so that it stays the same, and the rows of a test take turns.
    """
    rows: dict[tuple[Path, str], list[pytest.Item]] = defaultdict(list)
    for item in items:
        suite = getattr(item, "callspec", None) and item.callspec.params.get("suite")
        if suite and not item.get_closest_marker("every_systemd"):
            rows[item.path, item.name.replace(suite, "")].append(item)
    turns: Counter[str] = Counter()
    chosen = set()
    for (_, row), releases in rows.items():
        test = row.partition("[")[0]
        turn = crc32(test.encode()) + turns[test]
        turns[test] += 1
        is_first = releases[0].get_closest_marker("first_systemd")
        chosen.add(releases[0 if is_first else turn % len(releases)])
    left_out = set().union(*rows.values()) - chosen
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test shows what its machines said."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, machines.Machine):
                report.sections.append((f"console of {value.name}", value.console()))
                if value.running:
                    report.sections.append((f"journal of {value.name}", value.journal_text()))
    return report


@pytest.fixture(autouse=True)
def _not_over_the_hour() -> None:
    """No test meets the elapse of the hourly cleanup, of minute=0 or of midnight, unless it is a long one."""
    to_the_hour_s = HOUR_S - time.time() % HOUR_S
    if to_the_hour_s < TEST_S:
        time.sleep(to_the_hour_s + 2.0)


@pytest.fixture(scope="session")
def suite(request: pytest.FixtureRequest) -> str:
    """The release of Debian that the machines run."""
    suite: str = request.param
    return suite


@pytest.fixture(scope="session")
def trees(request: pytest.FixtureRequest, suite: str) -> tuple[Path, Path]:
    """The Debian trees (fresh, prepared). The first run on a computer makes them, which takes a minute or so."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        trees = image.trees(suite, tell=print)
    keep(trees[0].parent)
    return trees


def keep(tree: Path) -> None:
    """Have tests/run remove it neither while this process lives nor in the next days."""
    os.utime(tree)
    fcntl.flock(os.open(tree, os.O_RDONLY), fcntl.LOCK_SH)


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The wheels of lib/requirements*.txt."""
    folder = image.cache_directory() / "wheels"
    assert folder.is_dir(), f"{folder} is missing: tests/run downloads it"
    return folder.resolve()


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the machines have at /src."""
    return copy_of_checkout(tmp_path_factory.mktemp("src") / "sereno")


@pytest.fixture(scope="session")
def boot(checkout: Path, wheels: Path) -> Callable[..., Machine]:
    """boot(layer, …, binds={…}): a started machine with the usual binds and these; whoever calls it closes it."""

    # Other people's libraries, for jobs that put them on their path: of the interpreter that runs the tests.
    libraries = Path(sysconfig.get_path("purelib"))

    def boot(*layers: Path, binds: Mapping[str, Path] | None = None) -> Machine:
        usual = {"/src": checkout, "/wheels": wheels, "/libraries": libraries}
        machine = machines.Machine(layers, binds=usual | dict(binds or {}))
        try:
            return machine.start()
        except BaseException:
            machine.close()
            raise

    return boot


@pytest.fixture(scope="session")
def installed_layers(
    boot: Callable[..., Machine],
    trees: tuple[Path, Path],
    suite: str,
    checkout: Path,
    wheels: Path,
) -> tuple[Path, ...]:
    """The disk after `install.sh` on a prepared machine, and the shop's backend on it.

    Made once, and kept for later runs of the same sources.
    """
    cache = image.cache_directory()
    layer = cache / f"installed-{suite}-{_sources(checkout, wheels, trees[1])}"
    with (cache / f"installed-{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not layer.is_dir():
            with boot(trees[1]) as installer:
                installer.run("/src/install.sh", "--wheels", "/wheels", timeout=INSTALL_DEADLINE_S)
                installer.run("sh", "-ec", MASK)
                lay_out(installer)
                installer.stop()
                made = Path(tempfile.mkdtemp(prefix=f"installed-{suite}-making-", dir=cache))
                subprocess.run(["cp", "--archive", f"{installer.upper}/.", made], check=True)
            made.chmod(0o755)
            made.rename(layer)
        keep(layer)
    return (layer, trees[1])


def _sources(checkout: Path, wheels: Path, tree: Path) -> str:
    """What tells the disks apart that install.sh of this checkout and lay_out leave."""
    digest = hashlib.sha256(f"{wheels} {tree}".encode())
    parts = [checkout / name for name in ("bin", "lib", "systemd")]
    paths = [path for part in parts for path in part.rglob("*") if path.is_file()]
    paths += [path for path in checkout.iterdir() if path.is_file()]
    for path in sorted([*paths, HERE / "conftest.py", HERE / "shop.py"]):
        digest.update(f"{path.name} {path.stat().st_mode:o}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@pytest.fixture(scope="session")
def environment_layer(
    installed_layers: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A disk with the environment of the dependencies alone, as an installation leaves it that was broken off later.

    Making it is four of the five seconds of CPU time that an installation takes.
    """
    layer = tmp_path_factory.mktemp("environment")
    layer.chmod(0o755)
    (layer / "opt/sereno").mkdir(parents=True)
    environments = installed_layers[0] / "opt/sereno/environments"
    subprocess.run(["cp", "--archive", environments, layer / "opt/sereno"], check=True)
    return layer


@pytest.fixture
def fresh_machine(boot: Callable[..., Machine], trees: tuple[Path, Path]) -> Iterator[Machine]:
    """A new server: neither python3-venv nor python3-systemd, both in its package cache."""
    with boot(trees[0]) as machine:
        yield machine


@pytest.fixture
def blank_machine(boot: Callable[..., Machine], trees: tuple[Path, Path]) -> Iterator[Machine]:
    """Everything that install.sh needs is there, sereno is not."""
    with boot(trees[1]) as machine:
        yield machine


@pytest.fixture
def half_installed_machine(
    boot: Callable[..., Machine], trees: tuple[Path, Path], environment_layer: Path
) -> Iterator[Machine]:
    """Like blank_machine, for what an installation does beside making the environment of the dependencies."""
    with boot(environment_layer, trees[1]) as machine:
        yield machine


@pytest.fixture(scope="module")
def machine(boot: Callable[..., Machine], installed_layers: tuple[Path, ...]) -> Iterator[Machine]:
    """sereno installed by install.sh; one machine for the tests of a module."""
    with boot(*installed_layers) as machine:
        yield machine


@pytest.fixture
def own_machine(
    boot: Callable[..., Machine], installed_layers: tuple[Path, ...]
) -> Iterator[Machine]:
    """sereno installed by install.sh; a machine of the test's own, to be rebooted and harmed."""
    with boot(*installed_layers) as machine:
        yield machine


@pytest.fixture
def shop(machine: Machine) -> Iterator[Shop]:
    """A backend on `machine`; its jobs are removed after the test."""
    shop = Shop(machine)
    yield shop
    shop.remove_all()
