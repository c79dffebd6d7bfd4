"""What each job's last run came to, for when the journal has forgotten it: a small file beside the state of messages.

It is written by whoever looks at jobs as root (in the user scope: as the user), and not by runs, which pay nothing for
it. So it cannot know a run that nobody looked at while the journal had it; of that the timer's stamp alone tells that
it was due, see `due`.
"""

from __future__ import annotations

import grp
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from sereno.errors import NotAvailable, SystemdError
from sereno.manager.analyze import elapses_of_each
from sereno.manager.names import timer_name
from sereno.manager.scope import Scope
from sereno.manager.systemctl import Elapse
from sereno.records.files import content, replace
from sereno.records.run_record import Run
from sereno.units.unit_text import Installed

FORGOTTEN = "its timer elapsed then, and no record of the run can be read any more"
# What runs more often than this, the journal has not forgotten; the file need not be written again for it.
_FRESH_S = 3600.0
_FIELDS = "run_id status start_s end_s duration_ms error hint result exit_status".split()
# systemd touches the stamp when it gets to it; its accuracy is part of a job's slack.
_LATE_S = 60.0


def path_of(scope: Scope) -> Path:
    """The file of a scope."""
    home = Path.home() / ".local/state" if scope.is_user else Path("/var/lib")
    return home / "sereno/last-runs.json"


def keep(scope: Scope, jobs: Mapping[str, Installed], newest: Mapping[str, Run]) -> dict[str, Run]:
    """The last run of each job: the `newest` that is known, else what was kept. News is kept, if this process may."""
    kept = _read(scope)
    news = {
        job_id: {
            "function": jobs[job_id].function,
            **{name: getattr(run, name) for name in _FIELDS},
        }
        for job_id, run in newest.items()
        if run.is_over and run.run_id and _is_news(run, kept.get(job_id, {}))
    }
    if news and (scope.is_user or os.geteuid() == 0):
        _write(scope, kept | news)
    found = {}
    for job_id in jobs.keys() & kept.keys():
        # A later job of the same name does not inherit it.
        fields = dict(kept[job_id])
        if fields.pop("function", None) == jobs[job_id].function:
            with suppress(TypeError):
                found[job_id] = Run(job_id, **fields, is_over=True)
    return found | dict(newest)


def _is_news(run: Run, kept: Mapping[str, Any]) -> bool:
    if kept.get("run_id") == run.run_id:
        return False
    is_fresh = (run.end_s or 0.0) - (kept.get("end_s") or 0.0) <= _FRESH_S
    return not is_fresh or kept.get("status") != run.status


def _read(scope: Scope) -> dict[str, dict[str, Any]]:
    """What was kept; nothing where there is no such file, or it is somebody else's."""
    path = path_of(scope)
    with suppress(OSError, ValueError, RecursionError):
        if path.lstat().st_uid in (0, os.geteuid()):
            kept = json.loads(content(path))
            if isinstance(kept, dict):
                return {job_id: run for job_id, run in kept.items() if isinstance(run, dict)}
    return {}


def _write(scope: Scope, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Replaces the file, or leaves it where the disk does not take a new one. What others keep meanwhile may be lost
    until they look again."""
    path = path_of(scope)
    there = {
        job_id: run for job_id, run in runs.items() if (scope.units / timer_name(job_id)).exists()
    }
    with suppress(OSError, KeyError):
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace(str(path), json.dumps(there).encode(), mode=0o600, several=True)
        if not scope.is_user:
            # Those may read it who may read the journal.
            os.chown(path, 0, grp.getgrnam("systemd-journal").gr_gid)
            path.chmod(0o640)


def due(jobs: Iterable[Installed], elapses: Mapping[str, Elapse]) -> dict[str, Run]:
    """The last elapse of calendar timers as a run of which nothing is known ("unknown"), by job id.

    Only where the stamp is of an elapse of the calendar: systemd makes one as well when it first starts a timer, and
    dates it again where it made up for an elapse. An interval's tells nothing: its first elapse is counted from it.
    """
    found = {}
    for job in jobs:
        elapse = elapses.get(timer_name(job.id))
        if not job.calendars or elapse is None or elapse.last is None:
            continue
        last_s = elapse.last.timestamp()
        with suppress(NotAvailable, SystemdError):
            after_s = last_s - job.delay_s - _LATE_S
            times = chain.from_iterable(elapses_of_each(job.calendars, 1, after_s=after_s).values())
            if any(time.timestamp() <= last_s for time in times):
                found[job.id] = Run(job.id, "", "unknown", last_s, error=FORGOTTEN)
    return found
