"""Journal records → runs, and what a period of them amounts to."""

import math
import os
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sereno.observe.totals import durations_ms, period_of, series, sparkline
from sereno.records import journal, verdict
from sereno.records.journal_reader import Vouching
from sereno.records.run_record import (
    PROCESS_EXITED,
    START_DONE,
    START_FAILED,
    UNIT_FAILED,
    UNIT_STOPPED,
    Run,
    iso,
    runs_of,
)

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
    found = record(kind, second, _PID="1", **fields)
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


DONE = by_systemd(START_DONE, 101, JOB_RESULT="done")
STOPPED = by_systemd(UNIT_STOPPED, 102, JOB_RESULT="done")
LIMIT = by_systemd("", 100.5, MESSAGE="sereno@job.service: start operation timed out. Terminating.")


def unit_failed(result: str, second: float = 101) -> dict[str, object]:
    return by_systemd(UNIT_FAILED, second, UNIT_RESULT=result)


def exited(code: str, status: int) -> dict[str, object]:
    return by_systemd(PROCESS_EXITED, 101, EXIT_CODE=code, EXIT_STATUS=str(status))


def one(*records: dict[str, object], running_id: str | None = None) -> Run:
    (run,) = runs_of("job", records, running_id=running_id)
    return run


def test_a_run_is_what_its_closing_record_says() -> None:
    assert one(STARTED, FINISHED, DONE) == Run(
        *("job", RUN, "success", 100, 101, 990.5, {"rows": 3}, "terminada"),
        said="success", exit_status=0, is_over=True,
    )  # fmt: skip
    assert one(FINISHED).start_s == pytest.approx(101 - 0.9905)


def test_a_failed_run_has_its_error_and_systemds_result() -> None:
    run = one(STARTED, FAILED, exited("exited", 1), unit_failed("exit-code"))
    assert (run.status, run.error, run.result) == ("failed", "ValueError: no", "exit-code")
    assert run.is_bad


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ((exited("killed", 9), unit_failed("signal")), "killed by SIGKILL"),
        ((LIMIT, exited("killed", 15), unit_failed("timeout")), "over its time limit"),
        ((unit_failed("timeout"),), verdict.LEFT_BEHIND),
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
    assert run.error == "its program cannot be executed, and the doctor knows why (status 203)"


def test_a_run_that_finished_and_whose_process_failed_is_failed() -> None:
    run = one(STARTED, FINISHED, LIMIT, unit_failed("timeout"))
    error = "it had ended as 'success', then: over its time limit"
    assert (run.status, run.error, run.message, run.stats) == ("failed", error, error, {"rows": 3})


def test_a_run_without_an_end_is_running_if_the_manager_says_so_and_else_lost() -> None:
    assert one(STARTED, running_id=RUN).status == "running"
    lost = one(STARTED, running_id="another")
    assert (lost.status, lost.error, lost.is_bad) == ("lost", verdict.CUT_OFF, True)
    left = one(STARTED, DONE, running_id=RUN)
    assert (left.status, left.error, left.duration_ms) == ("lost", verdict.LEFT, 1000)


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
    run = one({**FINISHED, "MESSAGE": [b"\xff", "b"], "SERENO_DURATION_MS": ["2", "x"]})
    assert (run.status, run.message, run.duration_ms) == ("success", "�", 2)


@pytest.mark.parametrize("odd", ["abc", "", "nan", "inf", "-1", "1e300", "9" * 5000, "٣ x"])
def test_a_duration_that_cannot_be_is_measured_by_the_records(odd: str) -> None:
    """Such a field spoils itself, and not the run, nor the command that shows it."""
    spoilt = {**FINISHED, "SERENO_DURATION_MS": odd, "SERENO_STATS": "[" * 100_000}
    run = one(STARTED, spoilt)
    assert (run.status, run.duration_ms, run.stats) == ("success", 1000, None)
    alone = one(spoilt)
    assert (alone.start_s, alone.duration_ms) == (None, None)
    assert period_of([run, alone]).counts == {"success": 2}
    assert iso(alone.end_s) is not None


def test_what_only_the_manager_can_know_is_not_taken_from_the_job() -> None:
    """A job may send any record in the name of its run, and print what the manager would say."""
    forged = [record(kind, 101, UNIT_RESULT="timeout") for kind in (UNIT_FAILED, UNIT_STOPPED)]
    printed = {**LIMIT, "_PID": "7"}
    run = one(STARTED, FINISHED, *forged, printed, DONE)
    assert (run.status, run.result, run.is_over) == ("success", None, True)
    died = one(STARTED, printed, exited("killed", 9), unit_failed("timeout"))
    assert died.error == verdict.LEFT_BEHIND


