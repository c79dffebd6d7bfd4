"""Runs that come too late, and elapses that pass during a run: judged by the run itself, recorded in the journal.

Loaded only by a run whose job has a `misfire_grace`, or during which its timer may have elapsed: it asks the manager
for its timer and systemd-analyze for the elapses, which costs some 30 ms. The expressions are those that the manager
has loaded, so an administrator's change of the timer counts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sereno.errors import SerenoError
from sereno.manager.analyze import next_elapses
from sereno.manager.systemctl import Systemctl
from sereno.records import messages
from sereno.records.log import Logger
from sereno.setting_names import ELAPSE, MISFIRE_GRACE_S, TIMER_SLACK_S

_MOST_AT_ONCE = 100
_LONGEST_SEARCH_S = 10 * 366 * 86_400.0
_logger = Logger("sereno.runner")


class Misfires:
    """The judge of one run.

    Args:
        environ: the run's environment: MISFIRE_GRACE_S, the seconds by which a run may start late, if there is such a
            limit, and TIMER_SLACK_S, those by which its timer may elapse late as it is (jitter and accuracy).
        manager: systemctl's port; default: that of the manager that started this process.
    """

    def __init__(
        self, job_id: str, environ: Mapping[str, str] = os.environ, manager: Systemctl | None = None
    ) -> None:
        self.job_id, self.grace_s, self.slack_s = job_id, None, 0.0
        try:
            self.slack_s = float(environ.get(TIMER_SLACK_S, "0"))
            self.grace_s = float(environ[MISFIRE_GRACE_S]) if MISFIRE_GRACE_S in environ else None
        except ValueError:
            _logger.warning(messages.NO_SECONDS, job_id, MISFIRE_GRACE_S, TIMER_SLACK_S)
        self._manager = manager or Systemctl.of_this_process(environ)

    def skip(self, start_s: float) -> tuple[str, dict[str, str]] | None:
        """Why a run that starts at `start_s` (seconds since the epoch) is left out: text and fields of its record.

        A run that somebody starts never is, nor one that cannot be judged: then a record says why, and the job runs.
        """
        if self.grace_s is None:
            return None
        try:
            is_timers, calendars, _ = self._manager.run_of(self.job_id)
            if not (is_timers and calendars):
                return None
            elapse = latest_before(calendars, start_s, self.slack_s)
        except (SerenoError, OSError) as error:
            _logger.warning(messages.LATENESS_UNKNOWN, self.job_id, error)
            return None
        if elapse is None or start_s - elapse.timestamp() < self.grace_s + self.slack_s:
            return None
        return too_late(self.job_id, elapse, start_s, self.grace_s)

    def note_overrun(self, start_s: float, end_s: float) -> None:
        """Record that the timer elapsed while the run that began at `start_s` was going, if it did.

        An elapse so near to the end that the jitter may have put it after the end does not count.
        """
        try:
            _, calendars, _ = self._manager.run_of(self.job_id)
            elapse = _latest(calendars, start_s, end_s - self.slack_s) if calendars else None
        except (SerenoError, OSError) as error:
            # Nobody asked for it, and a job that is always longer would say it in each run.
            _logger.info(messages.OVERRUN_UNKNOWN, self.job_id, error)
            return
        if elapse is not None:
            told, extra = (shown(elapse), end_s - start_s), {ELAPSE: elapse.isoformat()}
            _logger.warning(messages.OVERRUN_ELAPSE, self.job_id, *told, extra=extra)


def too_late(
    job_id: str, elapse: datetime, start_s: float, grace_s: float
) -> tuple[str, dict[str, str]] | None:
    """Text and fields of the record of a run that starts later than the grace allows; None: it does not."""
    late_s = start_s - elapse.timestamp()
    if late_s <= grace_s:
        return None
    told = (job_id, shown(elapse), late_s, grace_s)
    fields = {ELAPSE: elapse.isoformat(), "SERENO_LATE_S": f"{late_s:.3f}"}
    return str(messages.SKIPPED_LATE) % told, fields


def _latest(calendars: Sequence[str], after_s: float, until_s: float) -> datetime | None:
    """The last elapse in (after_s, until_s], None if there is none."""
    latest = None
    while after_s < until_s:
        elapses = next_elapses(calendars, _MOST_AT_ONCE, after_s=after_s)
        passed = [elapse for elapse in elapses if elapse.timestamp() <= until_s]
        latest = passed[-1] if passed else latest
        if len(passed) < _MOST_AT_ONCE:
            break
        after_s = passed[-1].timestamp()
    return latest


def latest_before(calendars: Sequence[str], until_s: float, near_s: float) -> datetime | None:
    """The last elapse before `until_s`, looked for in the last `near_s` seconds twice over, then further back.

    In steps that double: systemd computes forward only, and a step never holds many elapses.
    """
    back_s = max(near_s, 1.0)
    while back_s < _LONGEST_SEARCH_S:
        back_s *= 2
        elapse = _latest(calendars, until_s - back_s, until_s)
        if elapse is not None:
            return elapse
    return None


def shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
