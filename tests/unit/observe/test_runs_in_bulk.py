"""What became of many jobs' runs is read in one pass, and is what each job's own records say."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from sereno.errors import OVER_LIMIT
from sereno.observe import runs_of_many
from sereno.observe.runs_of_many import RunsOfMany
from sereno.records import journal_reader
from sereno.records.journal import FAILED, FINISHED, STARTED
from sereno.records.journal_reader import JournalFile
from sereno.records.run_record import START_DONE, START_FAILED, UNIT_FAILED

UID = str(os.geteuid())


class ListReader:
    """A journal's reader over a list. It leaves the choice to who reads, but for what has no MESSAGE_ID."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self.records, self.reads, self._place, self._texts = records, 0, 0, set[str]()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(record) for record in self.records if self._is_chosen(record))

    def _is_chosen(self, record: dict[str, Any]) -> bool:
        return "MESSAGE_ID" in record or record["MESSAGE"] in self._texts

    def flush_matches(self) -> None:
        self._texts = set()

    def add_match(self, *args: str, **fields: str) -> None:
        said = (match.partition("=") for match in args)
        self._texts |= {text for name, _, text in said if name == "MESSAGE"}

    def add_disjunction(self) -> None:
        pass

    def seek_tail(self) -> None:
        self._place = len(self.records)

    def seek_realtime(self, since_s: float) -> None:
        pass

    def get_previous(self) -> dict[str, Any]:
        while self._place:
            self._place -= 1
            self.reads += 1
            if self._is_chosen(self.records[self._place]):
                return dict(self.records[self._place])
        return {}

    def query_unique(self, field: str) -> set[str]:
        return {record[field] for record in self.records if field in record}

    def close(self) -> None:
        pass


