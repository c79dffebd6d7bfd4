"""The store on PostgreSQL. No other module speaks SQL.

Each statement is atomic by itself: no session keeps a lock, so poolers may be between. Nothing here depends on the
isolation level, nor on a clock but the server's. psycopg2 is taken where it is, else psycopg 3: the first loads in a
third of the time.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread
from time import monotonic, time

from sereno.errors import FleetError, NotAvailable
from sereno.fleet.claim import (
    GONE_S,
    KEPT_DAYS,
    MOST_APART_S,
    Answer,
    Claim,
    FleetHost,
    FleetJob,
    FleetRun,
    Lost,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Found = TypeVar("Found")
    Execute = Callable[..., list[Any]]

RUN_LIMIT_S = 2.0
"""What a run waits for the store, in all, at its start and again at its end."""
DRIVERS = ("psycopg2", "psycopg")
_HINT = "man sereno-jobs: a few hosts and a database: the file fleet.url, and `fleet init`, which makes the tables"

_AHEAD = "%(now_s)s - extract(epoch from clock_timestamp())::float8"
# A server that was frozen may get to this long after the run has given up: then its clock is no longer near `now_s`.
_NEAR = f"abs({_AHEAD}) < {MOST_APART_S}"
# Where the database or the role leaves commits to later, a server that is killed forgets the last ones.
_KEPT = """case when current_setting('synchronous_commit') = 'off'
      then set_config('synchronous_commit', 'local', true) = 'local' else true end"""
_LOSE = f"""
update sereno.elapse set state = 'lost', ended_at = clock_timestamp()
where app = %(app)s and job = %(job)s and state = 'running' and {_NEAR} and {_KEPT}
  and (lease_until < clock_timestamp() or (boot = %(boot)s and run <> %(run)s))
returning extract(epoch from elapse)::float8, host, run
"""
_OFF = """app = %(app)s and job = %(job)s and %(kind)s = 'timer'
      and (paused_since is not null or resumed_at >= to_timestamp(%(elapse_s)s))"""
_CLAIM = f"""
insert into sereno.elapse (app, job, elapse, kind, host, boot, run, lease_until)
select %(app)s, %(job)s, to_timestamp(%(elapse_s)s), %(kind)s, %(host)s, %(boot)s, %(run)s,
       clock_timestamp() + make_interval(secs => %(lease_s)s)
where {_NEAR} and not exists (select from sereno.job where {_OFF}) and {_KEPT}
on conflict do nothing
returning token
"""
# The columns are those of `Answer`. Where nothing is found, the other run has ended meanwhile.
_WHY_NOT = f"""
select null,
       case when not {_NEAR} then 'apart' when taken.host is not null then 'taken'
            when off.paused_since is not null then 'paused' when off.resumed_at is not null then 'resumed'
            else 'running' end,
       coalesce(taken.host, running.host, ''), coalesce(taken.state, ''),
       extract(epoch from coalesce(off.paused_since, running.claimed_at, clock_timestamp()))::float8, {_AHEAD}
from (values (1)) as one
left join sereno.elapse taken on taken.app = %(app)s and taken.job = %(job)s
     and taken.elapse = to_timestamp(%(elapse_s)s) and taken.kind = %(kind)s
left join sereno.elapse running on running.app = %(app)s and running.job = %(job)s and running.state = 'running'
left join (select * from sereno.job where {_OFF}) off on true
"""
_SEEN = f"""
insert into sereno.host (app, job, host, machine, declaration, ahead_s)
select %(app)s, %(job)s, %(host)s, %(machine)s, %(declaration)s, {_AHEAD}
where not exists (
    select from sereno.host where app = %(app)s and job = %(job)s and host = %(host)s and machine = %(machine)s
      and declaration = %(declaration)s and seen > clock_timestamp() - interval '1 hour'
      and abs({_AHEAD} - ahead_s) < 0.5)
on conflict (app, job, host, machine) do update
set declaration = excluded.declaration, ahead_s = excluded.ahead_s, seen = clock_timestamp()
"""
_END = f"""
update sereno.elapse
set state = %(state)s, ended_at = clock_timestamp(), duration_ms = %(duration_ms)s, error = %(error)s, stats = %(stats)s
where run = %(run)s and state = 'running' and {_KEPT}
returning app, job, kind, extract(epoch from elapse)::float8
"""
# A run by hand is no newer elapse of the timer.
_FORGET = f"""
delete from sereno.elapse
where app = %s and job = %s and kind = %s and state <> 'running'
  and elapse < least(to_timestamp(%s), clock_timestamp() - interval '{KEPT_DAYS} days')
