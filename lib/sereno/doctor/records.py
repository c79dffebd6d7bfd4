"""What the doctor wants to know of the journal: how far back it reaches, and how each job's last run ended."""

from __future__ import annotations

from collections.abc import Iterable

from sereno.journal import FAILED, FINISHED, INTERRUPTED, SKIPPED


def begins_s() -> float | None:
    """Time of the oldest record that the caller may read, seconds since the epoch; None if there is none."""
    from systemd import journal

    with journal.Reader() as reader:
        reader.seek_head()
        entry = reader.get_next()
        return entry["__REALTIME_TIMESTAMP"].timestamp() if entry else None


def latest_statuses(job_ids: Iterable[str]) -> dict[str, tuple[str, float]]:
    """The `SERENO_STATUS` and the time (seconds since the epoch) of each job's latest closing record, by job id."""
    from systemd import journal

    found = {}
    with journal.Reader() as reader:
        for job_id in job_ids:
            reader.flush_matches()
            reader.add_match(SERENO_JOB=job_id)
            for kind in (FINISHED, FAILED, INTERRUPTED, SKIPPED):
                reader.add_match(MESSAGE_ID=kind)
            reader.seek_tail()
            entry = reader.get_previous()
            if entry:
                status = str(entry.get("SERENO_STATUS", ""))
                found[job_id] = status, entry["__REALTIME_TIMESTAMP"].timestamp()
    return found
