"""What holds for all tests: the environment they see, which of them are left out, and that this is said aloud."""

from __future__ import annotations

import fcntl
import gc
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = "SERENO_TEST_LONG"
TOP = Path(__file__).resolve().parents[1]
# Nearly all of what hypothesis finds it finds among the first examples. How long one takes shows how busy the machine
# is.
settings.register_profile(
    "sereno",
    max_examples=500 if os.environ.get(LONG) == "1" else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("sereno")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """The thousands of tests stay until the end: a search for garbage need not go through them again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that wait come first: side by side with what computes, they cost no time of their own."""
    waiting = {item.path for item in items if item.get_closest_marker("waiting")}

    def is_long(item: pytest.Item) -> bool:
        return any(item.iter_markers("boot")) or any(item.iter_markers("staged"))

    items.sort(key=lambda item: (item.path not in waiting, not is_long(item)))
    if os.environ.get(LONG) == "1":
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason=f"takes minutes; {LONG}=1 runs it"))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[object]:
    """What a test printed or named may hold lone surrogates, which no process can send to another as text."""
    return _without_surrogates((yield))


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(it) for key, it in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_surrogates(it) for it in value)
    return value


class FailuresAtOnce:
    """Names a failed test, and why in a line, when it has failed: the whole report comes minutes later."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            terminal = self._config.pluginmanager.getplugin("terminalreporter")
            why = getattr(getattr(report.longrepr, "reprcrash", None), "message", "")
            terminal.write_line(f"\n{report.when} failed: {report.nodeid} {why.splitlines()[:1]}")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None):
        config.pluginmanager.register(FailuresAtOnce(config))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """One line for each reason why tests were left out, after pytest's own summary."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        terminalreporter.section("left out")
        for reason, count in reasons.most_common():
            terminalreporter.line(f"{count:5} {'test ' if count == 1 else 'tests'}  {reason}")


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A directory where nothing waits for a disk, as there is one."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="sereno-test-", dir=memory) as directory:
        yield Path(directory)


@pytest.fixture
def mypy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """The words that run mypy, in whichever copy of the checkout: what one run has read, the next one need not.

    One at a time, since they share what they keep.
    """
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    with (place / "mypy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield ("mypy", f"--cache-dir={TOP / '.mypy_cache'}")


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A developer's own settings change no result, and a test that names no cache does not touch the developer's."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("SERENO_") and not name.startswith("SERENO_TEST_"):
                patch.delenv(name)
        patch.setenv("SERENO_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
