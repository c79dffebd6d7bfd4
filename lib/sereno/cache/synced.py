"""The mark of a clean end: a file whose presence says that everything before it is on the disk."""

from __future__ import annotations

import os
import stat

from sereno.cache.board import SYNCED


def path_in(directory: str) -> str:
    """The mark of the files in `directory`."""
    return os.path.join(directory, "synced")


def write(directory: str, transaction: int) -> None:
    """Puts the mark there, on the disk: `transaction` was the last one."""
    mode = stat.S_IMODE(os.stat(os.path.join(directory, "board")).st_mode)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path_in(directory), flags, 0o600)
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            os.fchmod(fd, mode)
        os.write(fd, b"%d\n" % transaction)
        os.fsync(fd)
    finally:
        os.close(fd)
    _sync_directory(directory)


def read(directory: str) -> int:
    """The last transaction before the clean end; -1 when the mark does not say."""
    try:
        with open(path_in(directory), "rb") as file:
            return int(file.read(24))
    except ValueError:
        return -1


def unmark(directory: str, words: memoryview) -> None:
    """Takes the mark away, on the disk, before anything is written that may not reach it.

    Only the first write after a clean end pays for it. The caller is inside a write transaction.
    """
    try:
        os.unlink(path_in(directory))
    except FileNotFoundError:
        pass
    _sync_directory(directory)
    words[SYNCED] = 0


def _sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