"""
_PAUSE = f"""
insert into sereno.job (app, job, paused_since) select %s, %s, clock_timestamp() where {_KEPT}
on conflict (app, job) do update set paused_since = excluded.paused_since where job.paused_since is null
returning 1
"""
_RESUME = f"""
update sereno.job set paused_since = null, resumed_at = clock_timestamp()
where app = %s and job = %s and paused_since is not null and {_KEPT} returning 1
"""
_RUN = """run.app, run.job, extract(epoch from elapse)::float8, kind, host, run, state,
       extract(epoch from claimed_at)::float8, duration_ms, error, stats"""
# Not `distinct on`, which reads every row that there is.
_JOBS = f"""
select known.app, known.job, extract(epoch from paused_since)::float8, latest.*
from (select app, job from sereno.host union select app, job from sereno.job) known
left join sereno.job switch using (app, job)
left join lateral (
    select {_RUN} from sereno.elapse run where run.app = known.app and run.job = known.job
    order by run.claimed_at desc limit 1) latest on true
order by known.job, known.app
"""
_RUNS = f"select {_RUN} from sereno.elapse run where app = %s and job = %s order by claimed_at desc limit %s"
_SINCE = f"""
select {_RUN} from sereno.elapse run where claimed_at > to_timestamp(%s) order by claimed_at
"""
_HOSTS = f"""
select app, job, host, machine, declaration, ahead_s, extract(epoch from seen)::float8
from sereno.host where seen > clock_timestamp() - interval '{GONE_S} seconds' order by job, host
"""
_CLOCK = "select extract(epoch from clock_timestamp())::float8"
# What a run needs of its role; `sereno pause` and `sereno list --fleet` need no more.
_GRANTS = """
grant usage on schema sereno to {role};
grant select, insert, update, delete on sereno.elapse, sereno.job, sereno.host to {role};
grant usage on sequence sereno.token to {role};
"""


def schema(role: str | None = None) -> str:
    """The statements that make the tables, and give a role what runs need; for their owner, who may be another."""
    from pathlib import Path

    text = Path(__file__).with_name("schema.sql").read_text("utf-8")
    if role is None:
        return text
    quoted = '"' + role.replace('"', '""') + '"'
    return text + _GRANTS.format(role=quoted)


class PostgreSQL:
    """The claims of a fleet in the database that `url` names (`postgresql://…`, as libpq has it).

    Args:
        limit_s: how long each method may take, the connection included. libpq's own limits do not hold in every case:
            that of a connection is two seconds at least, and of each address that a name has; none is on the search
            for the name; the server's are worth nothing while it stands still.

    Raises:
        FleetError: the text is no such URL. It is not shown: there may be a password in it.
        NotAvailable: no driver can be imported.
    """

    def __init__(self, url: str, *, limit_s: float = RUN_LIMIT_S) -> None:
        if not url.startswith(("postgresql://", "postgres://")):
            raise FleetError(
                "fleet.url: the file holds no URL of PostgreSQL",
                hint="one line: postgresql://USER:PASSWORD@HOST/DATABASE",
            )
        self._url, self._limit_s = url, limit_s
        # Here, in the main thread: Python takes the one that loads `threading` first for it.
        self._driver = _driver()

    @classmethod
    def of_file(cls, path: str | os.PathLike[str], *, limit_s: float = RUN_LIMIT_S) -> PostgreSQL:
        """The store whose URL is in a file.

        Raises:
            FleetError: it cannot be read.
        """
        try:
            with open(path, encoding="utf-8") as file:
                return cls(file.read().strip(), limit_s=limit_s)
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise FleetError(
                f"fleet: {os.fspath(path)} cannot be read: {why}", hint=_HINT
            ) from None

    def claim(self, claim: Claim, tell: Callable[[Lost], object]) -> Answer:
        """Claim an elapse; `tell` is called with each run that this finds to be lost, and no other call ever is."""

        def ask(execute: Execute) -> Answer:
            given = dict(zip(claim._fields, claim, strict=True))
            # Before the claim: where this fails, nothing is claimed.
            execute(_SEEN, {**given, "now_s": time()})
            for row in execute(_LOSE, {**given, "now_s": time()}):
                tell(Lost(*row))
            rows = execute(_CLAIM, {**given, "now_s": time()})
            if rows:
                return Answer(rows[0][0])
            return Answer(*execute(_WHY_NOT, {**given, "now_s": time()})[0])

        return self._asked(ask)

    def end(
        self, run: str, state: str, duration_ms: float | None, error: str | None, stats: str | None
    ) -> bool:
        """Record the end of a run; False: it has no claim, or lost it."""
        given = {"run": run, "state": state, "duration_ms": duration_ms}

        def ask(execute: Execute) -> bool:
            try:
                ended = execute(_END, {**given, "error": error, "stats": stats})
            except (self._driver.DataError, ValueError):
                import json

                # Such as letters that the database's encoding has not. That the run has ended counts more.
                plain = stats and json.dumps(json.loads(stats))
                given["error"] = error and ascii(error)[1:-1]
                ended = execute(_END, {**given, "stats": plain})
            for row in ended:
                try:
                    execute(_FORGET, row)
                except self._driver.Error:
                    # Such as a role that may not delete: the administrator does it then.
                    pass
            return bool(ended)

        return self._asked(ask)

    def apply(self, statements: str) -> None:
        """Carry out `schema`: all of it, or nothing."""
        self._asked(lambda execute: execute(statements))

    def switch(self, app: str, job: str, *, on: bool) -> bool:
        """Let a job run on schedule, from its next elapse on, or let no host run it; False: it was so already."""
        return bool(self._asked(lambda execute: execute(_RESUME if on else _PAUSE, (app, job))))

    def jobs(self) -> list[FleetJob]:
        """Every job that a host has or that is paused."""
        rows = self._asked(lambda execute: execute(_JOBS))
        return [
            FleetJob(app, job, paused_s, FleetRun(*latest) if latest[0] else None)
            for app, job, paused_s, *latest in rows
        ]

    def runs(self, app: str, job: str, most: int) -> list[FleetRun]:
        """The latest runs of a job, the last one first."""
        rows = self._asked(lambda execute: execute(_RUNS, (app, job, most)))
        return [FleetRun(*row) for row in rows]

    def runs_since(self, since_s: float) -> list[FleetRun]:
        """The runs of all jobs that began since then (seconds since the epoch), the first one first."""
        return [FleetRun(*row) for row in self._asked(lambda execute: execute(_SINCE, (since_s,)))]

    def hosts(self) -> list[FleetHost]:
        """Which hosts have which jobs."""
        return [FleetHost(*row) for row in self._asked(lambda execute: execute(_HOSTS))]

    def ahead_s(self) -> float:
        """By how much this host's clock is before the store's."""
        return time() - float(self._asked(lambda execute: execute(_CLOCK))[0][0])

    def _asked(self, ask: Callable[[Execute], Found]) -> Found:
        """What `ask` finds with a connection of its own, within the limit."""
        give_up, done = monotonic() + self._limit_s, allocate_lock()
        done.acquire()
        ended: list[tuple[Any, BaseException | None]] = []

        def work() -> None:
            try:
                ended.append((self._connected(ask, give_up), None))
            except BaseException as error:
                ended.append((None, error))
            finally:
                done.release()

        # A thread that is still in the driver ends with the process.
        start_new_thread(work, ())
        if not done.acquire(timeout=self._limit_s):
            raise FleetError(
                f"fleet: no answer of the store within {self._limit_s:g} s", hint=_HINT
            )
        ((found, error),) = ended
        # The driver's own too: a NUL, or half a letter.
        if isinstance(error, (self._driver.Error, ValueError)):
            words = self._without_secrets(str(error))
            raise FleetError(f"fleet: {words}", hint=_HINT) from None
        if error is not None:
            raise error
        return found  # type: ignore[no-any-return]

    def _connected(self, ask: Callable[[Execute], Found], give_up: float) -> Found:
        connection = self._driver.connect(self._url, client_encoding="utf8")
        try:
            connection.autocommit = True

            def execute(statement: str, given: Any = None) -> list[Any]:
                if monotonic() > give_up:
                    raise FleetError("fleet: nobody waits for it any more")
                with connection.cursor() as cursor:
                    cursor.execute(statement, given)
                    return cursor.fetchall() if cursor.description else []

            return ask(execute)
        finally:
            connection.close()

    def _without_secrets(self, words: str) -> str:
        """One line of libpq's, which quotes a URL that it cannot read, or the part of it that is wrong."""
        import re
        from urllib.parse import unquote

        words = words.replace(self._url, "the URL")
        for secret in re.findall(r"(?<=:)[^/@][^@]*(?=@)|(?<=password=)[^&]+", self._url):
            words = words.replace(secret, "…").replace(unquote(secret), "…")
        return " ".join(words.split())


def _driver() -> Any:
    for name in DRIVERS:
        try:
            return __import__(name)
        except ImportError:
            continue
    raise NotAvailable(
        "fleet: this interpreter has neither psycopg2 nor psycopg",
        hint="apt install python3-psycopg2; in an environment of its own: pip install 'sereno[fleet]'",
    )
