"""What is done about a failure, and about what a successful run has to tell."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import takewhile

from sereno.errors import SerenoError, UsageError
from sereno.manager.systemctl import Systemctl, is_of_a_user
from sereno.notify import config, datagram, evidence, throttle, wake
from sereno.notify.datagram import Datagram
from sereno.notify.delivery import Deliveries, Task, fields_of
from sereno.notify.evidence import NOTHING, Evidence
from sereno.notify.message import ALERT, FAILURE, LINE_LENGTH, LOST, RECOVERY, TEST, Event
from sereno.notify.state import States
from sereno.notify.throttle import Last, Moment, State
from sereno.records import account, messages
from sereno.records.account import Account
from sereno.records.log import Logger
from sereno.setting_names import FLEET_URL_FILE, NOTIFY_CONFIG, NOTIFY_STATE

TRY_IT = "to try it: sereno notify --test"
# A run says that it succeeds a moment before its process is gone. One that goes on is not waited for: its job's next
# success tells the same.
_END_S = 30.0
# What a start of this process may have waited for, such as the network, or the process before: of what failed earlier
# somebody was told, or nobody wanted to be.
_START_S = 600.0
# What systemd gives in place of a fleet's URL where the host has none.
_NO_FLEET = "none"
_logger = Logger("sereno.notify")


class Handling:
    """Judges events and has them told.

    Args:
        environ: of the unit that started this process: NOTIFY_CONFIG and NOTIFY_STATE, and what systemd tells it.
        journal: as `evidence.Journal`; tests put their own here, and in place of `account.ask`.

    Raises:
        UsageError: this process was not started by the units, or (InvalidConfig) the file cannot be right.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        deliveries: Deliveries,
        *,
        now_s: Callable[[], float] = time.time,
        journal: evidence.Journal | None = None,
        ask: Callable[..., Mapping[str, Account]] | None = None,
    ) -> None:
        missing = [name for name in (NOTIFY_CONFIG, NOTIFY_STATE) if name not in environ]
        if missing:
            raise UsageError(f"{missing[0]}: not set; sereno's units set it", hint=TRY_IT)
        self._config = config.load(environ[NOTIFY_CONFIG])
        self._states = States(environ[NOTIFY_STATE])
        self._user = is_of_a_user(environ)
        self._deliveries, self._now_s, self._environ = deliveries, now_s, environ
        self._journal = journal or evidence.Journal(self._user)
        self._ask = ask or partial(account.ask, Systemctl(user=self._user))
        # Of `look`: failures that it has seen, by job and run; jobs whose failure is being told; and of successes after
        # that, the handlers that owed the recovery when they were offered it.
        self._seen, self._watched = dict[str, set[str]](), set[str]()
        self._offered = dict[tuple[str, str], set[str]]()
        # Fleets' stores that did not answer: a thousand failures are not to wait for each of them.
        self._silent = set[str]()
        self._oldest_s = time.monotonic() - _START_S

    def look(self, since_s: float) -> bool:
        """Have told what failed since then (time.monotonic()), and what becomes of it while it is being told.

        By the journal, and by the manager, which needs none but knows of each job's latest run only.

        Returns:
            Whether nothing is left to tell.
        """
        found = self._journal.failures(max(since_s, self._oldest_s))
        latest = self._ask({*found, *self._watched}, failed=True)
        for job_id, one in latest.items():
            if one.has_failed and one.ended_s >= self._oldest_s:
                found.setdefault(job_id, {}).setdefault(one.run_id, one)
        for job_id, runs in found.items():
            for run_id in self._new(job_id, [*runs]):
                self._watched.add(job_id)
                self.failed(job_id, runs[run_id], latest.get(job_id))
        is_over = self._deliveries.are_over
        for job_id in self._watched:
            self._recovered(job_id, latest.get(job_id))
        if is_over:
            self._watched.clear()
        return is_over and self._deliveries.are_over

    def _recovered(self, job_id: str, latest: Account | None) -> None:
        """Offer the success after a failure: once, and again to each handler that has told the failure since."""
        if latest and latest.has_succeeded:
            told = self._states.read(job_id).told
            owing = {name for name, one in told.items() if one.owed}
            key = job_id, latest.run_id
            if key not in self._offered or owing - self._offered[key]:
                self._offered.setdefault(key, set()).update(owing)
                self.succeeded(job_id, latest.run_id, latest)

    def _new(self, job_id: str, run_ids: list[str]) -> list[str]:
        """Those of a job's runs, oldest first, that were neither seen here nor told by a process before."""
        seen = self._seen.setdefault(job_id, set())
        new = [run_id for run_id in run_ids if run_id not in seen]
        seen.update(run_ids)
        if new and (state := self._states.read(job_id)).run in filter(None, run_ids):
            later = run_ids[run_ids.index(state.run) + 1 :]
            # The last one that was counted is told if that process was killed, or what it sent was not taken.
            lasts = [state.of(name).last.get("", Last()) for name in self._handlers(job_id)]
            is_untold = any(last.untold and not last.at_s for last in lasts)
            again = [state.run] if is_untold and not later else []
            new = [one for one in (*again, *later) if one in new]
        return new

    def failed(self, job_id: str, run: Account, latest: Account | None) -> None:
        """The job's run failed; `latest` is the manager's account of the job."""
        found = self._evidence(job_id, run.run_id)
        if why := self.end_in_fleet(run.run_id, found.error):
            _logger.warning(messages.UNRECORDED, job_id, why)
        if not found.told:
            # Somebody stopped it, whatever its process made of that.
            return
        error = "; ".join(words for words in (found.error, found.hint) if words) or None
        event = self._event(FAILURE, job_id, run, found, error=error)
        state = self._states.read(job_id)
        if run.run_id and state.run == run.run_id:
            self._offer(event, state)
            return
        ended, is_first = (
            self._ended(job_id, latest, run.run_id),
            self._is_first(job_id, run.run_id),
        )
        self._count(event, partial(throttle.failed, ended=ended, is_first=is_first))

    def end_in_fleet(self, run_id: str, error: str | None) -> str | None:
        """Record that a run failed which could not do so itself, if the fleet's store has it as running.

        Returns:
            Why the store could not be asked, if it could not.
        """
        path = self._environ.get(FLEET_URL_FILE, "")
        if path in self._silent or not os.path.exists(path):
            return None
        if os.path.getsize(path) <= len(_NO_FLEET):
            return None
        from sereno.fleet.postgresql import PostgreSQL

        try:
            PostgreSQL.of_file(path).end(run_id, "failed", None, error, None)
        except SerenoError as failure:
            self._silent.add(path)
            return failure.message
        except Exception as failure:
            # Such as a driver's, of a job's words that the store has no form for.
            return f"{type(failure).__name__}: {failure}"
        return None

    def _is_first(self, job_id: str, run_id: str) -> bool:
        """Whether the job succeeded between the last failure that was counted and this run: that may be told later."""
        last = self._states.read(job_id)
        if not (last.run and last.failing):
            return False
        later = self._journal.since(job_id, last.run, last.failing.since_s)
        between = takewhile(lambda one: one.run_id != run_id, later)
        return any(one.has_succeeded for one in between)

    def succeeded(
        self, job_id: str, run_id: str, latest: Account | None, alerts: tuple[str, ...] = ()
    ) -> None:
        """A run succeeded that follows a failure, or that raised `alerts`: what of it can be confirmed is told.

        `latest` is the manager's account of the job.
        """
        is_latest = latest is not None and latest.run_id == run_id
        if latest and is_latest and not latest.has_succeeded:
            return
        found = self._evidence(job_id, run_id, alerts, wait=is_latest)
        # Where no journal keeps anything of the run, the manager's word alone has to do.
        is_kept = bool(found.status or found.lines or found.alerts)
        if found.status != "success" and (is_kept or not is_latest):
            return
        event = self._event(RECOVERY, job_id, Account(run_id, True, "success"), found)
        ended = self._ended(job_id, latest, run_id)
        recover = partial(throttle.succeeded, ended=ended, handlers=self._handlers(job_id))
        self._offer(event, self._states.change(job_id, recover))
        for alert, text in (found.alerts if alerts else {}).items():
            self._count(replace(event, kind=ALERT, alert=alert, error=text), throttle.happened)

    def _count(self, event: Event, change: Callable[..., State]) -> None:
        """Have an event counted by `change`, and told."""
        handlers = self._handlers(event.job)
        counted = partial(change, event=event, rule=self._config, handlers=handlers)
        self._offer(event, self._states.change(event.job, counted))

    def heard(self, waiting: list[Datagram]) -> list[Datagram]:
        """Handle datagrams of `wake`; return those whose run is not over yet."""
        for one in waiting:
            if one.what == wake.TRIED and one.uid in (0, os.getuid()):
                event = self._event(TEST, "sereno", Account(one.run_id, True), NOTHING)
                answer = partial(datagram.answer, one.address)
                for handler in self._config.handlers:
                    self._deliveries.start(Task(handler, event, answer=answer))
        # What would change nothing is dropped before anything is waited for, and so are runs that nobody knows.
        news = [
            one
            for one in waiting
            if one.what == wake.SUCCEEDED
            and (one.alerts or self._states.read(one.job_id).wants_success)
        ]
        accounts = self._ask({one.job_id for one in news})
        unfinished = [one for one in waiting if one.what == wake.LOST and not self._lost(one)]
        for one in news:
            latest = accounts.get(one.job_id)
            is_latest = latest is not None and latest.run_id == one.run_id
            if not is_latest and self._journal.last_moment(one.job_id, one.run_id):
                self.succeeded(one.job_id, one.run_id, latest, one.alerts)
            elif latest and latest.is_over:
                self.succeeded(one.job_id, latest.run_id, latest, one.alerts)
            elif latest and time.monotonic() < one.heard_s + _END_S:
                # Of a run before that nobody knows any more, the one under way will tell as much.
                unfinished.append(one._replace(run_id=latest.run_id))
        return unfinished

    def _lost(self, one: Datagram) -> bool:
        """Tell of the lost run that a run has found; False: the journal may have its record a moment later."""
        found = self._evidence(one.job_id, one.run_id, (LOST,), wait=False)
        if LOST not in found.alerts:
            return time.monotonic() > one.heard_s + _END_S
        event = self._event(LOST, one.job_id, Account(one.run_id, True), found, found.alerts[LOST])
        self._count(replace(event, alert=LOST), throttle.happened)
        return True

    def _handlers(self, job_id: str) -> list[str]:
        return [one.name for one in self._config.handlers if one.is_for(job_id)]

    def _evidence(
        self, job_id: str, run_id: str, alerts: tuple[str, ...] = (), *, wait: bool = True
    ) -> Evidence:
        # One line at least: it shows whether the journal has anything of the run.
        lines = max(self._config.log_lines, 1)
        return self._journal.gather(job_id, run_id, lines, alerts, wait=wait)

    def _ended(self, job_id: str, latest: Account | None, run_id: str) -> Moment:
        """When a run was over; of one of which that is not known, a time by which it was."""
        if latest and latest.run_id == run_id and latest.is_over:
            return evidence.moment(latest.ended_s)
        last = self._journal.last_moment(job_id, run_id)
        # A start that never was a run has no id, and the latest run was before it.
        return last or evidence.moment(latest.began_s if latest and run_id else None)

    def _event(
        self, kind: str, job_id: str, run: Account, found: Evidence, error: str | None = None
    ) -> Event:
        where = platform.node(), "user" if self._user else "system", self._now_s()
        how = run.result, run.exit_code, run.exit_status
        # Many events may wait for a handler.
        log = tuple(line[:LINE_LENGTH] for line in found.lines[: self._config.log_lines])
        return Event(kind, job_id, run.run_id, *where, *how, error=error, log=log)

    def _offer(self, event: Event, state: State) -> None:
        """Have an event told by every handler that does not hold it back."""
        held_s, is_told = [], False
        for handler in self._config.handlers:
            if handler.name in state.told:
                told = state.of(handler.name)
                until_s = throttle.quiet_until_s(told, event, event.time_s, self._config)
                if until_s is None:
                    due, done = partial(self._due, handler.name), partial(self._done, handler.name)
                    is_told |= self._deliveries.start(Task(handler, event, due, done))
                else:
                    held_s.append(until_s)
        if held_s and not is_told and event.kind != RECOVERY:
            _note_held_back(event, state, min(held_s))

    def _due(self, handler: str, event: Event) -> Event | None:
        """The event as a handler tells it now; None: it holds it back now."""
        state, now_s = self._states.read(event.job), self._now_s()
        told = state.of(handler)
        if throttle.quiet_until_s(told, event, now_s, self._config) is not None:
            return None
        last = told.last.get(throttle.name_of(event), throttle.Last())
        if event.kind == RECOVERY:
            event, row = replace(event, untold=last.untold), told.owed
        else:
            until_s = now_s + self._config.repeat_after_s
            event = replace(event, untold=max(last.untold - 1, 0), quiet_until_s=until_s)
            row = state.failing if event.kind == FAILURE else None
        return replace(event, failing_since_s=row.since_s, failures=row.number) if row else event

    def _done(self, handler: str, event: Event) -> None:
        now_s, rule = self._now_s(), self._config
        tell = partial(throttle.delivered, handler=handler, event=event, now_s=now_s, rule=rule)
        state, name = self._states.change(event.job, tell), throttle.name_of(event)
        others = [one.last.get(name, Last()) for each, one in state.told.items() if each != handler]
        is_noted = any(rule.is_recent(last.at_s, now_s) for last in others)
        # What came meanwhile; another handler that has told before has told or noted that, too.
        if state.of(handler).last[name].untold and not is_noted:
            later = replace(event, run=state.run if event.kind == FAILURE else "")
            _note_held_back(later, state, now_s + rule.repeat_after_s)


def _note_held_back(event: Event, state: State, until_s: float) -> None:
    row = state.failing
    what = event.alert or str(messages.FAILURES_IN_A_ROW) % (row.number if row else 0)
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(until_s))
    _logger.info(messages.HELD_BACK, event.job, until, what, extra=fields_of(event))
