"""Jobs as values; as a program, the screen of `sereno watch` over a machine that does not exist.

`glance_jobs.py FILE` shows what FILE has at the moment: a JSON array of the arguments of `a_job`, or what the manager
says instead.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sereno.errors import SystemdError
from sereno.observe.job_state import JobState
from sereno.observe.look import Snapshot
from sereno.records.run_record import Run
from sereno.units.unit_text import Installed

NOW_S = 1_762_351_200.0  # 2025-11-05 14:00:00 UTC


def a_job(
    job_id: str,
    status: str | None = "success",
    *,
    schedule: str = "every 15min",
    next_in_s: float | None = 872.0,
    ago_s: float = 28.0,
    paused: bool = False,
    active: bool = True,
    running: bool = False,
    failing: bool | None = None,
    error: str | None = None,
) -> JobState:
    """A job whose last run came to `status`; None: it never ran."""
    last = None
    if status is not None:
        ended = {} if status == "running" else {"end_s": NOW_S - ago_s + 2, "duration_ms": 2000.0}
        last = Run(job_id, "0" * 32, status, start_s=NOW_S - ago_s, error=error, **ended)
    job = Installed(
        id=job_id, app="shop", name=job_id, function="shop.jobs:work", trigger="interval[0:15:00]",
        has_entry_script=False, interval_s=900.0, at_boot=False, jitter_s=0.0, persistent=False, enabled=not paused,
        after=(), kwargs={}, files={},
    )  # fmt: skip
    next_ = None if next_in_s is None else datetime.fromtimestamp(NOW_S + next_in_s, UTC)
    is_bad = last is not None and last.is_bad
    return JobState(
        job=job, schedule=schedule, next=next_, last=last, active=active, running=running,
        failing=is_bad if failing is None else failing, drop_ins=(),
    )  # fmt: skip


class ToldPoll:
    """What a file says in the place of a machine."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def ask(self) -> Snapshot:
        told = self._file.read_text()
        try:
            jobs = [a_job(**each) for each in json.loads(told)]
        except ValueError:
            raise SystemdError(told) from None
        took: dict[str, list[float]] = {job.job.id: [1.0, 2.0, 3.0] for job in jobs}
        return Snapshot(jobs, took)


def log(job_id: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "__REALTIME_TIMESTAMP": (NOW_S + number) * 1e6,
            "MESSAGE": f"line {number} of {job_id} \x1b[2J",
        }
        for number in range(count)
    ]


if __name__ == "__main__":
    from sereno.cli.watch_screen import LiveScreen

    poll: Any = ToldPoll(Path(sys.argv[1]))
    screen = LiveScreen(poll, poll.ask(), log, "system", 0.05, UTC, clock=lambda: NOW_S)
    sys.exit(screen.run())
