"""Metrics of the runs and of the cache, left for node_exporter where `SERENO_TEXTFILE_DIR` names a directory.

Each job has a file of its own, `sereno_job_<id>.prom`, which its run replaces when it ends, and the cache has
`sereno_cache_<name>.prom`, which its cleanup replaces. Counters go on from what the file says. Where the file is lost
they start at 0, which Prometheus' `rate()` and `increase()` know as a restart; the journal could be counted instead,
but a run in its sandbox may not read it, and it forgets too.

A run that is killed writes nothing: what tells of it is that the time of the last success gets old.

The format is version 0.0.4 of Prometheus' text exposition. It is written here and not by prometheus_client, whose
import takes 60 ms of a processor where the rest of a run's start-up takes as much in all; the tests have that library
read what this writes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sereno.records import messages
from sereno.records.files import content, replace
from sereno.records.log import Logger
from sereno.setting_names import INTERVAL_S

# The samples of a file, by their metric: (labels, value) each.
Samples = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]

STATUSES = ("success", "failed", "skipped", "interrupted")
# What a run may add to the number of series, whatever its function returns.
MOST_STATS = 64
# Of a file that is read back: ten times what a run with all its statistics leaves.
MOST_BYTES = 1 << 18
# Metric: (type, help). The dashboard, the alert rules and docs/metrics.md name these.
JOB_METRICS = {
    "sereno_job_runs_total": ("counter", "Runs of the job by how they ended."),
    "sereno_job_last_status": ("gauge", "1 for the status of the last run, 0 for the others."),
    "sereno_job_last_run_timestamp_seconds": ("gauge", "When the last run ended."),
    "sereno_job_last_success_timestamp_seconds": (
        "gauge",
        "When the last run that succeeded ended; 0 if none is known.",
    ),
    "sereno_job_last_duration_seconds": ("gauge", "How long the last run took that was not left out."),
    "sereno_job_interval_seconds": ("gauge", "Time from start to start of an interval job."),
    "sereno_job_stat": ("gauge", "Numbers among the statistics that the last run returned."),
}  # fmt: skip
CACHE_METRICS = {
    "sereno_cache_entries": ("gauge", "Entries after the last cleanup."),
    "sereno_cache_max_entries": ("gauge", "Entries above which the cache evicts."),
    "sereno_cache_bytes": ("gauge", "Bytes of the keys and values that the cache holds."),
    "sereno_cache_file_bytes": ("gauge", "Size of the cache's file, with its free pages."),
    "sereno_cache_hit_ratio": ("gauge", "Hits among the requests between the last two cleanups, 0 to 1."),
    "sereno_cache_hits_total": ("counter", "Requests that found a value."),
    "sereno_cache_misses_total": ("counter", "Requests that found none."),
    "sereno_cache_evictions_total": ("counter", "Entries that made room for others."),
    "sereno_cache_invalidations_total": ("counter", "Entries that were invalidated."),
    "sereno_cache_expired_removals_total": ("counter", "Expired entries that were removed."),
}  # fmt: skip
_ABOUT = {**JOB_METRICS, **CACHE_METRICS}
_logger = Logger(__name__)
_warned = False


def file_name(job_id: str) -> str:
    """Name of a job's file."""
    return f"sereno_job_{job_id}.prom"


class Recorder:
    """Writes the file of a job when a run of it ends."""

    def __init__(self, job_id: str, directory: str, environ: Mapping[str, str]) -> None:
        self._job_id, self._environ = job_id, environ
        self._path = os.path.join(directory, file_name(job_id))
        self._was_there = os.path.exists(self._path)

    def write(self, status: str, duration_s: float, stats: Mapping[str, Any] | None) -> None:
        """Write how a run ended at this moment."""
        if self._was_there and not os.path.exists(self._path):
            # The job was removed during the run, and its file with it (sereno.units.traces).
            return
        try:
            ended = (status, duration_s, stats or {}, time.time())
            _write(self._path, of_job(self._job_id, *ended, self._environ, read(self._path)))
        except Exception as error:
            # Not even a mistake of ours meets the run.
            _warn(self._path, f"{type(error).__name__}: {error}")


