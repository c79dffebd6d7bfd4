import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_journald import Journald, decoded
from fake_systemd import FakeManager, provide_templates

from sereno import cache
from sereno.cli import discovery
from sereno.errors import NotAvailable
from sereno.observe import runs, runs_of_many
from sereno.records import journal, log, sending
from sereno.units import installation


@pytest.fixture(autouse=True)
def _only_the_shipped_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests say what happens to cache_cleanup_hourly; who adds a job to the checkout need not change them."""
    monkeypatch.setattr(discovery, "shipped_modules", lambda: ["cache_cleanup_job"])


@pytest.fixture(autouse=True)
def _no_cache_of_an_earlier_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of a job asks for the process's cache; the next one gets a cache of its own."""
    monkeypatch.setattr(cache, "_process_cache", {})


@pytest.fixture
def manager(tmp_path: Path) -> FakeManager:
    return FakeManager(tmp_path / ".config/systemd/user")


def _unreadable(**_: object) -> None:
    """What this computer's journal knows is no part of a test."""
    raise NotAvailable("the tests have no journal")


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user scope of its own with sereno's hand-written units installed; its directory of generated units."""
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "SERENO_APP"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(journal, "require_installed", lambda: None)
    monkeypatch.setattr(installation, "machine_zone", lambda root: None)
    monkeypatch.setattr(runs, "Runs", _unreadable)
    monkeypatch.setattr(runs_of_many, "RunsOfMany", _unreadable)
    return provide_templates(tmp_path)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    """Records as the journal gets them, of sereno's own and of `logging`."""
    records: list[dict[str, str]] = []

    def send(fields: Mapping[str, Any]) -> None:
        records.append(decoded(sending.encoded(fields)))

    monkeypatch.setattr(sending, "send", send)
    monkeypatch.setattr(log, "_direct", None)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    journal.set_up("a_job", "f00d", journal.to_journal)
    yield records
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    """A journal of the test's own, for runs in processes of their own."""
    with Journald(tmp_path / "journal.socket") as journald:
        yield journald
