"""What a run of a fleet's job claims, and what it says when it may not begin."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from typing import Any

import pytest

import sereno
from sereno.errors import FleetError, NotAvailable
from sereno.fleet.claim import APART, PAUSED, RESUMED, RUNNING, TAKEN, Answer, Claim, Lost
from sereno.manager import analyze
from sereno.manager.systemctl import Systemctl
from sereno.records import log
from sereno.run.claiming import Claiming

pytestmark = pytest.mark.skipif(
    shutil.which(analyze.PROGRAM) is None, reason="no systemd-analyze (package systemd)"
)
NOON_S = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
ENVIRON = {
    "SERENO_FLEET_APP": "shop",
    "SERENO_DECLARATION": "cron[0 12 * * *] shop.jobs:f",
    "SERENO_TIMER_SLACK_S": "61",
}


class TheStore:
    """Answers what it is told to."""

    def __init__(
        self, answer: Answer | Exception, lost: tuple[Lost, ...] = (), ends: Any = True
    ) -> None:
        self.answer, self.lost, self.ends = answer, lost, ends
        self.claims: list[Claim] = []
        self.ended: list[tuple[object, ...]] = []

    def claim(self, claim: Claim, tell: Any) -> Answer:
        self.claims.append(claim)
        for one in self.lost:
            tell(one)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def end(self, *given: object) -> bool:
        self.ended.append(given)
        if isinstance(self.ends, Exception):
            raise self.ends
        return self.ends


def claiming(
    store: Any, *, elapsed: str = "2h", timeout: str = "1h", lost: Any = lambda: None
) -> Claiming:
    calendar = "{ OnCalendar=*-*-* 12:00:00 UTC ; next_elapse=Fri 2026-01-02 12:00:00 UTC }"
    shown = (
        f"Id=sereno@books.timer\nLastTriggerUSecMonotonic={elapsed}\nTimersCalendar={calendar}\n\n"
        "Id=sereno@books.service\nInactiveEnterTimestampMonotonic=3600000000\n"
        f"TimeoutStartUSec={timeout}\nTimeoutStopUSec=12s\n"
    )
    manager = Systemctl(call=lambda argv, _: subprocess.CompletedProcess(argv, 0, shown, ""))
    return Claiming("books", "0f" * 16, ENVIRON, lost, store=store, manager=manager)


@pytest.fixture(autouse=True)
def _no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERENO_FENCE", "")


def test_what_is_claimed_is_the_elapse_and_not_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TheStore(Answer(token=41))
    for late_s in (0.03, 59.0, 7200.0):
        assert claiming(store).skip(NOON_S + late_s) is None
    assert {claim.elapse_s for claim in store.claims} == {NOON_S}
    claim = store.claims[0]
    assert (claim.app, claim.job, claim.kind, claim.run) == ("shop", "books", "timer", "0f" * 16)
    assert (claim.host, claim.lease_s) == (os.uname().nodename, 3612.0)
    assert claim.declaration == "cron[0 12 * * *] shop.jobs:f"
    assert sereno.fence() == 41


def test_the_lease_is_the_managers_own_limit_and_never_endless() -> None:
    store = TheStore(Answer(token=1))
    for timeout in ("5min 30s", "infinity"):
        claiming(store, timeout=timeout).skip(NOON_S + 1)
    assert [claim.lease_s for claim in store.claims] == [342.0, 366 * 86_400.0]


def test_a_run_that_the_timer_did_not_start_is_one_by_hand_at_its_own_moment() -> None:
    store = TheStore(Answer(token=1))
    assert claiming(store, elapsed="59min 59.9s").skip(NOON_S + 100.5) is None
    assert (store.claims[0].kind, store.claims[0].elapse_s) == ("hand", NOON_S + 100.5)


@pytest.mark.parametrize(
    ("answer", "says", "level"),
    (
        (
            Answer(reason=TAKEN, host="alba", state="success"),
            "su hora de 2026-01-01 12:00:00 UTC es de alba (success)",
            log.INFO,
        ),
        (Answer(reason=RUNNING, host="alba", since_s=NOON_S - 60), "en alba desde 2026-01-01 11:59:00", log.WARNING),
        (Answer(reason=PAUSED, since_s=NOON_S - 60), "en pausa en toda la flota desde 2026-01-01 11:59", log.INFO),
        (Answer(reason=RESUMED, since_s=NOON_S + 1), "12:00:00 UTC es anterior al fin de la pausa", log.INFO),
        (Answer(reason=APART, ahead_s=3600.0), "el reloj está a +3600.0s del de la flota, más de 2s", log.ERROR),
        (KeyError("gone"), "no se puede pedir su turno: KeyError: 'gone'", log.ERROR),
        (FleetError("fleet: no answer"), "no se puede pedir su turno: fleet: no answer", log.ERROR),
    ),
)  # fmt: skip
def test_a_run_that_may_not_begin_says_why_and_an_unknown_answer_is_a_failure(
    answer: Answer | Exception, says: str, level: int
) -> None:
    skipped = claiming(TheStore(answer)).skip(NOON_S + 1)
    assert skipped is not None
    text, fields, as_level = skipped
    assert text.startswith("Tarea books omitida: ") and says in text
    assert (as_level, fields["SERENO_ELAPSE"]) == (level, "2026-01-01T12:00:00+00:00")
    assert ("SERENO_ERROR" in fields) is (level == log.ERROR)
    with pytest.raises(NotAvailable):
        sereno.fence()


def test_where_nobody_can_be_asked_the_run_is_left_out_as_a_failure(tmp_path: Any) -> None:
    url_file = tmp_path / "fleet.url"
    for environ, says in (
        ({}, "SERENO_FLEET_URL_FILE: not set"),
        ({"SERENO_FLEET_URL_FILE": str(url_file)}, "cannot be read: No such file"),
    ):
        one = claiming(None)
        one._environ = {**ENVIRON, **environ}
        skipped = one.skip(NOON_S + 1)
        assert skipped is not None and skipped[2] == log.ERROR
        assert says in skipped[1]["SERENO_ERROR"]
    one = claiming(None)
    one._manager = Systemctl(
        call=lambda argv, _: subprocess.CompletedProcess(argv, 1, "", "no bus")
    )
    skipped = one.skip(time.time())
    assert skipped is not None and "no bus" in skipped[1]["SERENO_ERROR"]


def test_a_store_whose_answer_nobody_knows_hears_of_the_end_and_one_that_was_not_asked_does_not(
    told: Any,
) -> None:
    unsure = claiming(TheStore(FleetError("fleet: cut off"), ends=False))
    for one, holds in (
        (unsure, None),
        (claiming(TheStore(Answer(token=1))), True),
        (claiming(TheStore(Answer(reason=TAKEN))), False),
    ):
        assert one.holds is False
        one.skip(NOON_S + 1)
        assert one.holds is holds
    # Most probably there was nothing to record.
    unsure.end("skipped", 0.0, "not run", None)
    assert told == []


def test_a_lost_run_is_told_by_whoever_finds_it_also_when_it_may_not_run_itself(told: Any) -> None:
    calls: list[None] = []
    store = TheStore(Answer(reason=TAKEN, host="cala"), (Lost(NOON_S, "alba", "aa" * 16),))
    claiming(store, lost=lambda: calls.append(None)).skip(NOON_S + 1)
    ((level, text, fields),) = told
    assert (level, fields["SERENO_ALERT"]) == (log.ERROR, "lost")
    assert "de su hora de 2026-01-01 12:00:00 UTC en alba nadie anotó el fin" in text
    assert len(calls) == 1


def test_an_end_that_the_store_does_not_take_is_recorded_and_changes_nothing(told: Any) -> None:
    for ends, says in (
        (True, ""),
        (False, "se dio antes por perdida"),
        (FleetError("fleet: gone"), "fleet: gone"),
    ):
        claiming(TheStore(Answer(token=1), ends=ends)).end("success", 0.01, None, "{}")
        if says:
            level, text, _ = told.pop()
            assert level == log.WARNING and text.endswith(f"su fin no se anotó en la flota: {says}")
    assert told == []


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, dict[str, Any]]]:
    found: list[tuple[int, str, dict[str, Any]]] = []
    monkeypatch.setattr(
        log, "_direct", lambda level, text, fields: found.append((level, text, dict(fields)))
    )
    return found
