"""Journal records → runs, and what a period of them amounts to."""

import math
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sereno import journal
from sereno.history import (
    LOST,
    PROCESS_EXITED,
    UNIT_FAILED,
    Run,
    iso,
    runs_of,
)
from sereno.period import durations_ms, period_of, series, sparkline

RUN = "0123456789abcdef0123456789abcdef"


def record(kind: str, second: float, **fields: str) -> dict[str, object]:
    return {
        "MESSAGE_ID": kind,
        "SERENO_RUN": RUN,
        "__REALTIME_TIMESTAMP": round(second * 1e6),
        **fields,
    }


def by_systemd(kind: str, second: float, **fields: str) -> dict[str, object]:
    """systemd names the run by another field."""
    found = record(kind, second, **fields)
    found["INVOCATION_ID"] = found.pop("SERENO_RUN")
    return found


STARTED = record(journal.STARTED, 100)
FINISHED = record(
    journal.FINISHED, 101, SERENO_STATUS="success", SERENO_DURATION_MS="990.50",
    SERENO_STATS='{"rows": 3}', MESSAGE="terminada",
)  # fmt: skip
FAILED = record(
    journal.FAILED, 101, SERENO_STATUS="failed", SERENO_DURATION_MS="10.00",
    SERENO_ERROR="ValueError: no", MESSAGE="fallida",
)  # fmt: skip


def unit_failed(result: str, second: float = 101) -> dict[str, object]:
    return by_systemd(UNIT_FAILED, second, UNIT_RESULT=result)


def exited(code: str, status: int) -> dict[str, object]:
    return by_systemd(PROCESS_EXITED, 101, EXIT_CODE=code, EXIT_STATUS=str(status))


def one(*records: dict[str, object], running_id: str | None = None) -> Run:
    (run,) = runs_of("job", records, running_id=running_id)
    return run


def test_a_run_is_what_its_closing_record_says() -> None:
    assert one(STARTED, FINISHED) == Run(
        "job", RUN, "success", 100, 101, 990.5, {"rows": 3}, "terminada"
    )
    assert one(FINISHED).start_s == pytest.approx(101 - 0.9905)


def test_a_failed_run_has_its_error_and_systemds_result() -> None:
    run = one(STARTED, FAILED, exited("exited", 1), unit_failed("exit-code"))
    assert (run.status, run.error, run.result) == ("failed", "ValueError: no", "exit-code")
    assert run.is_bad


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ((exited("killed", 9), unit_failed("signal")), "killed by SIGKILL"),
        ((exited("killed", 15), unit_failed("timeout")), "over its time limit"),
        ((exited("killed", 9), unit_failed("oom-kill")), "out of memory"),
        ((exited("dumped", 11), unit_failed("core-dump")), "killed by SIGSEGV"),
        ((exited("exited", 7), unit_failed("exit-code")), "exit status 7"),
        ((unit_failed("resources"),), "systemd could not start it"),
        ((unit_failed("protocol"),), "systemd's result is 'protocol'"),
        ((exited("exited", 217), unit_failed("exit-code")), "its user is missing (status 217)"),
        ((exited("killed", 99), unit_failed("signal")), "systemd's result is 'signal'"),
    ],
)
def test_a_run_that_died_without_a_record_is_failed_and_says_why(records, why: str) -> None:
    run = one(STARTED, *records)
    assert (run.status, run.error, run.stats) == ("failed", why, None)
    assert (run.start_s, run.end_s, run.duration_ms) == (100, 101, 1000)


def test_a_run_that_systemd_could_not_start_is_failed_without_a_start() -> None:
    run = one(exited("exited", 203), unit_failed("exit-code"))
    assert (run.status, run.start_s, run.duration_ms) == ("failed", None, None)
    assert run.error == "its program cannot be executed (status 203)"


def test_a_run_that_finished_and_whose_process_failed_is_failed() -> None:
    run = one(STARTED, FINISHED, unit_failed("timeout"))
    assert (run.status, run.error, run.stats) == ("failed", "over its time limit", {"rows": 3})


