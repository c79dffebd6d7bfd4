"""What the journal says of one run: what became of it, its alerts, the last lines of its log.

Every part may be missing: the run was killed before it could say anything, or the journal is not readable. Then the
message goes without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from sereno import journal_reader
from sereno.history import FIELDS, runs_of, text

# Of a run's end only; a job may log without limit.
_RECORDS = 500
_POLL_S = 0.05
_FIELDS = FIELDS | journal_reader.FIELDS | {"SERENO_ALERT"}


class Evidence(NamedTuple):
    """What is known of a run.

    Attributes:
        status: what it came to, "" where the journal does not tell.
        error: why.
        alerts: {name: message}.
        lines: the last of its log.
        hint: a way out that the run itself knew.
        told: False where it is certain that people are not to be told of a failure: somebody stopped the run.
    """

    status: str
    error: str | None
    alerts: dict[str, str]
    lines: tuple[str, ...]
    hint: str | None = None
    told: bool = True


def newest_first(run_id: str, *matches: bytes) -> Iterator[dict[str, Any]]:
    """The records that name a run, whoever sent them, and that have these fields (b"NAME=value").

    By `SERENO_RUN` too: journald may not know any more whose record it was when a process ended at once (systemd#2913).
    """
    names = ("_SYSTEMD_INVOCATION_ID", "SERENO_RUN", "INVOCATION_ID", "USER_INVOCATION_ID")
    with journal_reader.reader(_FIELDS) as reader:
        for name in names:
            for match in (f"{name}={run_id}", *matches):
                reader.add_match(match)
            reader.add_disjunction()
        reader.seek_tail()
        while entry := reader.get_previous():
            yield entry


def gather(
    job_id: str,
    run_id: str,
    lines: int,
    *,
    user: bool,
    deadline_s: float,
    alerts: Sequence[str] = (),
    read: Callable[..., Iterator[dict[str, Any]]] = newest_first,
) -> Evidence:
    """Read a run's end; wait for it up to `deadline_s`: journald may show it a moment later (systemd#28650).

    The end is the manager's last record of it, which comes after that of a failure and alone says whether somebody
    stopped the run. `alerts` are names of alerts that it may have raised long before: each is looked for. Only what the
    job's own processes said counts, and what the manager said of them: whoever named the run may have named another's.
    """
    vouching = _vouching(user)

    def own(*matches: bytes) -> Iterator[dict[str, Any]]:
        found = read(run_id, *matches) if run_id else ()
        return (record for record in found if vouching.vouches(record, job_id))

    give_up = time.monotonic() + deadline_s
    while True:
        records = list(islice(own(), _RECORDS))[::-1]
        found = judge(job_id, records, lines)
        if any(run.is_over for run in runs_of(job_id, records)) or time.monotonic() > give_up:
            break
        time.sleep(_POLL_S)
    for alert in alerts:
        # As `journal` writes it; the last of several.
        match = b"SERENO_ALERT=" + alert.encode("utf-8", "backslashreplace")
        record = None if alert in found.alerts else next(own(match), None)
        if record is not None:
            found = found._replace(alerts={alert: text(record, "MESSAGE"), **found.alerts})
    return found


def judge(job_id: str, records: Sequence[Mapping[str, Any]], lines: int) -> Evidence:
    """The evidence in a run's last records, oldest first."""
    alerts = {
        text(record, "SERENO_ALERT"): text(record, "MESSAGE")
        for record in records
        if "SERENO_ALERT" in record
    }
    log = [line for record in records for line in text(record, "MESSAGE").split("\n") if line]
    last = tuple(log[-lines:] if lines else ())
    run = next(iter(runs_of(job_id, records)), None)
    if run is None or not (run.said or run.is_over):
        return Evidence("", None, alerts, last)
    told = run.told or not run.is_over
    return Evidence(run.status, run.error, alerts, last, run.hint, told)


def id_in(record: Mapping[str, Any], name: str) -> str:
    """An id without hyphens, "" if there is none."""
    # python-systemd gives some ids as UUID, which prints itself with hyphens.
    return text(record, name).replace("-", "")


def is_of_job(record: Mapping[str, Any], job_id: str, user: bool) -> bool:
    """Whether a run's record is of this job in this scope."""
    return _vouching(user).vouches(record, job_id)


@lru_cache
def _vouching(user: bool) -> journal_reader.Vouching:
    """One for the life of this process, which is short: it asks the manager once for a job."""
    return journal_reader.Vouching(user=user)
