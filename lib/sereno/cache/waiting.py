"""Locks of whole open files (flock(2)) that are waited for so long and no longer; the error names the holder.

Polled: flock(2) itself waits without an end, and what would end it, a signal, belongs to the program that uses the
cache. The kernel drops such a lock with the process that holds it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from sereno.errors import CacheError, UsageError

SETTING = "SERENO_CACHE_WAIT_S"
WAIT_S = 5.0
_FIRST_PAUSE_S = 0.00005
_LONGEST_PAUSE_S = 0.0005


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