def test_a_run_without_an_end_is_running_if_the_manager_says_so_and_else_lost() -> None:
    assert one(STARTED, running_id=RUN).status == "running"
    lost = one(STARTED, running_id="another")
    assert (lost.status, lost.error, lost.is_bad) == ("lost", LOST, True)


def test_a_skipped_run_is_no_failure_and_has_no_duration_in_the_means() -> None:
    skipped = one(record(journal.SKIPPED, 101, SERENO_STATUS="skipped", SERENO_DURATION_MS="0.00"))
    assert not skipped.is_bad
    found = period_of([skipped, one(STARTED, FINISHED)])
    assert found.counts == {"skipped": 1, "success": 1}
    assert found.duration_ms is not None
    assert found.duration_ms.mean == 990.5


@pytest.mark.parametrize("stats", ["[1]", "{", "7", "null"])
def test_statistics_that_are_no_object_are_none(stats: str) -> None:
    assert one({**FINISHED, "SERENO_STATS": stats}).stats is None


def test_a_field_that_was_given_twice_or_is_not_utf8_is_no_obstacle() -> None:
    run = one({**FINISHED, "MESSAGE": [b"\xff", "b"], "SERENO_STATUS": ["success", "failed"]})
    assert (run.status, run.message) == ("success", "�")


def runs(*stats: dict[str, object]) -> list[Run]:
    return [
        Run("job", str(number), "success", number, number + 1, 10.0 * (number + 1), each)
        for number, each in enumerate(stats)
    ]


def test_a_period_sums_amounts_and_never_rates_or_sizes() -> None:
    found = period_of(
        runs(
            {"entries_removed": 150, "entries_after": 1100, "hit_rate": 80.0, "note": "x"},
            {"entries_removed": 50, "entries_after": 1200, "hit_rate": 60.0, "flag": True},
        )
    )
    assert found.counts == {"success": 2}
    assert found.statistics["entries_removed"] == (200, 100, 50, 150, 50)
    assert found.statistics["entries_after"] == (None, 1150, 1100, 1200, 1200)
    assert found.statistics["hit_rate"] == (None, 70, 60, 80, 60)
    assert set(found.statistics) == {"entries_removed", "entries_after", "hit_rate"}
    assert found.duration_ms == (30, 15, 10, 20, 20)


def test_an_empty_period_is_zeros_and_no_division() -> None:
    assert period_of([]).as_json() == {
        "runs": 0,
        "counts": {},
        "duration_ms": None,
        "statistics": {},
    }


def test_a_series_has_the_values_of_one_statistic_in_order() -> None:
    found = runs({"rows": 3}, {}, {"rows": "x"}, {"rows": 1})
    assert series(found, "rows") == [3, 1]
    assert durations_ms(found) == [10, 20, 30, 40]


@pytest.mark.parametrize("odd", [True, "12", [1], math.nan, math.inf, 1.7e308, -(10**400)])
def test_a_statistic_that_cannot_be_added_up_is_no_figure(odd: object) -> None:
    found = runs({"rows": odd}, {"rows": 2}, {"rows": odd})
    assert series(found, "rows") == [2]
    assert period_of(found).statistics["rows"] == (2, 2, 2, 2, 2)


def test_a_sparkline_goes_from_the_least_to_the_most() -> None:
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5, 5]) == "▁▁▁"
    assert sparkline([]) == ""
    assert sparkline([0, 7], ascii_only=True) == "_#"
    assert sparkline([0, 0, 10, 10], width=2) == "▁█"


@given(st.lists(st.floats(-1e300, 1e300), max_size=200), st.integers(1, 60))
def test_a_sparkline_of_anything_fits(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) == min(width, len(values))


def test_times_are_iso_8601_with_an_offset() -> None:
    assert iso(1.5, UTC) == "1970-01-01T00:00:01.500+00:00"
    assert iso(None) is None
