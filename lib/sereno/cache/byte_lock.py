"""Locks on one byte of a file that belong to the open file (fcntl(2), "Open file description locks").

The kernel drops such a lock when the file is closed, so also when its process dies, however it dies. Forked children
share the open file and with it the lock: it is dropped when the last of them closes it, or when one of them calls
`drop`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid (0 for this kind).
_FLOCK = struct.Struct("hhqqi4x")


def take(fd: int, at: int) -> bool:
    """Is the byte ours now?"""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _of_byte(fcntl.F_WRLCK, at))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def drop(fd: int, at: int) -> None:
    """Lets go of the byte, for all who share the open file."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _of_byte(fcntl.F_UNLCK, at))


def is_taken(fd: int, at: int) -> bool:
    """Has another open file the byte?"""
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _of_byte(fcntl.F_WRLCK, at))
    kind: int = _FLOCK.unpack(found)[0]
    return kind != fcntl.F_UNLCK


def _of_byte(kind: int, at: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, at, 1, 0)
