"""Which processes of an application live, as systemd cannot know: they register jobs and need not be units.

Each that has started its timers holds a shared lock (flock(2)) on a file below /run until it shuts them down or ends,
however it ends. Whoever gets the lock for itself alone is the last one. Workers that were forked hold their parent's
lock with it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Living:
    """The processes of one application, by a file that only those may open who may change its timers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None

    def join(self) -> None:
        """Count this process as one that lives."""
        if self._held is None:
            self._held = self._locked(fcntl.LOCK_SH)

    def _leave(self) -> None:
        if self._held is not None:
            # Closed and not unlocked: that would take the lock from a parent too, whose descriptor was inherited.
            os.close(self._held)
            self._held = None

    # A scheduler that nobody has any more does not live.
    __del__ = _leave

    @contextmanager
    def left(self) -> Iterator[bool]:
        """Count this process no longer; yield whether none lives, and let none join meanwhile."""
        self._leave()
        try:
            descriptor = self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)

    def _locked(self, how: int) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(descriptor, how)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
