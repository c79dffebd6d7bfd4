"""The newest runs of many jobs, known from their records as these come. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sereno.history import Run, run_id_of, runs_of

# Records may still come of so many of a job's runs: systemd's about the one before arrive while the next begins.
_OPEN_RUNS = 3


class Recent:
    """Runs of jobs, by job id.

    Args:
        kept: how many runs of a job are remembered.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._open: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
        self._past: dict[str, dict[str, Run]] = {}
        self._known: dict[str, list[Run]] = {}

    def add(self, job_id: str, record: Mapping[str, Any]) -> None:
        """Note a record of a run. One that comes again changes nothing."""
        runs = self._open.setdefault(job_id, {})
        run_id = run_id_of(record)
        runs.setdefault(run_id, []).append(record)
        if len(runs) > _OPEN_RUNS:
            # As a run it takes a tenth of what its records take.
            oldest = next(iter(runs))
            self.add_past(job_id, runs_of(job_id, runs.pop(oldest)))
        self._known.pop(job_id, None)

    def add_past(self, job_id: str, runs: Iterable[Run]) -> None:
        """Note runs that are over, in any order."""
        past = self._past.setdefault(job_id, {})
        past.update((run.run_id, run._replace(stats=None, message="")) for run in runs)
        self._known.pop(job_id, None)

    def runs(self, job_id: str) -> list[Run]:
        """The runs of a job, oldest first; one that is under way is "lost" here."""
        if job_id not in self._known:
            runs = dict(self._past.get(job_id, {}))
            for records in self._open.get(job_id, {}).values():
                # A late record of a run that was known already tells less than what is known.
                for run in runs_of(job_id, records):
                    if run.status != "lost" or run.run_id not in runs:
                        runs[run.run_id] = run
            newest = sorted(runs.values(), key=_moment_s)[-self._kept :]
            self._known[job_id] = newest
            ids = {run.run_id for run in newest}
            past = self._past.get(job_id, {})
            self._past[job_id] = {run_id: past[run_id] for run_id in past if run_id in ids}
        return self._known[job_id]


def _moment_s(run: Run) -> float:
    return run.start_s or run.end_s or 0.0
