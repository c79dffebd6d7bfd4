"""Machines as fixtures; see machine.py for how to use them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sysconfig
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
    from collections.abc import Callable, Iterator

    from machine import Machine

HERE = Path(__file__).parent
INSTALL_DEADLINE_S = 180.0
# SERENO_TEST_SUITES="trixie forky": exactly these releases, each with all tests.
NAMED = os.environ.get("SERENO_TEST_SUITES", "").split()
LONG = os.environ.get("SERENO_TEST_LONG") == "1"
ORDINARY = ("bookworm", "trixie")
# What every daemon-reload and every boot starts a process for, and no test looks at. The one that reads fstab stays.
MASK_GENERATORS = """
mkdir -p /etc/systemd/system-generators
cd /lib/systemd/system-generators
for generator in *; do
    [ "$generator" = systemd-fstab-generator ] || ln -s /dev/null /etc/systemd/system-generators/"$generator"
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
    if not NAMED and not LONG:
        _choose_releases(config, items)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "suite" in metafunc.fixturenames:
        suites = NAMED or (image.SUITES if LONG else ORDINARY)
        metafunc.parametrize("suite", suites, indirect=True, scope="session")


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
        return image.trees(suite, tell=print)


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
    """boot(layer, …): a started machine with the usual binds; whoever calls it closes it."""

    # Other people's libraries, for jobs that put them on their path: of the interpreter that runs the tests.
    libraries = Path(sysconfig.get_path("purelib"))

    def boot(*layers: Path) -> Machine:
        binds = {"/src": checkout, "/wheels": wheels, "/libraries": libraries}
        machine = machines.Machine(layers, binds=binds)
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
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, ...]:
    """The disk after `install.sh` on a prepared machine, and the shop's backend on it; made once in a run."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    layer = place / f"installed-{suite}"
    with layer.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not layer.is_dir():
            with boot(trees[1]) as installer:
                installer.run("/src/install.sh", "--wheels", "/wheels", timeout=INSTALL_DEADLINE_S)
                installer.run("sh", "-ec", MASK_GENERATORS)
                lay_out(installer)
                installer.stop()
                made = layer.with_suffix(".making")
                subprocess.run(["cp", "--archive", installer.upper, made], check=True)
            made.rename(layer)
    return (layer, trees[1])


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
