"""What people get to read, and that a job's words cannot break out of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sereno.errors import NotAvailable
from sereno.notify.config import parse
from sereno.notify.evidence import Evidence, joined, judge
from sereno.notify.message import ALERT, FAILURE, RECOVERY, TEST, Event, compose
from sereno.notify.senders import compose_mail, environment
from sereno.records import journal
from sereno.records.account import Account, ask, of
from sereno.records.printable import printable
from sereno.records.run_record import PROCESS_EXITED, START_FAILED, UNIT_FAILED, UNIT_STOPPED

RUN = "0123456789abcdef0123456789abcdef"
FAILED = Event(
    FAILURE, "shop_sync", "ab" * 16, "web1", "system", 1_700_000_000.0,
    result="exit-code", exit_code="exited", exit_status="1", error="ValueError: no such table",
    failing_since_s=1_699_990_000.0, failures=12, untold=11, quiet_until_s=1_700_086_400.0,
    log=("Tarea shop_sync iniciada", "Tarea shop_sync fallida"),
)  # fmt: skip
(MAIL,) = parse('[[handler]]\ntype = "mail"\nto = ["a@b", "c"]\nfrom = "s@b"\n', "f").handlers


def test_people_read_english_where_the_service_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERENO_LANG", "en")
    message = compose(FAILED)
    assert message.subject == "[sereno] web1: shop_sync failed (exit-code, 1)"
    for part in ("Host:      web1\n", "Failures:  12 in a row since 2023-11-1", "Last lines:\n"):
        assert part in message.body


def test_a_failure_says_what_failed_how_since_when_and_where_to_look() -> None:
    message = compose(FAILED)
    assert message.subject == "[sereno] web1: shop_sync fallida (exit-code, 1)"
    for part in (
        "Tarea:     shop_sync\n", "Máquina:   web1\n", "Resultado: exit-code, 1\n",
        "Error:     ValueError: no such table\n", "Fallos:    12 seguidos desde 2023-11-1",
        "Sin aviso: 11 desde el aviso anterior\n", "Silencio:  los siguientes solo se cuentan, hasta 2023-11-1",
        "\n  Tarea shop_sync iniciada\n  Tarea shop_sync fallida\n", f"journalctl SERENO_RUN={'ab' * 16}\n",
    ):  # fmt: skip
        assert part in message.body
    assert message.payload["log"] == list(FAILED.log)
    assert message.payload["text"] == f"{message.subject}\n\n{message.body}"


@pytest.mark.parametrize(
    ("language", "said"), [("es", "límite de tiempo superado"), ("en", "time limit exceeded")]
)
def test_the_kind_of_an_error_has_no_language_and_is_shown_in_the_readers(
    monkeypatch: pytest.MonkeyPatch, language: str, said: str
) -> None:
    monkeypatch.setenv("SERENO_LANG", language)
    message = compose(replace(FAILED, error="over its time limit: a: b"))
    assert f"Error:     {said}: a: b\n" in message.body
    assert message.payload["error"] == "over its time limit: a: b"


def test_a_message_is_short_however_much_a_job_says() -> None:
    much = "x" * 10_000_000
    message = compose(
        Event(ALERT, "j", "r", "h", "system", 0.0, error=much, alert=much, log=(much,))
    )
    assert len(json.dumps(message.payload)) + len(message.body) < 10_000


def test_a_signal_is_called_one() -> None:
    event = Event(
        FAILURE,
        "j",
        "r",
        "h",
        "user",
        0.0,
        result="timeout",
        exit_code="killed",
        exit_status="TERM",
    )
    message = compose(event)
    assert message.subject == "[sereno] h: j fallida (timeout, señal TERM)"
    assert "journalctl --user SERENO_RUN=r" in message.body


def test_every_kind_of_event_has_the_same_keys() -> None:
    keys = set(compose(FAILED).payload)
    for kind in (RECOVERY, ALERT, TEST):
        payload = compose(Event(kind, "j", "r", "h", "system", 0.0, alert="disk")).payload
        assert set(payload) == keys
        assert payload["event"] == kind
        json.dumps(payload)


@given(st.text(), st.integers(2, 50))
def test_what_is_printable_is_one_line_of_bounded_length(text: str, most: int) -> None:
    line = printable(text, most)
    assert line.isprintable()
    assert len(line) <= most
    if text.isprintable() and len(text) <= most:
        assert line == text


@given(st.text(), st.text(), st.lists(st.text()))
def test_no_word_of_a_job_adds_a_header_a_line_or_a_recipient(
    name: str, error: str, log: list[str]
) -> None:
    event = Event(FAILURE, "job", name, name, "system", 0.0, error=error, log=tuple(log))
    message = compose(event)
    assert "\n" not in message.subject
    assert all(line.isprintable() for line in message.body.split("\n"))
    mail = compose_mail(MAIL, message)
    assert sorted(mail.keys()) == sorted(
        [
            *("To", "From", "Subject", "Date", "Auto-Submitted", "X-Sereno-Job", "X-Sereno-Event"),
            *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
        ]
    )
    head = mail.as_bytes().partition(b"\n\n")[0].decode("ascii")
    assert head.count("\nTo: ") + head.startswith("To: ") == 1
    assert mail["To"] == "a@b, c"
    assert all(value.isprintable() for value in environment(message).values())


def said(message: str | bytes, **fields: object) -> dict[str, object]:
    return {"MESSAGE": message, "SERENO_RUN": RUN, "__REALTIME_TIMESTAMP": 1e6, **fields}


CLOSED = said("fallida", MESSAGE_ID=journal.FAILED, SERENO_ERROR="E: x", SERENO_HINT="home=True")
EXIT_CODE = said(
    "Failed with result 'exit-code'.", MESSAGE_ID=UNIT_FAILED, UNIT_RESULT="exit-code", _PID="1"
)
JOB_FAILED = said("Failed to start", MESSAGE_ID=START_FAILED, JOB_RESULT="failed", _PID="1")
JOB_STOPPED = said("Stopped", MESSAGE_ID=UNIT_STOPPED, JOB_RESULT="done", _PID="1")


def test_the_evidence_is_the_runs_own_words_its_alerts_and_its_last_lines() -> None:
    records = [
        said("one"), said("almost full", SERENO_ALERT="disk"), said(b"raw \xff\ntwo"), CLOSED, EXIT_CODE,
    ]  # fmt: skip
    found = judge("j", records, 3)
    assert (found.status, found.error, found.hint) == ("failed", "E: x", "home=True")
    assert found.alerts == {"disk": "almost full"}
    assert found.lines == ("two", "fallida", "Failed with result 'exit-code'.")
    assert judge("j", records, 0).lines == ()
    assert judge("j", [], 5) == Evidence("", None, {}, ())


@pytest.mark.parametrize(
    ("records", "status", "told"),
    [
        ([CLOSED, EXIT_CODE, JOB_FAILED], "failed", True),
        ([CLOSED, EXIT_CODE, JOB_STOPPED], "interrupted", False),
        ([EXIT_CODE, JOB_STOPPED], "interrupted", False),
        # Nobody knows yet whether it was stopped, and better one message too many than none.
        ([EXIT_CODE], "", True),
        ([CLOSED], "failed", True),
    ],
)
def test_only_systemds_last_word_keeps_a_failure_from_being_told(records, status, told) -> None:
    found = judge("j", records, 1)
    assert (found.status, found.told) == (status, told)


def test_runs_are_read_back_as_systemd_would_have_told_them() -> None:
    records = [
        {"MESSAGE_ID": PROCESS_EXITED, "INVOCATION_ID": RUN, "EXIT_CODE": "killed", "EXIT_STATUS": "9"},
        {"MESSAGE_ID": UNIT_FAILED, "INVOCATION_ID": RUN, "UNIT_RESULT": "oom-kill"},
        # A run that was stopped: no failure.
        {"MESSAGE_ID": PROCESS_EXITED, "USER_INVOCATION_ID": "a", "EXIT_CODE": "exited", "EXIT_STATUS": "143"},
        {"MESSAGE_ID": PROCESS_EXITED, "USER_INVOCATION_ID": "b", "EXIT_CODE": "exited", "EXIT_STATUS": "1"},
        {"MESSAGE_ID": UNIT_FAILED, "USER_INVOCATION_ID": "b", "UNIT_RESULT": "exit-code"},
        # systemd could not start it.
        {"MESSAGE_ID": UNIT_FAILED, "USER_INVOCATION_ID": "c", "UNIT_RESULT": "resources"},
        said("bien", MESSAGE_ID=journal.FINISHED, SERENO_RUN="d"),
        # It crashed after it had said so.
        said("bien", MESSAGE_ID=journal.FINISHED, SERENO_RUN="e"),
        {"MESSAGE_ID": UNIT_FAILED, "INVOCATION_ID": "e", "UNIT_RESULT": "core-dump"},
        # What it requires did not start: recorded with the id of the run before.
        {"MESSAGE_ID": START_FAILED, "INVOCATION_ID": "f", "JOB_RESULT": "dependency"},
        {"MESSAGE_ID": START_FAILED, "INVOCATION_ID": RUN, "JOB_RESULT": "failed"},
    ]  # fmt: skip
    assert joined(records) == [
        Account(RUN, True, "oom-kill", "killed", "KILL"),
        Account("b", True, "exit-code", "exited", "1"),
        Account("c", True, "resources"),
        Account("d", True, "success", "exited", "0"),
        Account("e", True, "core-dump"),
        Account("", True, "dependency"),
    ]


SHOWN = {
    "InvocationID": RUN, "ActiveState": "inactive", "Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0",
    "InactiveExitTimestampMonotonic": "1000000", "InactiveEnterTimestampMonotonic": "2500000",
}  # fmt: skip


def test_the_managers_account_of_a_run_says_how_it_ended_and_when() -> None:
    assert of(SHOWN) == Account(RUN, True, "success", "exited", "0", 1.0, 2.5)
    killed = of(
        {
            **SHOWN,
            "ActiveState": "failed",
            "Result": "signal",
            "ExecMainCode": "2",
            "ExecMainStatus": "9",
        }
    )
    assert killed is not None
    assert killed[2:5] == ("signal", "killed", "KILL")
    # Nothing is believed of a unit that never ran.
    assert of({"InvocationID": "", "ActiveState": "inactive", "Result": "success"}) is None
    assert of({}) is None


@pytest.mark.parametrize(
    ("shown", "succeeded", "failed"),
    [
        ({}, True, False),
        ({"ActiveState": "activating"}, False, False),
        # Stopped, and left out.
        ({"ExecMainStatus": "143"}, False, False),
        ({"ExecMainStatus": "77"}, False, False),
        ({"ExecMainCode": "2", "ExecMainStatus": "15"}, False, False),
        # It left without a word of what it came to.
        ({"StatusText": "running"}, False, False),
        ({"StatusText": "success"}, True, False),
        # Not even started.
        ({"ExecMainCode": "0"}, False, False),
        ({"ActiveState": "failed", "Result": "resources", "ExecMainCode": "0"}, False, True),
        ({"ActiveState": "failed", "Result": "timeout", "ExecMainStatus": "0"}, False, True),
    ],
)
def test_a_run_has_succeeded_by_the_managers_account_only_if_it_ended_well_of_itself(
    shown, succeeded, failed
) -> None:
    account = of({**SHOWN, **shown})
    assert account is not None
    assert (account.has_succeeded, account.has_failed) == (succeeded, failed)


def test_only_services_that_the_manager_knows_are_asked_for() -> None:
    asked: list[tuple[str, ...]] = []

    class Manager:
        def list_units(self, *patterns: str, state: str = "") -> dict[str, Any]:
            return {"sereno@c.service": {}} if state == "failed" else {"sereno@a.service": {}}

        def show_all(self, units: Any, *properties: str) -> dict[str, Any]:
            asked.append(tuple(units))
            return dict.fromkeys(units, SHOWN)

    assert ask(Manager(), ["a", "b"]).keys() == {"a"}
    assert ask(Manager(), ["a", "b"], failed=True).keys() == {"a", "c"}
    assert ask(Manager(), [f"j{n}" for n in range(99)]) == {}
    assert asked == [("sereno@a.service",), ("sereno@a.service", "sereno@c.service"), ()]

    class Away(Manager):
        def list_units(self, *patterns: str, state: str = "") -> dict[str, Any]:
            raise NotAvailable("systemd: no manager")

    assert ask(Away(), ["a"]) == {}