def of_job(
    job_id: str,
    status: str,
    duration_s: float,
    stats: Mapping[str, Any],
    end_s: float,
    environ: Mapping[str, str],
    previous: Mapping[str, float],
) -> Samples:
    """The metrics of a job after a run.

    Args:
        duration_s: how long its function took.
        stats: what it returned, as `journal.plain` gives it.
        end_s: seconds since the epoch.
        previous: what the job's file says, as `read` returns it.
    """
    labels = {"job_id": job_id}

    def before(name: str, **more: str) -> float:
        return previous.get(series(name, labels | more), 0.0)

    success_s, took_s = end_s, duration_s
    if status != "success":
        success_s = before("sereno_job_last_success_timestamp_seconds")
    if status == "skipped":
        took_s = before("sereno_job_last_duration_seconds")
    interval = environ.get(INTERVAL_S, "")
    counts = {one: before("sereno_job_runs_total", status=one) for one in STATUSES}
    values: Samples = {
        "runs_total": [(labels | {"status": one}, counts[one] + (one == status)) for one in counts],
        "last_status": [(labels | {"status": one}, float(one == status)) for one in counts],
        "last_run_timestamp_seconds": [(labels, end_s)],
        "last_success_timestamp_seconds": [(labels, success_s)],
        "last_duration_seconds": [(labels, took_s)],
        "interval_seconds": [(labels, float(interval))] if interval.isdigit() else [],
        "stat": [(labels | {"stat": name}, value) for name, value in _numbers(stats).items()],
    }
    return {name: values[name.removeprefix("sereno_job_")] for name in JOB_METRICS}


def _numbers(stats: Mapping[str, Any]) -> dict[str, float]:
    """The first `MOST_STATS` finite numbers, true and false among them, of a run's statistics."""
    found: dict[str, float] = {}
    for name, value in stats.items():
        # Above this a float has no room, and Prometheus has nothing but floats.
        if isinstance(value, (int, float)) and abs(value) < 1e300 and len(found) < MOST_STATS:
            found[name] = float(value)
    return found


def write_cache(directory: str, stats: Mapping[str, Any], hit_rate_percent: float | None) -> None:
    """Write the cache's file.

    Args:
        stats: what `MetadataCache.get_stats` returns.
        hit_rate_percent: that of the requests since the cleanup before; None without requests.
    """
    values = {
        **stats,
        "entries": stats["size"],
        "max_entries": stats["max_size"],
        "bytes": stats["memory_bytes"],
        "hit_ratio": None if hit_rate_percent is None else hit_rate_percent / 100,
    }
    labels, samples = {"cache": stats["name"]}, {}
    for name in CACHE_METRICS:
        value = values[name.removeprefix("sereno_cache_").removesuffix("_total")]
        samples[name] = [] if value is None else [(labels, float(value))]
    _write(os.path.join(directory, f"sereno_cache_{stats['name']}.prom"), samples)


def _write(path: str, samples: Samples) -> None:
    """Write a file, readable by all; a failure is one record and no more: metrics are never worth a run."""
    try:
        # Of what is beside it meanwhile, node_exporter reads *.prom alone.
        replace(path, render(samples).encode("utf-8", "backslashreplace"))
    except OSError as error:
        _warn(path, error.strerror or error)


def _warn(path: str, why: object) -> None:
    global _warned
    if not _warned:
        _logger.warning(messages.NO_METRICS, path, why)
    _warned = True


def render(samples: Samples) -> str:
    """The text of a file; a metric without samples is left out."""
    lines = []
    for name, of_metric in samples.items():
        kind, about = _ABOUT[name]
        if of_metric:
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
        lines += [f"{series(name, labels)} {value!r}" for labels, value in of_metric]
    return "".join(f"{line}\n" for line in lines)


def series(name: str, labels: Mapping[str, str]) -> str:
    """A metric's name with its labels, as it stands in a file: `runs_total{job_id="sync"}`."""
    pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels.items())
    return f"{name}{{{pairs}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def read(path: str) -> dict[str, float]:
    """The finite values of a file by `series`; none of a file that is missing, or of lines that are no samples.

    Others may write the directory: a link, a pipe and a file of another user are no files of this run, and of a large
    one the beginning is read.
    """
    values: dict[str, float] = {}
    try:
        lines = content(path, MOST_BYTES, owner=os.geteuid()).decode("utf-8", "replace")
    except OSError:
        return values
    for line in lines.splitlines():
        sample, _, text = line.rpartition(" ")
        with suppress(ValueError):
            value = float(text)
            if value - value == 0:
                values[sample] = value
    return values
