"""A run of a job that runs once in a fleet: its claim before it begins, and its end. Loaded only by such a run.

Which elapse it is the manager's own calendars say, by this host's clock; so hosts whose clocks differ come to the same
one. The lease is what the manager gives the run, also where an administrator has changed it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from sereno.errors import FleetError, NotAvailable, SerenoError
from sereno.fleet import claim as fleet
from sereno.fleet.claim import Answer, Claim, Lost
from sereno.fleet.postgresql import PostgreSQL
from sereno.manager.names import timer_name
from sereno.manager.systemctl import Systemctl, is_of_a_user
from sereno.records import journal, log, messages
from sereno.records.files import line_of
from sereno.records.messages import Message
from sereno.run.lateness import latest_before, shown
from sereno.run.sigterm import seconds_of
from sereno.setting_names import (
    DECLARATION,
    ELAPSE,
    FENCE,
    FLEET_APP,
    FLEET_URL_FILE,
    TIMER_SLACK_S,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOST_ALERT = "lost"
"""What the record of a lost run is found by."""
# A limit that an administrator has taken away is still no claim for ever.
_LONGEST_S = 366 * 86_400.0
_logger = log.Logger("sereno.runner")
Skip = tuple[str, dict[str, str], int]


def fence() -> int:
    """The number of this run's claim, higher than that of each claim before, in any job of the fleet.

    A resource that keeps the highest number that it has seen, and refuses what comes with a lower one, is safe from a
    run that was frozen and goes on when its lease is over.

    Raises:
        NotAvailable: this process is no run of a job with once_per="fleet".
    """
    token = os.environ.get(FENCE, "")
    if not token.isdigit():
        raise NotAvailable(
            "fence: this process has no claim",
            hint='only a run of a job with once_per="fleet" has one; in a test set SERENO_FENCE to a number',
        )
    return int(token)


class Claiming:
    """The claim of one run.

    Args:
        environ: of the run, as systemd gave it.
        lost: called for each lost run that this one is the first to find; its record is sent by then.
        store, manager: tests put their own here.

    Attributes:
        holds: whether the run has its claim; None: the store was asked, and what it did nobody knows. Then it is to
            hear of the run's end too, or the fleet would wait for a run that never began.
    """

    def __init__(
        self, job_id: str, run_id: str, environ: Mapping[str, str], lost: Callable[[], object], *,
        store: PostgreSQL | None = None, manager: Systemctl | None = None,
    ) -> None:  # fmt: skip
        self._job_id, self._run_id, self._environ, self._lost = job_id, run_id, environ, lost
        self._store = store
        self.holds: bool | None = False
        self._manager = manager or Systemctl.of_this_process(environ)

    def skip(self, start_s: float) -> Skip | None:
        """Why a run that starts at `start_s` must not begin: what `Run.skip` takes; None: it has the claim."""
        fields = {}
        try:
            claim = self._claim(start_s)
            fields[ELAPSE] = datetime.fromtimestamp(claim.elapse_s, UTC).isoformat()
            store = self._opened()
            self.holds = None
            answer = store.claim(claim, self._tell)
        except Exception as error:
            # Whatever it is, it is no yes.
            return self._refused(log.ERROR, messages.FLEET_UNASKED, (_why(error),), fields)
        self.holds = answer.token is not None
        if self.holds:
            # What the job starts has it too.
            os.environ[FENCE] = str(answer.token)
            return None
        return self._refused(*_said(answer, claim), fields)

    def _refused(
        self, level: int, text: Message, words: tuple[object, ...], fields: Mapping[str, str]
    ) -> Skip:
        # The field of a failure has no language of the log's.
        error = {"SERENO_ERROR": f"not run: {text.en % words}"} if level == log.ERROR else {}
        said = str(messages.SKIPPED_AFTER) % (self._job_id, str(text) % words)
        return said, {**fields, **error}, level

    def _opened(self) -> PostgreSQL:
        if self._store is None:
            path = self._environ.get(FLEET_URL_FILE)
            if not path:
                raise FleetError(f"{FLEET_URL_FILE}: not set", hint="the job's unit has it")
            self._store = PostgreSQL.of_file(path)
        return self._store

    def _claim(self, start_s: float) -> Claim:
        limits = ("TimeoutStartUSec", "TimeoutStopUSec")
        is_timers, calendars, service = self._manager.run_of(self._job_id, *limits)
        lease_s = sum(seconds_of(service.get(limit, "infinity")) for limit in limits)
        elapse_s, kind = start_s, fleet.HAND
        if is_timers and calendars:
            elapse = latest_before(calendars, start_s, float(self._environ.get(TIMER_SLACK_S, 0)))
            if elapse is None:
                raise FleetError(f"fleet: {timer_name(self._job_id)} has no elapse before now")
            elapse_s, kind = elapse.timestamp(), fleet.TIMER
        return Claim(
            app=self._environ.get(FLEET_APP, ""),
            job=self._job_id,
            elapse_s=elapse_s,
            kind=kind,
            host=os.uname().nodename,
            boot=_boot(self._environ),
            run=self._run_id,
            lease_s=min(lease_s, _LONGEST_S),
            declaration=self._environ.get(DECLARATION, ""),
            machine=line_of("/etc/machine-id") or "",
        )

    def _tell(self, lost: Lost) -> None:
        told = (self._job_id, _moment(lost.elapse_s), lost.host, lost.run)
        _logger.error(messages.LOST, *told, extra={"SERENO_ALERT": LOST_ALERT})
        self._lost()
        # It has been told by itself, and is not what this run has to tell when it has succeeded.
        journal.alerts.discard(LOST_ALERT)

    def end(self, status: str, duration_s: float, error: str | None, stats: str | None) -> None:
        """Record the run's end in the store, if it has the run. That it cannot be asked changes nothing of the run."""
        why: object = messages.FLEET_LATE
        try:
            if self._opened().end(self._run_id, status, duration_s * 1000, error, stats):
                return
        except Exception as error:
            why = _why(error)
        if self.holds is not None:
            _logger.warning(messages.UNRECORDED, self._job_id, why)


def _why(error: Exception) -> str:
    return error.message if isinstance(error, SerenoError) else f"{type(error).__name__}: {error}"


def _said(answer: Answer, claim: Claim) -> tuple[int, Message, tuple[object, ...]]:
    """Level, text and words of a refusal."""
    elapse, since = _moment(claim.elapse_s), _moment(answer.since_s)
    if answer.reason == fleet.APART:
        return log.ERROR, messages.FLEET_APART, (answer.ahead_s, fleet.MOST_APART_S)
    if answer.reason == fleet.RUNNING:
        return log.WARNING, messages.FLEET_RUNNING, (answer.host or "?", since)
    if answer.reason == fleet.TAKEN:
        return log.INFO, messages.FLEET_TAKEN, (elapse, answer.host, answer.state)
    is_over = answer.reason == fleet.RESUMED
    text = messages.FLEET_RESUMED if is_over else messages.FLEET_PAUSED
    return log.INFO, text, (elapse if is_over else since,)


def _moment(time_s: float) -> str:
    return shown(datetime.fromtimestamp(time_s, UTC))


def _boot(environ: Mapping[str, str]) -> str:
    """This kernel's boot, this system's process namespace and its manager: what can run one run of a job at a time.

    The boot alone is not enough: containers have that of their kernel, or one of their own, as their sandboxes show it.
    """
    manager = str(os.getuid()) if is_of_a_user(environ) else "system"
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = environ.get("INVOCATION_ID", "")
    return f"{line_of('/proc/sys/kernel/random/boot_id')} {namespace} {manager}"
