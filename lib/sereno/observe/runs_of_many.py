"""The runs of many jobs read back from the journal, in one pass for all of them.

To look up one job's records costs, in each of the journal's files, as much as reading ten records. So here the records
of all runs are read once, in the newest files, and only what is rare among them is looked up by name.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from itertools import chain
from math import inf
from typing import Any

from sereno.manager.names import job_of_service, service_name
from sereno.observe.runs import Newest, Runs
from sereno.records import journal_reader
from sereno.records.journal_reader import JournalFile
from sereno.records.run_record import Run, run_id_of, runs_of, text

_LATE_S = 5.0
# libsystemd maps 64 windows of 8 MB. In a journal that is larger it maps them anew for each question, which then takes
# ten times as long.
_MAPPED_BYTES = 64 * 8 << 20
# How many of the journal's files are asked at once for all values of a field.
_AT_ONCE = 8
# Of so many of a job's runs records may still come: systemd's about the one before arrive while the next begins.
OPEN_RUNS = 5
# Records that are read in vain, for each job that is looked for, before it is asked for by name.
_PATIENCE = 20


class RunsOfMany(Runs):
    """A scope's runs, also of many jobs at once. Raises NotAvailable as `Runs` does."""

    def histories(
        self, job_ids: Collection[str], *, since_s: float, with_stats: Collection[str] = ()
    ) -> dict[str, list[Run]]:
        """`history` of many jobs, by job id, in one pass.

        Args:
            with_stats: the jobs whose runs keep their statistics; of others the newest five alone do: most of the
                memory that many runs take is theirs.
        """
        self._match_runs()
        self._reader.seek_realtime(since_s)
        open_runs: dict[str, dict[str, list[dict[str, Any]]]] = {job_id: {} for job_id in job_ids}
        found: dict[str, list[Run]] = {job_id: [] for job_id in job_ids}
        for job_id, record in self._of_jobs(self._reader, job_ids):
            groups = open_runs[job_id]
            groups.setdefault(run_id_of(record), []).append(record)
            if len(groups) > OPEN_RUNS:
                oldest = groups.pop(next(iter(groups)))
                for old in oldest if job_id not in with_stats else ():
                    old.pop("SERENO_STATS", None)
                found[job_id] += runs_of(job_id, oldest)
        for job_id, groups in open_runs.items():
            found[job_id] += runs_of(job_id, chain.from_iterable(groups.values()))
            if any(run.result == "timeout" for run in found[job_id]):
                found[job_id] = self.history(job_id, since_s=since_s)
        return found

    def latest(self, job_ids: Collection[str], count: int = 1) -> dict[str, list[Run]]:
        """`newest` of many jobs, by job id, for what one pass and a few questions cost."""
        runs: dict[str, list[Run]] = {}
        newest, since_s = _newest_part(files := journal_reader.journal_files())
        if since_s:
            with (
                suppress(OSError),
                RunsOfMany(user=self._user, files=newest, since_s=since_s) as part,
            ):
                runs = part._latest(job_ids, count, part._named())
        if missing := [job_id for job_id in job_ids if job_id not in runs]:
            named = self._named_in(files) if since_s else self._named()
            runs |= self._latest(missing, count, named)
        return {job_id: runs.get(job_id, []) for job_id in job_ids}

    def _latest(
        self, job_ids: Collection[str], count: int, named: Set[str]
    ) -> dict[str, list[Run]]:
        """The newest runs of those of the jobs of which nothing that is wanted can be older than what is read here.

        Args:
            named: the jobs, or their services, that there are records of: who never ran need not be looked for.
        """
        found = {id: Newest(count) for id in job_ids if {id, service_name(id)} & named}
        missing = set(found)
        self._match_runs()
        self._take_newest(found, missing, _PATIENCE)
        runs = {job_id: found[job_id].runs(job_id) for job_id in found.keys() - missing}
        # What a limit ended is told from what was left behind by a record that the pass has not.
        again = [id for id, own in runs.items() if any(run.result == "timeout" for run in own)]
        for job_id in (*missing, *again):
            found[job_id], left = Newest(count), {job_id}
            self._match_runs([job_id], limits=True)
            self._take_newest(found, left)
            if not left:
                runs[job_id] = found[job_id].runs(job_id)
        return runs

    def _take_newest(
        self, found: Mapping[str, Newest], missing: set[str], patience: float = inf
    ) -> None:
        """Read backwards what was chosen, until all is found, or it does not pay any more; `missing`: what is not."""
        self._reader.seek_tail()
        passed = 0
        for record in self._backwards() if missing else ():
            passed += 1
            job_id = self._job_of(record, missing)
            if job_id is not None and not found[job_id].take(record):
                missing.remove(job_id)
                passed = 0
            if passed > patience * len(missing) or not missing:
                return
        if not self._since_us:
            # There is no older record of any.
            missing.clear()

    def _named(self) -> set[str]:
        return {*self._reader.query_unique("SERENO_JOB"), *self._reader.query_unique(self._unit)}

    def _named_in(self, files: Sequence[JournalFile]) -> set[str]:
        """`_named` of all files, some at a time: libsystemd looks each name up in each file that it has open."""
        found: set[str] = set()
        with suppress(OSError):
            for begin in range(0, len(files), _AT_ONCE):
                with RunsOfMany(user=self._user, files=files[begin : begin + _AT_ONCE]) as some:
                    found |= some._named()
            return found
        return self._named()

    def listen(self) -> None:
        """Choose the records of all jobs' runs from a moment ago on, for `news`; nothing else can be asked then."""
        self._match_runs()
        # Not seek_tail(), as in `follow`; what came a moment ago may become visible only now.
        self._reader.seek_realtime(time.time() - _LATE_S)

    def news(self, job_ids: Container[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """What has come of these jobs since `listen` or the call before: (job id, record), oldest first."""
        # Without it, journal files that are new would not be seen (sd_journal_process(3)).
        self._reader.wait(0)
        return self._of_jobs(self._reader, job_ids)

    def notices(
        self, job_ids: Collection[str], *kinds: str, since_s: float
    ) -> list[dict[str, Any]]:
        """The records of these kinds, of these jobs' runs, after `since_s` (seconds since the epoch), oldest first."""
        self._reader.flush_matches()
        self._reader.add_match(**self._mine)
        for kind in kinds:
            self._reader.add_match(MESSAGE_ID=kind)
        self._reader.seek_realtime(since_s)
        return [
            record
            for record in self._reader
            if (job_id := text(record, "SERENO_JOB")) in job_ids
            and self._vouching.vouches(record, job_id)
        ]

    def _of_jobs(
        self, records: Iterable[dict[str, Any]], job_ids: Container[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for record in records:
            if (job_id := self._job_of(record, job_ids)) is not None:
                yield job_id, record

    def _job_of(self, record: dict[str, Any], job_ids: Container[str]) -> str | None:
        """Which of these jobs a record is of; None: of none, or nobody vouches for it."""
        job_id = text(record, "SERENO_JOB") or job_of_service(text(record, self._unit))
        # Known ones first: any user can name a million others, each of which somebody would have to vouch for.
        return job_id if job_id in job_ids and self._vouching.vouches(record, job_id) else None


def _newest_part(files: Sequence[JournalFile]) -> tuple[Sequence[JournalFile], float]:
    """The newest of the files, and since when all records are in them, seconds since the epoch; 0: always."""
    size_bytes = 0
    for number, file in enumerate(files):
        size_bytes += file.size_bytes
        if number and size_bytes > _MAPPED_BYTES and not file.is_active:
            return files[:number], file.written_s + _LATE_S
    return files, 0.0
