"""The mark of a clean end: a file whose presence says that everything before it is on the disk."""

from __future__ import annotations

import os

from sereno.cache.board import SYNCED
from sereno.cache.directory import Directory, held

NAME = "synced"


def write(directory: Directory, transaction: int) -> None:
    """Puts the mark there, on the disk: `transaction` was the last one."""
    _remove(directory)
    with held(directory.create(NAME)) as fd:
        os.write(fd, b"%d\n" % transaction)
        os.fsync(fd)
    directory.sync()


def read(directory: Directory) -> int | None:
    """The last transaction before the clean end; -1 when the mark does not say, None where there is none."""
    try:
        with held(directory.open(NAME)) as fd:
            return int(os.read(fd, 24))
    except FileNotFoundError:
        return None
    except ValueError:
        return -1


def remove(directory: Directory, words: memoryview) -> None:
    """Takes the mark away, on the disk, before anything is written that may not reach it.

    Only the first write after a clean end pays for it. The caller is inside a write transaction.
    """
    _remove(directory)
    directory.sync()
    words[SYNCED] = 0


def _remove(directory: Directory) -> None:
    try:
        os.unlink(NAME, dir_fd=directory.fd)
    except FileNotFoundError:
        pass
