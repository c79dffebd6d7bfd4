"""The shipped job as the contract words it: messages to the letter, statistics to the letter, three alerts."""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

import sereno
from sereno.jobs import cleanup_expired_cache
from sereno.jobs.cache_cleanup_job import register_cache_cleanup_job
from sereno.scheduler import Scheduler

REPOSITORY = Path(__file__).parents[3]
ENTRY = REPOSITORY / "bin" / "cache_cleanup_hourly"


def report(**changes: object) -> SimpleNamespace:
    values = {
        "entries_before": 1250,
        "entries_after": 1100,
        "entries_removed": 150,
        "bytes_freed": 300 * 1024,
        "hits": 785,
        "misses": 215,
        "hit_rate_percent": 78.5,
        "evictions": 23,
        "max_size": 2000,
        "server_bytes": None,
    }
    return SimpleNamespace(**{**values, **changes})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """run(report or exception) → (result, [(level, message)])"""

    def run(outcome: object):
        def run_cleanup() -> object:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        cache = SimpleNamespace(run_cleanup=run_cleanup)
        monkeypatch.setattr(sereno, "get_metadata_cache", lambda: cache, raising=False)
        with caplog.at_level(logging.INFO):
            result = asyncio.run(cleanup_expired_cache())
        return result, [(record.levelname, record.getMessage()) for record in caplog.records]

    return run


def test_a_cleanup_says_what_it_did_to_the_letter(run) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    stats, lines = run(report())
    after = datetime.now(UTC).replace(tzinfo=None)
    assert list(stats) == [
        "timestamp",
        "entries_before",
        "entries_after",
        "entries_removed",
        "memory_freed_kb",
        "duration_ms",
        "hit_rate",
        "evictions",
    ]
    assert before <= datetime.fromisoformat(stats.pop("timestamp")) <= after
    duration_ms = stats.pop("duration_ms")
    assert round(duration_ms, 2) == duration_ms
    assert stats == {
        "entries_before": 1250,
        "entries_after": 1100,
        "entries_removed": 150,
        "memory_freed_kb": 300,
        "hit_rate": 78.5,
        "evictions": 23,
    }
    assert lines == [
        ("INFO", "Iniciando limpieza programada de caché de metadatos"),
        (
            "INFO",
            "Limpieza completada: 150 entradas eliminadas, ~300KB liberados, "
            f"duración: {duration_ms:.2f}ms, hit rate: 78.5%",
        ),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"entries_after": 1900},
            "Caché al 95.0% de capacidad (1900/2000). Considere aumentar max_size o reducir TTL.",
        ),
        (
            {"hits": 50, "misses": 100, "hit_rate_percent": 100 / 3},
            "Hit rate bajo (33.3%). El caché podría no estar siendo efectivo. Hits: 50, Misses: 100",
        ),
    ],
)
def test_an_alert_is_a_warning_to_the_letter(run, changes, message) -> None:
    _, lines = run(report(**changes))
    assert lines[2:] == [("WARNING", message)]


@pytest.mark.parametrize(
    "changes",
    [
        {"entries_after": 1800},
        {"entries_after": 10**9, "max_size": None},
        {"hits": 50, "misses": 50, "hit_rate_percent": 50.0},
        {"hits": 600, "misses": 400, "hit_rate_percent": 60.0},
        {"hits": 0, "misses": 0, "hit_rate_percent": 0.0},
    ],
)
def test_at_a_threshold_there_is_no_alert_yet(run, changes) -> None:
    assert len(run(report(**changes))[1]) == 2


def test_the_thresholds_are_settings(run, monkeypatch) -> None:
    monkeypatch.setenv("SERENO_ALERT_CAPACITY_PERCENT", "50")
    monkeypatch.setenv("SERENO_ALERT_HIT_RATE_PERCENT", "80")
    monkeypatch.setenv("SERENO_ALERT_MIN_REQUESTS", "10")
    levels = [level for level, _ in run(report())[1]]
    assert levels == ["INFO", "INFO", "WARNING", "WARNING"]


@pytest.mark.parametrize("text", ["many", "-1", "nan"])
def test_a_threshold_that_is_no_number_fails_the_run_by_name(run, monkeypatch, text) -> None:
    monkeypatch.setenv("SERENO_ALERT_MIN_REQUESTS", text)
    result, _ = run(report())
    assert result["error"] == f"SERENO_ALERT_MIN_REQUESTS: {text!r} is not a number from 0 up"


@pytest.mark.parametrize(
    ("error", "text"),
    [(ConnectionError(), "ConnectionError"), (OSError("no space left"), "no space left")],
)
def test_an_error_is_returned_and_logged_to_the_letter(run, error, text) -> None:
    result, lines = run(error)
    assert set(result) == {"timestamp", "error", "entries_removed"}
    assert (result["error"], result["entries_removed"]) == (text, 0)
    assert lines[-1] == ("ERROR", f"Error durante limpieza de caché: {text}")


def test_it_is_registered_at_the_top_of_every_hour_by_a_calendar_trigger(units, manager) -> None:
    scheduler = Scheduler("sereno", scope="user", manager=manager)
    assert register_cache_cleanup_job(scheduler) == "cache_cleanup_hourly"
    (job,) = scheduler.get_jobs()
    assert job["trigger"] == "cron[0 * * * *]"
    files = scheduler.render()
    assert list(files) == [
        "sereno@cache_cleanup_hourly.timer",
        "sereno@cache_cleanup_hourly.service.d/50-sereno.conf",
    ]
    assert "\nOnCalendar=*-*-* *:00:00\n" in files["sereno@cache_cleanup_hourly.timer"]


def entry(cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("INVOCATION_ID", "PYTHONPATH")
    }
    return subprocess.run(
        [sys.executable, str(ENTRY)],
        env={**clean, "SERENO_CACHE_DIR": str(cache), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_entry_script_runs_from_a_checkout_and_logs_to_stderr(tmp_path: Path) -> None:
    done = entry(tmp_path / "cache")
    assert (done.returncode, done.stdout) == (0, "")
    started, first, last, finished = done.stderr.splitlines()
    assert started == "INFO: Tarea cache_cleanup_hourly iniciada"
    assert first == "INFO: Iniciando limpieza programada de caché de metadatos"
    assert re.fullmatch(
        r"INFO: Limpieza completada: 0 entradas eliminadas, ~0KB liberados,"
        r" duración: \d+\.\d\dms, hit rate: 0\.0%",
        last,
    )
    stats = json.loads(finished[finished.index("{") :])
    assert stats["entries_removed"] == 0


def test_the_entry_script_ends_with_1_when_the_cache_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = entry(tmp_path / "file" / "cache")
    assert done.returncode == 1
    assert "ERROR: Error durante limpieza de caché: " in done.stderr
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr
