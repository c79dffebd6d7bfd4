"""What was told of each job, kept in files: `JOB.json`, and `JOB.failing` while a success of the job would be news.

The flag is what a run looks for (one stat(2)) to know that its success is a recovery. All of it is only for counting: a
file that cannot be read is as good as none, but that the flag still says that the job was failing.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sereno.notify.throttle import Last, Row, State, Told, from_json
from sereno.records import messages
from sereno.records.files import content, replace, unfinished
from sereno.records.log import Logger

# Who holds the lock reads and writes one small file.
LOCK_S = 5.0
_logger = Logger("sereno.notify")


class States:
    """The states of all jobs, in a directory that is made when it is missing.

    What the disk does not take is known to this object alone: a full disk is what jobs fail of, and people are better
    told too often than not at all.
    """

    def __init__(self, directory: str) -> None:
        self._directory, self._unkept = Path(directory), dict[str, State]()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock on all of them; handlers of several jobs work at the same time."""
        self._directory.mkdir(parents=True, exist_ok=True)
        # A file that nobody else can open: whoever may read the directory could lock that for ever.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._directory / ".lock", flags, 0o600)
        give_up = time.monotonic() + LOCK_S
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > give_up:
                        raise
                time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)

    def read(self, job_id: str) -> State:
        """The state of a job; a new one if nothing is known of it."""
        if job_id in self._unkept:
            return self._unkept[job_id]
        with suppress(Exception):
            return from_json(json.loads(content(self._directory / f"{job_id}.json")))
        try:
            since_s = max((self._directory / flag_name(job_id)).lstat().st_mtime, 0.0)
        except OSError:
            return State()
        # It failed, and whether that was told is unknown: the next failure is told, and so is a recovery.
        return State(Row(since_s, 1), told={"": Told({"": Last(1.0)})})

    def change(self, job_id: str, change: Callable[[State], State]) -> State:
        """Keep what `change` makes of the state of a job, and return it."""
        after = None
        try:
            with self._locked():
                before = self.read(job_id)
                after = change(before)
                flag = self._directory / flag_name(job_id)
                is_kept = after == before and after.wants_success == flag.exists()
                if job_id in self._unkept or not is_kept:
                    # Until the disk has it; the next handler's thread reads it as soon as the lock is free.
                    self._unkept[job_id] = after
                    self._write(job_id, after, flag)
                    del self._unkept[job_id]
        except OSError as error:
            _logger.warning(messages.NO_MEMORY, job_id, error)
            if after is None:
                after = change(self._unkept.get(job_id, State()))
                self._unkept[job_id] = after
        return after

    def _write(self, job_id: str, state: State, flag: Path) -> None:
        """Raises OSError where the disk does not take it; nothing is left then that is out of date."""
        path = self._directory / f"{job_id}.json"
        try:
            if not state.wants_success:
                flag.unlink(missing_ok=True)
            elif not flag.exists():
                flag.touch()
            replace(str(path), json.dumps(state).encode(), mode=None)
        except OSError:
            with suppress(OSError):
                path.unlink()
            raise


def file_names(job_id: str) -> tuple[str, ...]:
    """Names of all files that may be there of a job."""
    name = f"{job_id}.json"
    return name, flag_name(job_id), unfinished(name)


def flag_name(job_id: str) -> str:
    """Name of the file that is there while the last run of the job failed; `sereno.runner` knows it too."""
    return f"{job_id}.failing"
