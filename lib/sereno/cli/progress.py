"""On a terminal: the seconds of what is waited for, counted until there is something to show."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# Before that nobody has begun to wonder.
_QUIET_S = 1.0


class _Stream:
    """A stream whose first words end the counting."""

    def __init__(self, stream: TextIO, end: Any) -> None:
        self._stream, self._end = stream, end

    def write(self, text: str) -> int:
        self._end()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def counting() -> Iterator[None]:
    """Count the seconds of the block, unless standard output or standard error is no terminal that can clear a line."""
    out, error = sys.stdout, sys.stderr
    if not (out.isatty() and error.isatty()) or os.environ.get("TERM") == "dumb":
        yield
        return
    from threading import Event, Thread

    over = Event()

    def count() -> None:
        seconds = 0
        while not over.wait(_QUIET_S):
            seconds += 1
            print(f"{seconds}s", end="\r", file=error, flush=True)
        print(end="\033[K" * bool(seconds), file=error, flush=True)

    thread = Thread(target=count, daemon=True)

    def end() -> None:
        over.set()
        thread.join()

    thread.start()
    sys.stdout, sys.stderr = _Stream(out, end), _Stream(error, end)
    try:
        yield
    finally:
        end()
        sys.stdout, sys.stderr = out, error