class Story:
    """Records as a user's jobs and their manager leave them, a second after the other."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def _add(self, **fields: Any) -> None:
        at = 1e12 + len(self.records) * 1e6
        self.records.append({"__REALTIME_TIMESTAMP": at, "_UID": UID, **fields})

    def own(self, job_id: str, run: str, kind: str, **fields: str) -> None:
        self._add(MESSAGE_ID=kind, SERENO_JOB=job_id, SERENO_RUN=run,
                  **{"_SYSTEMD_USER_UNIT": f"sereno@{job_id}.service", **fields})  # fmt: skip

    def manager(self, job_id: str, run: str, **fields: str) -> None:
        self._add(USER_UNIT=f"sereno@{job_id}.service", USER_INVOCATION_ID=run,
                  _SYSTEMD_USER_UNIT="init.scope", **fields)  # fmt: skip

    def good(self, job_id: str, run: str) -> None:
        self.own(job_id, run, STARTED)
        self.own(job_id, run, FINISHED, SERENO_STATS='{"rows": 3}')
        self.manager(job_id, run, MESSAGE_ID=START_DONE)

    def over_its_limit(self, job_id: str, run: str) -> None:
        self.own(job_id, run, STARTED)
        said = f"sereno@{job_id}.service: start operation timed out. Terminating."
        self.manager(job_id, run, MESSAGE=said)
        self.manager(job_id, run, MESSAGE_ID=UNIT_FAILED, UNIT_RESULT="timeout")
        self.manager(job_id, run, MESSAGE_ID=START_FAILED, JOB_RESULT="failed")


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def reader(story: Story, monkeypatch: pytest.MonkeyPatch) -> ListReader:
    found = ListReader(story.records)
    monkeypatch.setattr(journal_reader, "reader", lambda fields, files=(): found)
    return found


def test_one_pass_over_all_jobs_finds_what_each_jobs_records_say(story, reader) -> None:
    story.good("monthly", "m")
    story.over_its_limit("limited", "t")
    story.own("failed", "f", STARTED)
    story.own("failed", "f", FAILED, SERENO_ERROR="boom")
    story.manager("never_began", "n", MESSAGE_ID=UNIT_FAILED, UNIT_RESULT="exit-code")
    for number in range(1000):
        story.good(f"often{number % 3}", f"{number:032x}")
    story.own("going", "g", STARTED)
    # Of somebody else: it counts for nothing.
    story.own("often1", "x", FAILED, _SYSTEMD_USER_UNIT="mallory.service")
    story.own("never", "x", STARTED, _UID="4242")
    ids = ["monthly", "limited", "failed", "never_began", "never", "going", "often0", "often1"]
    past = RunsOfMany(user=True)
    for count in (1, 2):
        found = past.latest(ids, count)
        assert found == {job_id: past.newest(job_id, count) for job_id in ids}
    ended = {job_id: runs_[-1].status for job_id, runs_ in found.items() if runs_}
    assert ended.pop("often1") == ended.pop("often0") == ended.pop("monthly") == "success"
    assert ended == {
        "limited": "failed",
        "failed": "failed",
        "never_began": "failed",
        "going": "lost",
    }
    assert found["limited"][-1].error == OVER_LIMIT


def test_histories_are_each_jobs_history_and_keep_the_statistics_that_are_shown(
    story, reader
) -> None:
    for number in range(30):
        story.good("rows", f"{number:032x}")
        story.good("cleanup", f"{number:032x}")
    story.over_its_limit("limited", "t")
    story.good("of_another_application", "o")
    past = RunsOfMany(user=True)
    ids = ("rows", "cleanup", "limited", "never")
    found = past.histories(ids, since_s=0, with_stats=("cleanup",))
    for job_id in ids:
        bare = [run._replace(stats=None) for run in past.history(job_id, since_s=0)]
        assert [run._replace(stats=None) for run in found[job_id]] == bare
    assert [run.stats is not None for run in found["rows"]] == [False] * 25 + [True] * 5
    assert all(run.stats for run in found["cleanup"])


def test_what_many_jobs_cost_does_not_grow_with_the_journal(story, reader) -> None:
    """Nor with what others write in their names."""
    for job_id in ("rare0", "rare1", "rare2"):
        story.good(job_id, "r")
    for number in range(3000):
        story.own("rare0", "x", STARTED, _UID="4242")
        story.good(f"often{number % 10}", f"{number:032x}")
    past = RunsOfMany(user=True)
    ids = [f"often{number}" for number in range(10)]
    assert all(past.latest(ids).values())
    assert reader.reads < 100
    reader.reads = 0
    past.latest([*ids, "rare1", *(f"never{number}" for number in range(1000))])
    by_name, passed = len(story.records), runs_of_many._PATIENCE * 12
    assert reader.reads < by_name + passed


class Files:
    """A journal in two files: what was written before `since_s` is in the older one, which `opened` then knows of."""

    def __init__(self, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
        self.since_s, self.opened, self.rotated = 0.0, list[str](), False
        self._story = story
        monkeypatch.setattr(journal_reader, "reader", self._reader)
        monkeypatch.setattr(journal_reader, "journal_files", self._files)

    def _files(self) -> list[JournalFile]:
        now_s = 1e6 + len(self._story.records)
        large = runs_of_many._MAPPED_BYTES
        return [
            JournalFile(True, now_s, "new", 1, large),
            JournalFile(False, self.since_s - runs_of_many._LATE_S, "old", 2, large),
        ]

    def _reader(self, fields: object, files: Sequence[JournalFile] = ()) -> ListReader:
        names = [file.path for file in files]
        if names and self.rotated:
            raise FileNotFoundError("rotated away")
        self.opened += names
        return ListReader(
            [one for one in self._story.records if not names or self._is_in(one, names[0])]
        )

    def _is_in(self, record: dict[str, Any], name: str) -> bool:
        """The manager's are in the newer one, as a user's jobs have a file of their own."""
        is_new = "INVOCATION" in str(record) or record["__REALTIME_TIMESTAMP"] / 1e6 >= self.since_s
        return is_new is (name == "new")


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("kept", range(14))
def test_runs_that_lie_in_several_files_are_as_in_one(
    story, monkeypatch, kept: int, rotated: bool
) -> None:
    """Wherever the newest file begins: amid a run, after it, before all; or if it is another one by now."""
    story.good("before", "b")
    story.good("twice", "t1")
    story.manager("never_began", "n", MESSAGE_ID=UNIT_FAILED, UNIT_RESULT="exit-code")
    story.good("twice", "t2")
    story.over_its_limit("limited", "l")
    files = Files(story, monkeypatch)
    files.since_s, files.rotated = 1e6 + kept, rotated
    past = RunsOfMany(user=True)
    ids = ["before", "twice", "never_began", "limited", "never"]
    for count in (1, 2):
        assert past.latest(ids, count) == {job_id: past.newest(job_id, count) for job_id in ids}


def test_older_files_are_not_asked_for_runs_that_the_newest_ones_hold(story, monkeypatch) -> None:
    story.good("monthly", "m")
    story.good("often", "o")
    files = Files(story, monkeypatch)
    files.since_s = 1e6 + 3
    past = RunsOfMany(user=True)
    assert past.latest(["often"])["often"] and files.opened == ["new"]
    assert past.latest(["often", "monthly"])["monthly"] and "old" in files.opened
