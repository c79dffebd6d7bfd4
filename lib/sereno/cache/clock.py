"""The cache's own time, which no one can set.

An entry's expiry is a point of wall-clock time, because the entry may outlive a reboot. Between reboots the wall clock
is not asked: a clock set back would give entries a second life, one set forward would kill all of them. Cache time is
the wall clock's time when the cache was first opened after the boot, carried on by CLOCK_BOOTTIME, which is the same
for all processes, runs on during suspend, and never jumps (clock_gettime(2)).
"""

from __future__ import annotations

import time

from sereno.errors import CacheError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_BOOT_ID = "/proc/sys/kernel/random/boot_id"

boottime_s: Callable[[int], float] = time.clock_gettime
BOOTTIME = time.CLOCK_BOOTTIME

NEVER_MS = (1 << 63) - 1
"""The expiry of an entry that does not expire."""


def boottime_ms() -> int:
    """Milliseconds since the boot, by the machine's clock."""
    return time.clock_gettime_ns(BOOTTIME) // 1_000_000 - offset_ms()


def offset_ms() -> int:
    """By how much the time namespace of this process is ahead of the machine (time_namespaces(7))."""
    try:
        with open("/proc/self/timens_offsets", encoding="ascii") as file:
            for line in file:
                name, seconds, nanoseconds = line.split()
                if name in ("boottime", str(BOOTTIME)):
                    return int(seconds) * 1000 + int(nanoseconds) // 1_000_000
    except (OSError, ValueError):
        pass
    return 0


def epoch_ms(last_ms: int = 0) -> int:
    """What to add to `boottime_ms` from now until the next boot.

    Args:
        last_ms: cache time when the cache was last closed. A machine that comes up with its clock in the past must
            not hand out entries for longer than they were given.
    """
    return max(time.time_ns() // 1_000_000, last_ms) - boottime_ms()


def boot_id() -> bytes:
    """The kernel's id of this boot, 16 bytes (random(4)).

    Raises:
        CacheError: it cannot be read. Nothing follows from that for the cache.
    """
    try:
        with open(_BOOT_ID, "rb") as file:
            return bytes.fromhex(file.read().decode().strip().replace("-", ""))
    except OSError as error:
        refused = CacheError(
            f"{_BOOT_ID}: {error.strerror}; without it a cache cannot be told from one of before a crash",
            hint="under ProcSubset=pid a service does not see it: set ProcSubset=all",
        )
        refused.errno, refused.filename = error.errno, _BOOT_ID
        raise refused from error