def test_a_start_that_was_none_is_no_run_and_changes_none() -> None:
    """A condition, an assertion or a dependency that is not met is recorded with the id of the run before."""
    for kind, result in ((START_DONE, "done"), (START_FAILED, "assert")):
        assert runs_of("job", [by_systemd(kind, 200, JOB_RESULT=result)]) == []
    later = by_systemd(START_FAILED, 200, JOB_RESULT="dependency")
    run = one(STARTED, FINISHED, DONE, later)
    assert (run.status, run.end_s) == ("success", 101)
    cut_off = one(STARTED, later)
    assert (cut_off.error, cut_off.end_s, cut_off.is_over) == (verdict.CUT_OFF, None, False)


def test_a_crash_after_the_record_is_named_with_its_signal() -> None:
    run = one(STARTED, FINISHED, exited("dumped", 11), unit_failed("core-dump"), DONE)
    assert (run.status, run.said, run.exit_status) == ("failed", "success", 11)
    assert run.error == run.message == "it had ended as 'success', then: killed by SIGSEGV"


def test_a_run_that_was_stopped_is_no_failure_whatever_its_process_made_of_it() -> None:
    for ended in ([exited("killed", 9), unit_failed("timeout")], [unit_failed("exit-code")], []):
        run = one(STARTED, *ended, STOPPED)
        assert (run.status, run.is_bad, run.told) == ("interrupted", False, False)
        run = one(STARTED, FAILED, *ended, STOPPED) if ended else run
        assert run.status == "interrupted"


def test_a_hint_of_the_run_is_kept_and_no_line_is_endless() -> None:
    run = one({**FAILED, "SERENO_HINT": "network=True", "SERENO_ERROR": "x" * 10_000_000})
    assert (run.hint, len(run.error or "")) == ("network=True", 2000)


SERVICE = "sereno@job.service"
OWN = {"_SYSTEMD_UNIT": SERVICE, "_UID": "7"}
NO_UNIT = {"SERENO_JOB": "job"}


@pytest.mark.parametrize(
    ("fields", "believed"),
    [
        (OWN, True),
        ({**OWN, "_UID": "4711"}, True),
        ({**NO_UNIT, "_UID": "0"}, True),
        ({**NO_UNIT, "_UID": "7"}, True),
        ({**NO_UNIT, "_UID": "1000"}, False),
        ({**NO_UNIT, "_UID": "0", "_SYSTEMD_UNIT": "sereno@other.service"}, False),
        ({**NO_UNIT, "_UID": "7", "_SYSTEMD_UNIT": "session-1.scope"}, False),
        ({**NO_UNIT, "_UID": "1000", "_SYSTEMD_UNIT": SERVICE, "_SYSTEMD_USER_UNIT": SERVICE}, False),
        ({"_PID": "1", "_UID": "0", "UNIT": SERVICE, "_SYSTEMD_UNIT": "init.scope"}, True),
        ({"_PID": "1", "_UID": "0", "UNIT": "sereno@other.service", **NO_UNIT}, False),
        ({"_PID": "17", "_UID": "1000", "UNIT": SERVICE, "INVOCATION_ID": RUN}, False),
        ({"_UID": "7"}, False),
        ({}, False),
    ],
)  # fmt: skip
def test_a_record_counts_only_where_journalds_own_fields_vouch_for_it(
    fields: dict[str, str], believed: bool
) -> None:
    vouching = Vouching(user=False, users_of=lambda job_id: frozenset("7"))
    assert vouching.vouches(fields, "job") is believed


@pytest.mark.parametrize(
    ("fields", "believed"),
    [
        ({"_SYSTEMD_USER_UNIT": SERVICE}, True),
        (NO_UNIT, True),
        ({**NO_UNIT, "_SYSTEMD_USER_UNIT": "app-terminal.scope"}, False),
        # A job of the same id that the system's manager runs as this user.
        (OWN, False),
        ({"_SYSTEMD_USER_UNIT": "init.scope", "USER_UNIT": SERVICE}, True),
        ({"_SYSTEMD_USER_UNIT": "init.scope", "USER_UNIT": "sereno@other.service"}, False),
        ({"_PID": "1", "UNIT": SERVICE}, False),
    ],
)
def test_in_a_users_scope_only_that_users_own_records_count(
    fields: dict[str, str], believed: bool
) -> None:
    vouching = Vouching(user=True)
    assert vouching.vouches({**fields, "_UID": str(os.geteuid())}, "job") is believed
    assert not vouching.vouches({**fields, "_UID": "4711"}, "job")


def test_whose_records_count_is_asked_once_for_a_job_and_only_if_it_matters() -> None:
    asked = []
    vouching = Vouching(user=False, users_of=lambda job_id: frozenset(asked.append(job_id) or "7"))
    assert vouching.vouches(OWN, "job")
    assert asked == []
    for _ in range(60):
        assert not vouching.vouches({**NO_UNIT, "_UID": "1000"}, "job")
    assert asked == ["job"]


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
