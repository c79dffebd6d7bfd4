"""Claims on a real PostgreSQL: per elapse at most one, never two at once, and no answer is never a yes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from racers import claim_of

from database import SCHEMA, Database
from sereno.errors import FAILURE, FleetError
from sereno.fleet import postgresql
from sereno.fleet.claim import Answer, Lost
from sereno.fleet.postgresql import PostgreSQL
from sereno.run.claiming import Claiming
from sereno.run.closing import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Its processes sleep from elapse to elapse.
pytestmark = pytest.mark.waiting
HOSTS = ("alba", "brisa", "cala")
NOON_S = 1_800_000_000
# Of all that is not about the limit of a run: a busy machine may take longer.
PATIENCE_S = 60.0
LONG = os.environ.get("SERENO_TEST_LONG") == "1"
RACES = 300 if LONG else 100
# Seconds from the moment of a claim: before it, in it, in the run, when that has ended. Each costs a server's start.
DEATHS_S = (
    (-0.002, 0.0, 0.002, 0.004, 0.008, 0.02, 0.3, 1.5) if LONG else (-0.002, 0.004, 0.02, 0.3, 1.5)
)


@pytest.fixture(params=postgresql.DRIVERS)
def store(
    request: pytest.FixtureRequest, database: Database, monkeypatch: pytest.MonkeyPatch
) -> PostgreSQL:
    pytest.importorskip(request.param, reason=f"claims need python3-{request.param}")
    monkeypatch.setattr(postgresql, "DRIVERS", (request.param,))
    return PostgreSQL(database.url, limit_s=PATIENCE_S)


def claimed(store: PostgreSQL, host: str, lost: list[Lost] | None = None, **given: Any) -> Answer:
    claim = claim_of(host, {"elapse_s": NOON_S, **given})
    return store.claim(claim, (lost if lost is not None else []).append)


def test_an_elapse_is_claimed_once_also_when_its_run_is_over(
    store: PostgreSQL, database: Database
) -> None:
    first = claimed(store, "alba")
    assert first.token is not None
    assert claimed(store, "brisa")[:4] == (None, "taken", "alba", "running")
    assert store.end(f"alba-{NOON_S}", "success", 10.5, None, '{"rows": 3}')
    assert claimed(store, "brisa")[:4] == (None, "taken", "alba", "success")
    assert not store.end(f"alba-{NOON_S}", "failed", 1, "twice", None)
    second = claimed(store, "brisa", elapse_s=NOON_S + 60)
    assert second.token is not None and second.token > first.token
    assert database.sql(
        "select host, state, duration_ms, stats->>'rows' from sereno.elapse order by elapse"
    ) == [
        ["alba", "success", "10.5", "3"],
        ["brisa", "running", "", ""],
    ]


def test_what_a_run_leaves_comes_back_as_it_was(store: PostgreSQL) -> None:
    assert claimed(store, "alba", kind="hand").token
    stats = {"rows": 3, "nul": "\0", "word": "caché", "half": 0.5, "big": 10**400}
    assert store.end(f"alba-{NOON_S}", "failed", 10.5, "ValueError: añil", json.dumps(stats))
    (run,) = store.runs("shop", "books", 10)
    whose = ("shop", "books", NOON_S, "hand", "alba", f"alba-{NOON_S}")
    assert run == (*whose, "failed", run.began_s, 10.5, "ValueError: añil", stats)
    assert store.jobs() == [("shop", "books", None, run)]
    assert [host.host for host in store.hosts()] == ["alba"]
    assert abs(store.ahead_s()) < 1


def test_another_elapse_waits_for_the_run_under_way_also_for_one_by_hand(store: PostgreSQL) -> None:
    assert claimed(store, "alba").token
    for kind in ("timer", "hand"):
        answer = claimed(store, "brisa", elapse_s=NOON_S + 60, kind=kind)
        assert (answer.token, answer.reason, answer.host) == (None, "running", "alba")
        assert abs(answer.since_s - time.time()) < 5
    assert claimed(store, "brisa", job="letters").token
    assert claimed(store, "brisa", app="other").token


def test_a_lease_that_is_over_is_lost_and_told_to_one_and_its_own_end_comes_too_late(
    store: PostgreSQL, database: Database
) -> None:
    assert claimed(store, "alba", lease_s=0.05).token
    time.sleep(0.1)
    lost: list[Lost] = []
    for host, elapse_s in (("brisa", NOON_S + 60), ("cala", NOON_S + 60), ("cala", NOON_S)):
        claimed(store, host, lost, elapse_s=elapse_s)
    assert lost == [Lost(NOON_S, "alba", f"alba-{NOON_S}")]
    assert not store.end(f"alba-{NOON_S}", "success", 1, None, None)
    assert database.sql("select host, state from sereno.elapse order by elapse") == [
        ["alba", "lost"],
        ["brisa", "running"],
    ]


def test_a_host_that_starts_again_knows_that_its_own_run_is_over(store: PostgreSQL) -> None:
    """systemd starts a job once at a time, so there is no lease to wait for."""
    assert claimed(store, "alba").token
    lost: list[Lost] = []
    assert claimed(store, "alba", lost, elapse_s=NOON_S + 60, boot="another").reason == "running"
    assert claimed(store, "alba", lost, elapse_s=NOON_S + 60).token
    assert lost == [Lost(NOON_S, "alba", f"alba-{NOON_S}")]


def test_a_clock_that_is_apart_claims_nothing(
    store: PostgreSQL, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ahead_s in (3600.0, -2.5):
        monkeypatch.setattr(postgresql, "time", lambda ahead_s=ahead_s: time.time() + ahead_s)
        answer = claimed(store, "alba")
        assert (answer.token, answer.reason) == (None, "apart")
        assert answer.ahead_s == pytest.approx(ahead_s, abs=0.5)
        ((seen_s,),) = database.sql("select ahead_s from sereno.host")
        assert float(seen_s) == pytest.approx(ahead_s, abs=0.5)
    monkeypatch.setattr(postgresql, "time", lambda: time.time() + 1.5)
    assert claimed(store, "alba").token


def test_a_paused_job_is_claimed_by_hand_alone_and_nothing_is_made_up_when_it_is_resumed(
    store: PostgreSQL,
) -> None:
    began_s = time.time()
    assert store.switch("shop", "books", on=False)
    assert not store.switch("shop", "books", on=False)
    answer = claimed(store, "alba", elapse_s=began_s)
    assert (answer.token, answer.reason) == (None, "paused")
    assert answer.since_s == pytest.approx(began_s, abs=5)
    assert claimed(store, "brisa", kind="hand").token
    assert store.end(f"brisa-{NOON_S}", "success", 1, None, None)
    assert store.switch("shop", "books", on=True)
    assert not store.switch("shop", "books", on=True)
    assert claimed(store, "alba", elapse_s=began_s).reason == "resumed"
    assert claimed(store, "alba", elapse_s=time.time() + 1).token


def test_a_store_that_is_gone_frozen_or_not_prepared_is_an_error_within_the_limit(
    store: PostgreSQL, database: Database
) -> None:
    database.freeze()
    began = time.monotonic()
    with pytest.raises(FleetError, match="no answer of the store within 2 s"):
        claimed(PostgreSQL(database.url), "alba")
    assert 2 < time.monotonic() - began < 10
    database.freeze(thaw=True)
    # What was on its way came too late to be a claim.
    time.sleep(0.3)
    assert database.sql("select count(*) from sereno.elapse") == [["0"]]
    database.kill()
    with pytest.raises(FleetError, match="fleet: connection"):
        claimed(store, "alba")
    database.start()
    assert claimed(store, "alba").token
    database.sql("alter schema sereno rename to gone")
    with pytest.raises(FleetError, match="does not exist") as caught:
        claimed(store, "brisa")
    assert "`fleet init`" in str(caught.value)
    database.sql("alter schema gone rename to sereno")


@pytest.mark.parametrize(
    "url",
    (
        "postgresql://ana:s3cr%zzt@/db",
        "postgresql://ana:s3cr3t@[::1/db",
        "postgresql:///db?host=/nowhere&password=s3cr3t&nonsense=1",
        "host=/nowhere password=s3cr3t",
        "postgresql://ana:s3cr3t@/db\0",
    ),
)
def test_no_error_shows_a_password(url: str) -> None:
    with pytest.raises(FleetError) as caught:
        PostgreSQL(url).end("run", "failed", None, None, None)
    assert "s3cr" not in str(caught.value)


def test_the_schema_can_be_applied_again_and_a_role_needs_no_more_than_it_grants(
    database: Database,
) -> None:
    database.sql("drop role if exists app; create role app login;")
    database.sql(postgresql.schema("app"))
    database.sql(postgresql.schema("app"))
    assert SCHEMA.read_text() in postgresql.schema("app")
    assert postgresql.schema('o"dd').count('"o""dd"') == 3
    store = PostgreSQL(database.url.replace("sereno@", "app@"), limit_s=PATIENCE_S)
    assert claimed(store, "alba").token
    assert store.end(f"alba-{NOON_S}", "success", 1, None, None)
    assert store.switch("shop", "books", on=False)
    assert [job.latest.host for job in store.jobs() if job.latest] == ["alba"]
    with pytest.raises(AssertionError, match="must be owner"):
        database.sql("set role app; drop table sereno.elapse")


def test_old_rows_go_and_the_newest_of_a_job_stays(store: PostgreSQL, database: Database) -> None:
    for number in range(3):
        assert claimed(store, "alba", elapse_s=1_000_000_000 + number).token
        assert store.end(f"alba-{1_000_000_000 + number}", "success", 1, None, None)
    assert database.sql("select extract(epoch from elapse)::int from sereno.elapse") == [
        ["1000000002"]
    ]


def test_a_run_by_hand_has_no_elapse_of_the_timer_forgotten(
    store: PostgreSQL, database: Database
) -> None:
    """A yearly job: a host that was off for long would run what the fleet has run."""
    assert claimed(store, "alba", elapse_s=1_000_000_000).token
    assert store.end("alba-1000000000", "success", 1, None, None)
    assert claimed(store, "alba", kind="hand", elapse_s=NOON_S).token
    assert store.end(f"alba-{NOON_S}", "success", 1, None, None)
    assert claimed(store, "cala", elapse_s=1_000_000_000)[:3] == (None, "taken", "alba")


def meddled(
    store: PostgreSQL, monkeypatch: pytest.MonkeyPatch, words: str, before: Any = None, after: Any = None
) -> None:  # fmt: skip
    """Do something around the statements that have these words in them."""
    asked = store._asked

    def meddling(ask: Any) -> Any:
        def with_this(execute: Any) -> Any:
            def executed(statement: str, given: Any = None) -> Any:
                if words in statement and before:
                    before()
                rows = execute(statement, given)
                if words in statement and after:
                    after()
                return rows

            return ask(executed)

        return asked(with_this)

    monkeypatch.setattr(store, "_asked", meddling)


def test_a_claim_whose_answer_was_lost_is_recorded_as_left_out_and_keeps_no_host_waiting(
    store: PostgreSQL, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off = PostgreSQL(database.url, limit_s=PATIENCE_S)

    def cut() -> None:
        raise cut_off._driver.OperationalError("server closed the connection unexpectedly")

    meddled(cut_off, monkeypatch, "insert into sereno.elapse", after=cut)
    one = Claiming("books", "0f" * 16, {}, lambda: None, store=cut_off)
    claim = claim_of("alba", {"elapse_s": NOON_S, "run": "0f" * 16})
    monkeypatch.setattr(one, "_claim", lambda _: claim)
    run = Run("books", "shop.jobs:f", "0f" * 16, {}, counts=False, sandboxed=False)
    skipped = one.skip(NOON_S)
    assert skipped is not None and one.holds is None
    run.claiming = one
    assert run.skip(*skipped) == FAILURE
    ((state, error),) = database.sql("select state, error from sereno.elapse")
    assert state == "skipped" and error.startswith("not run: its turn cannot be asked for: fleet: ")
    lost: list[Lost] = []
    assert claimed(store, "brisa", lost)[:2] == (None, "taken")
    assert claimed(store, "brisa", lost, elapse_s=NOON_S + 60).token
    assert lost == []


def test_what_a_frozen_store_gets_to_when_nobody_listens_any_more_loses_no_run(
    store: PostgreSQL, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert claimed(store, "alba", lease_s=0.05).token
    time.sleep(0.1)
    late = PostgreSQL(database.url)
    meddled(late, monkeypatch, "set state = 'lost'", before=database.freeze)
    lost: list[Lost] = []
    with pytest.raises(FleetError, match="no answer"):
        # What this one hears is told to nobody: its process would be gone.
        claimed(late, "brisa", elapse_s=NOON_S + 60)
    time.sleep(0.5)
    database.freeze(thaw=True)
    time.sleep(0.3)
    assert claimed(store, "cala", lost, elapse_s=NOON_S + 60).token
    assert lost == [Lost(NOON_S, "alba", f"alba-{NOON_S}")]


def test_a_claim_outlives_its_server_also_where_commits_are_left_to_later(
    store: PostgreSQL, database: Database
) -> None:
    database.sql(
        "alter system set wal_writer_delay = '10s'; select pg_reload_conf();"
        "alter role sereno set synchronous_commit = off"
    )
    try:
        assert claimed(store, "alba").token
        database.kill()
        database.start()
        assert claimed(store, "brisa")[:3] == (None, "taken", "alba")
        assert store.switch("shop", "books", on=False)
        database.kill()
        database.start()
        assert [job.state for job in store.jobs()] == ["paused, running"]
        assert store.end(f"alba-{NOON_S}", "success", 1, None, None)
        database.kill()
        database.start()
        assert database.sql("select state from sereno.elapse") == [["success"]]
    finally:
        database.sql("alter role sereno reset synchronous_commit")
        database.sql("alter system reset wal_writer_delay")


def test_an_end_is_recorded_also_where_the_database_has_not_its_letters(
    store: PostgreSQL, database: Database
) -> None:
    database.sql("drop database if exists latin")
    database.sql("create database latin encoding 'LATIN1' locale 'C' template template0")
    latin = PostgreSQL(database.url.replace("/postgres?", "/latin?"), limit_s=PATIENCE_S)
    latin.apply(postgresql.schema())
    errors = ("añil", "a → b", "\0", "\udc80")
    stats = {"word": "→ añil 🌙", "nul": "\0"}
    for number, error in enumerate(errors):
        assert claimed(latin, "alba", elapse_s=NOON_S + number).token
        text = json.dumps(stats, ensure_ascii=False)
        assert latin.end(f"alba-{NOON_S + number}", "failed", 1, error, text)
    found = [(run.status, run.error, run.stats) for run in latin.runs("shop", "books", 10)]
    shown = ("a\\xf1il", r"a \u2192 b", r"\x00", r"\udc80")
    assert found[::-1] == [("failed", one, stats) for one in shown]


@contextmanager
def racing(
    database: Database, hosts: Sequence[str] = HOSTS
) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, str(Path(__file__).with_name("racers.py")), database.url]
    racers = [
        subprocess.Popen([*command, host], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for host in hosts
    ]
    try:
        yield racers
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


def raced(
    racers: Sequence[subprocess.Popen[str]], asked: Sequence[Sequence[dict[str, Any]]]
) -> list[int]:
    """How many racers won each race; `asked` is what each of them does, race by race."""
    for racer, races in zip(racers, asked, strict=True):
        assert racer.stdin is not None
        racer.stdin.write("".join(json.dumps(race) + "\n" for race in races))
        racer.stdin.flush()
    answers = [
        [json.loads(racer.stdout.readline()) for _ in asked[0]] for racer in racers if racer.stdout
    ]
    assert not [answer for of_one in answers for answer in of_one if "error" in answer]
    return [sum(answer["won"] for answer in race) for race in zip(*answers, strict=True)]


def wins(database: Database, how: str, races: int) -> list[int]:
    """How many hosts won each of so many races of different elapses of one job."""
    with racing(database) as racers:
        for racer in racers:
            # Each is there before the first race.
            raced([racer], [[{"how": how, "job": f"first-{racer.pid}", "elapse_s": NOON_S}]])
        begin_s = time.time() + 0.05
        asked = [
            [
                {
                    "how": how,
                    "job": f"job-{race}",
                    "elapse_s": NOON_S + host,
                    "at_s": begin_s + race * 0.025,
                }
                for race in range(races)
            ]
            for host in range(len(HOSTS))
        ]
        return raced(racers, asked)


def test_of_many_races_of_different_elapses_none_is_won_twice_and_none_is_lost(
    database: Database,
) -> None:
    assert set(wins(database, "claim", RACES)) == {1}


def test_looking_for_a_run_and_then_inserting_is_won_twice(database: Database) -> None:
    """The control: the race above is one. So it is without the constraint."""
    database.sql("drop index sereno.elapse_running")
    won: list[int] = []
    # On a busy machine one of them may come too late to be in any race.
    while sum(winners > 1 for winners in won) <= 10 and len(won) < 1000:
        won += wins(database, "not exists", 100)
        database.sql("truncate sereno.elapse")
    database.sql(SCHEMA.read_text())
    assert sum(winners > 1 for winners in won) > 10, won


@pytest.mark.parametrize(("how", "elapses"), (("claim", 20), ("lock", 6)))
def test_a_short_run_is_run_once_for_each_elapse_and_by_a_lock_of_the_run_on_each_host(
    database: Database, how: str, elapses: int
) -> None:
    """Clocks up to 200 ms apart, a job of 10 ms; the lock that lives as long as the run is the control."""
    if how == "lock":
        assert max(won_in_turn(database, how, elapses)) > 1
        return
    won: list[int] = []
    # Once at most. On a busy machine the run of an elapse may still be going at the next one.
    for _ in range(5):
        won = won_in_turn(database, how, elapses)
        assert max(won) == 1, won
        if min(won) == 1:
            break
        database.sql("truncate sereno.elapse, sereno.job, sereno.host")
    assert min(won) == 1, won


def won_in_turn(database: Database, how: str, elapses: int) -> list[int]:
    database.sql("drop table if exists locks; create table locks (job text primary key, host text)")
    with racing(database) as racers:
        begin_s = time.time() + 0.5
        asked = [
            [
                {
                    "how": how,
                    "elapse_s": NOON_S + elapse,
                    "at_s": begin_s + elapse * 0.25 + late_s,
                    "work_s": 0.01,
                }
                for elapse in range(elapses)
            ]
            for late_s in (0.0, 0.1, 0.2)
        ]
        return raced(racers, asked)


def test_owner_and_store_killed_together_run_no_elapse_twice_and_a_lost_run_is_told_once(
    database: Database,
) -> None:
    """At any moment of a claim, a run and its end, as near to each other as two signals are."""
    store, outcomes = PostgreSQL(database.url, limit_s=PATIENCE_S), []
    for number, after_s in enumerate(DEATHS_S):
        job, elapse_s, lease_s = f"job-{number}", NOON_S + number, 1.0
        asked = {"job": job, "elapse_s": elapse_s, "lease_s": lease_s, "work_s": 0.6}
        with racing(database, ["alba"]) as (owner,):
            raced([owner], [[{"job": f"first-{number}", "elapse_s": NOON_S - 1 - number}]])
            at_s = time.time() + 0.1
            assert owner.stdin is not None
            owner.stdin.write(json.dumps({**asked, "at_s": at_s}) + "\n")
            owner.stdin.flush()
            time.sleep(max(0.0, at_s + after_s - time.time()))
            owner.kill()
            database.kill()
            owner.wait()
        database.start()
        rows = database.sql(f"select host, state from sereno.elapse where job = '{job}'")
        lost: list[Lost] = []
        # A row of before is never claimed again; without one nothing was begun, and one of the others has it.
        again = [claimed(store, host, lost, job=job, elapse_s=elapse_s) for host in HOSTS[1:]]
        assert [answer.token is not None for answer in again] == [not rows, False], rows
        if rows == [["alba", "running"]]:
            time.sleep(lease_s + 0.1)
            for _ in range(2):
                claimed(store, "brisa", lost, job=job, elapse_s=elapse_s + 60)
                assert not claimed(store, "cala", lost, job=job, elapse_s=elapse_s).token
            assert lost == [Lost(elapse_s, "alba", f"alba-{elapse_s}")]
        else:
            assert lost == []
        outcomes.append(rows[0][1] if rows else "")
    assert {"running", "success"} <= {*outcomes}, outcomes
