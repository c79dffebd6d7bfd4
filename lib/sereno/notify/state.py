"""What was told of each job, kept in files: `JOB.json`, and `JOB.failing` while the job's last run failed.

The flag is what a run looks for (one stat(2)) to know that its success is a recovery. All of it is only for counting: a
file that cannot be read is as good as none.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sereno.notify.throttle import State, from_json, to_json


class States:
    """The states of all jobs, in a directory that is made when it is missing."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock on all of them; handlers of several jobs work at the same time."""
        self._directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self, job_id: str) -> State:
        """The state of a job; a new one if nothing is known of it."""
        try:
            return from_json(json.loads((self._directory / f"{job_id}.json").read_bytes()))
        except (OSError, TypeError, ValueError, KeyError, AttributeError):
            return State()

    def write(self, job_id: str, state: State) -> None:
        """Replace the state of a job, under the lock."""
        path, flag = self._directory / f"{job_id}.json", self._directory / flag_name(job_id)
        if state.failing_since_s is not None:
            flag.touch()
        temporary = self._directory / _unfinished(path.name)
        temporary.write_text(json.dumps(to_json(state)), "utf-8")
        os.replace(temporary, path)
        if state.failing_since_s is None:
            with suppress(FileNotFoundError):
                flag.unlink()


def file_names(job_id: str) -> tuple[str, ...]:
    """Names of all files that may be there of a job."""
    name = f"{job_id}.json"
    return name, flag_name(job_id), _unfinished(name)


def _unfinished(name: str) -> str:
    return f".{name}.new"


def flag_name(job_id: str) -> str:
    """Name of the file that is there while the last run of the job failed; `sereno.runner` knows it too."""
    return f"{job_id}.failing"
