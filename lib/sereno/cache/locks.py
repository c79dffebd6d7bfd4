"""Locks that belong to an open file: one byte's (fcntl(2), "Open file description locks"), and the whole's (flock(2)).

The kernel drops such a lock when the file is closed, so also when its process dies, however it dies. Forked children
share the open file and with it the lock: it is dropped when the last of them closes it, or when one of them drops it.

That of a whole file is waited for so long and no longer; the error names the holder. Polled: flock(2) itself waits
without an end, and what would end it, a signal, belongs to the program that uses the cache.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from weakref import WeakValueDictionary

from sereno.cache.directory import Directory
from sereno.errors import CacheError, UsageError

SETTING = "SERENO_CACHE_WAIT_S"
WAIT_S = 5.0
_FIRST_PAUSE_S = 0.00005
_LONGEST_PAUSE_S = 0.0005

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


def lock(fd: int, what: str) -> None:
    """Takes the lock of an open file.

    Raises:
        CacheError: another process held it for `WAIT_S` seconds, or for what `SERENO_CACHE_WAIT_S` says.
        UsageError: that says nothing of the kind.
    """
    deadline_s = 0.0
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            now_s = time.monotonic()
            if not deadline_s:
                wait_s = _setting_s()
                deadline_s = now_s + wait_s
            elif now_s >= deadline_s:
                error = CacheError(
                    f"{what} was held for {wait_s:g} s by {_holder(fd)}",
                    hint=f"end that process; {SETTING} sets how many seconds to wait",
                )
                error.errno = errno.EAGAIN
                raise error from None
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        else:
            return


def _setting_s() -> float:
    text = os.environ.get(SETTING) or str(WAIT_S)
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s < 1e9:
        raise UsageError(f"{SETTING}: {text!r} is not a number of seconds from 0 up")
    return wait_s


def _holder(fd: int) -> str:
    """After proc_locks(5); a process in another container, or behind ProtectProc=, does not show."""
    inode = f":{os.fstat(fd).st_ino}"
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        lines = []
    for words in lines:
        if words[1] == "FLOCK" and words[5].endswith(inode) and int(words[4]) > 0:
            try:
                with open(f"/proc/{words[4]}/comm", encoding="utf-8", errors="replace") as file:
                    return f"process {words[4]} ({file.read(64).strip()!a})"
            except OSError:
                return f"process {words[4]}"
    return "a process that cannot be seen from here"


class KeyLock:
    """The right to compute the value of one key; `try_to_take` until it is taken, `release` in the end.

    All of a process have one open file, so that any number of keys costs it one descriptor; which of them has the byte
    is in `_File.holders`. A child that was forked meanwhile has the lock too, should its parent be killed; that makes
    nobody wait longer than he wants to.

    Args:
        directory: the cache's.
        name: of the file in it.
        key: the key.
    """

    _file: _File | None = None

    def __init__(self, directory: str, name: str, key: str) -> None:
        from hashlib import blake2b

        digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        # Offsets are signed; two keys in 2^62 share one.
        self._at = int.from_bytes(digest, "little") >> 2
        self._word_at = self._at % _WORDS * 8
        self._name = name
        self.place = (os.getpid(), directory, key)
        self._before = b""

    def try_to_take(self) -> bool:
        """Is it ours now?

        Raises:
            OSError: the file cannot be opened.
        """
        if self._file is None:
            self._file = _opened(self.place[:2], self._name)
            self._before = self._failure()
        # Noted first: a signal's handler may raise anywhere.
        if self._file.holders.setdefault(self._at, id(self)) != id(self):
            return False
        if take(self._file.fd, self._at):
            return True
        del self._file.holders[self._at]
        return False

    def saw_failure(self) -> bool:
        """Did somebody who held it fail since it was first asked for?"""
        return self._failure() != self._before

    def note_failure(self) -> None:
        """Tells those who wait that they need not do so one after the other; harmless without the lock."""
        if self._file is not None and self._file.holders.get(self._at) == id(self):
            try:
                os.pwrite(self._file.fd, os.urandom(8), self._word_at)
            except OSError:
                return  # a full disk: they wait for each other

    def release(self) -> None:
        """Lets the next one compute."""
        # In a child that was forked with it, it is the parent's.
        if self._file is None or os.getpid() != self.place[0]:
            return
        if self._file.holders.get(self._at) == id(self):
            drop(self._file.fd, self._at)
            self._file.holders.pop(self._at, None)

    def __del__(self) -> None:
        self.release()

    def _failure(self) -> bytes:
        return b"" if self._file is None else os.pread(self._file.fd, 8, self._word_at)


_WORDS = 512  # one for the failures of each 512th key

_files: WeakValueDictionary[tuple[int, str], _File] = WeakValueDictionary()


class _File:
    """An open file that closes with the last lock on it. `holders` has the `KeyLock` (its id) of each byte taken."""

    def __init__(self, directory: str, name: str) -> None:
        self.holders: dict[int, int] = {}
        with Directory(directory) as found:
            self.fd = found.open(name)
        self._end = _End(self.fd)


class _End:
    """Closes a descriptor. Apart from `_File`, which another thread could still find while its own `__del__` ran."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __del__(self) -> None:
        os.close(self._fd)


def _opened(at: tuple[int, str], name: str) -> _File:
    file = _files.get(at)
    if file is None:
        file = _files[at] = _File(at[1], name)
    return file
