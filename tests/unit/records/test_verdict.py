"""One rule makes a run's closing record and systemd's account of it one truth: every row of its table."""

from __future__ import annotations

import itertools

import pytest

from sereno.errors import OVER_LIMIT
from sereno.records.verdict import (
    CUT_OFF,
    LEFT,
    LEFT_BEHIND,
    STOPPED,
    Seen,
    Verdict,
    exit_of,
    verdict,
)

RECORDS = (None, "success", "failed", "skipped", "interrupted")
RESULTS = {
    "exit-code": ("exited", "7", "exit status 7"),
    "signal": ("killed", "9", "killed by SIGKILL"),
    "core-dump": ("dumped", "11", "killed by SIGSEGV"),
    "oom-kill": ("killed", "9", "out of memory"),
    "watchdog": ("killed", "6", "killed by SIGABRT"),
    "resources": ("", "", "systemd could not start it"),
    "start-limit-hit": ("", "", "started too often"),
    "protocol": ("", "", "systemd's result is 'protocol'"),
}
E = "ValueError: no"


def seen(record: str | None, result: str = "success", **fields: bool) -> Seen:
    code, status, _ = RESULTS.get(result, ("", "", ""))
    error = E if record in ("failed", "interrupted", "skipped") else None
    return Seen(record, error, result, code, status, **fields)


@pytest.mark.parametrize("record", RECORDS)
def test_a_run_that_goes_on_is_running_whatever_it_has_recorded(record: str | None) -> None:
    assert verdict(seen(record, running=True, ended=False)) == Verdict("running", None, told=False)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_success_is_what_both_say(stopped: bool) -> None:
    assert verdict(seen("success", stopped=stopped)) == Verdict("success", None, told=False)


@pytest.mark.parametrize("record", ["success", "skipped"])
@pytest.mark.parametrize("result", RESULTS)
def test_what_systemd_saw_outweighs_the_record_of_a_run_that_ended_well(
    record: str, result: str
) -> None:
    words = f"it had ended as {record!r}, then: {RESULTS[result][2]}"
    assert verdict(seen(record, result)) == Verdict("failed", words, told=True)


@pytest.mark.parametrize("record", [None, "success", "skipped"])
@pytest.mark.parametrize(("limit", "words"), [(True, OVER_LIMIT), (False, LEFT_BEHIND)])
def test_a_limit_is_said_of_nothing_but_the_limit(
    record: str | None, limit: bool, words: str
) -> None:
    found = verdict(seen(record, "timeout", limit=limit))
    assert (found.status, found.told) == ("failed", True)
    assert found.error is not None
    assert found.error.endswith(words)
    assert (found.error == words) is (record is None)


@pytest.mark.parametrize("record", RECORDS)
def test_what_somebody_stopped_is_interrupted_and_not_told(record: str | None) -> None:
    for limit in (False, True):
        found = verdict(seen(record, "timeout", stopped=True, limit=limit))
        assert (found.status, found.told, exit_of(found.status)) == ("interrupted", False, 143)
        assert found.error is not None
        assert (found.error == E) is (record in ("failed", "interrupted"))


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ("exit-code", E),
        ("timeout", E),
        ("signal", f"{E}; then: killed by SIGKILL"),
        ("core-dump", f"{E}; then: killed by SIGSEGV"),
        ("oom-kill", f"{E}; then: out of memory"),
    ],
)
def test_a_failure_has_its_own_words_and_what_systemd_saw_beside(result: str, error: str) -> None:
    assert verdict(seen("failed", result, limit=True)) == Verdict("failed", error, told=True)


def test_a_failure_that_an_administrator_takes_for_none_calls_nobody() -> None:
    assert verdict(seen("failed")) == Verdict("failed", E, told=False)


@pytest.mark.parametrize(
    ("account", "status", "error"),
    [
        (seen("interrupted", stopped=True), "interrupted", E),
        (seen("interrupted", "exit-code"), "failed", f"ended by a signal that systemd did not send: {E}"),
        (seen("interrupted", "timeout", limit=True), "failed", f"{OVER_LIMIT}: {E}"),
        (seen("interrupted", "signal"), "failed", f"killed by SIGKILL: {E}"),
    ],
)  # fmt: skip
def test_an_interrupted_run_is_judged_by_what_interrupted_it(
    account: Seen, status: str, error: str
) -> None:
    assert verdict(account) == Verdict(status, error, told=status == "failed")


def test_a_run_that_ran_out_of_memory_while_it_was_stopped_is_a_failure() -> None:
    found = verdict(seen(None, "oom-kill", stopped=True))
    assert found == Verdict("failed", "out of memory", told=True)


def test_a_run_that_was_left_out_as_a_failure_has_its_own_words() -> None:
    seen = Seen(
        "skipped", "not run: no store", result="exit-code", exit_code="exited", exit_status="1"
    )
    assert verdict(seen) == Verdict("failed", "not run: no store", told=True)


def test_a_skipped_run_keeps_its_reason() -> None:
    assert verdict(seen("skipped")) == Verdict("skipped", E, told=False)


@pytest.mark.parametrize("result", RESULTS)
def test_a_run_without_a_record_that_failed_is_known_by_systemds_words(result: str) -> None:
    assert verdict(seen(None, result)) == Verdict("failed", RESULTS[result][2], told=True)


@pytest.mark.parametrize("number", [200, 203, 216, 217, 226, 243])
def test_what_systemd_itself_ends_with_is_explained(number: int) -> None:
    found = verdict(Seen(result="exit-code", exit_code="exited", exit_status=str(number)))
    assert found.error is not None
    assert found.error.endswith(f" (status {number})")
    assert not found.error.startswith("exit status")


@pytest.mark.parametrize(
    ("account", "status", "error"),
    [
        (seen(None, stopped=True), "interrupted", STOPPED),
        (seen(None), "lost", LEFT),
        (seen(None, ended=False), "lost", CUT_OFF),
    ],
)
def test_a_run_without_a_record_and_without_a_failure_is_no_success(
    account: Seen, status: str, error: str
) -> None:
    assert verdict(account) == Verdict(status, error, told=False)


def test_no_account_of_any_kind_makes_an_exception_or_a_success_of_half() -> None:
    """All of them, those that no systemd ever gives included."""
    flags = list(itertools.product((False, True), repeat=3))
    results = ("success", "timeout", *RESULTS, "a word of a later systemd")
    for record, result, (stopped, limit, ended) in itertools.product(RECORDS, results, flags):
        found = verdict(seen(record, result, stopped=stopped, limit=limit, ended=ended))
        success = record == "success" and result == "success"
        assert (found.status == "success") is success is (exit_of(found.status) == 0)
        assert (found.error is None) is success
        assert not (found.told and found.status != "failed")
        assert not (stopped and found.told and result != "oom-kill")
        assert limit or OVER_LIMIT not in (found.error or "")
