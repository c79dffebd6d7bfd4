"""Time zones: is a name one of this machine's, and which clocks does it keep.

Everything that reads the zone database or the machine's setting is in this module.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from sereno.errors import InvalidTrigger, did_you_mean

# The database that systemd reads (tzset(3)). Not that of the Python package tzdata, which may know other names.
ZONE_DATABASE = Path("/usr/share/zoneinfo")
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_NOT_FOR_SCHEDULES = {
    "right/": "counts leap seconds, which no clock of this machine does",
    "posix/": "is the same zone under a second name",
    "localtime": "is not the name of a zone",
    "posixrules": "is not the name of a zone",
}
# Clock changes are looked for in these years. A fixed span, so that the same text always gives the same lines; it
# begins with the first year in which sereno ran. Rules before that are history.
_FROM = datetime(2026, 1, 1, tzinfo=UTC)
_UNTIL = datetime(2041, 1, 1, tzinfo=UTC)
# Shorter than any season that a zone keeps (Morocco's month of Ramadan).
_PROBE = timedelta(days=7)
# Every zone of the database is off UTC by a multiple of this. 2026: whole hours, :30 and :45.
_COMMON_STEP_MIN = 15


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of one zone.

    Attributes:
        offsets_min: minutes ahead of UTC, one for each season.
        skipped: minutes of the day that do not exist when the clocks go forward.
        repeated: minutes of the day that come twice when they go back.
    """

    offsets_min: frozenset[int]
    skipped: frozenset[int]
    repeated: frozenset[int]


def check_zone(field: str, name: object) -> str:
    """Return the name of a zone, given as such or as an object that has one, if the machine's zone database has it;
    else `InvalidTrigger` that names `field`."""
    hint = "a name below /usr/share/zoneinfo, such as Europe/Madrid, or UTC"
    if isinstance(name, tzinfo):
        # zoneinfo, pytz, dateutil; others are known by how they show themselves, if at all.
        shown = "UTC" if str(name) == "tzutc()" else str(name)
        name = getattr(name, "key", None) or getattr(name, "zone", None) or shown
    if not isinstance(name, str) or not _ZONE_NAME.fullmatch(name):
        raise InvalidTrigger(f"{field}: {name!r} is not the name of a time zone", hint=hint)
    for beginning, why in _NOT_FOR_SCHEDULES.items():
        if name.startswith(beginning):
            raise InvalidTrigger(f"{field}: {name!r} {why}", hint=hint)
    if name != "UTC" and not _is_zone_file(ZONE_DATABASE / name):
        if not ZONE_DATABASE.is_dir():
            hint = "this machine has no zone database: install the package tzdata"
        elif meant := did_you_mean(name, sorted(available_timezones())):
            hint = meant
        raise InvalidTrigger(f"{field}: this machine has no time zone {name!r}", hint=hint)
    return name


def _is_zone_file(path: Path) -> bool:
    with suppress(OSError):
        return path.read_bytes().startswith(b"TZif")  # tzfile(5)
    return False


def machine_zone(root: Path = Path("/")) -> str | None:
    """Name of the machine's zone as systemd sees it, None if it cannot be told.

    Source: localtime(5): /etc/localtime is a link into the zone database; without it, UTC holds. A plain copy of a zone
    file, as some images have, does not tell its name; Debian's /etc/timezone does.

    Args:
        root: the system to look at, for an image that is not running.
    """
    link = root / "etc/localtime"
    if link.is_symlink():
        _, found, name = str(link.readlink()).partition("zoneinfo/")
    elif not link.exists():
        return "UTC"
    else:
        found, name = "copy", _first_line(root / "etc/timezone")
    try:
        return check_zone("zone", name) if found else None
    except InvalidTrigger:
        return None


def _first_line(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="ascii").partition("\n")[0].strip()
    return ""


@lru_cache(maxsize=64)
def clocks(name: str) -> Clocks:
    """The clocks that the zone keeps in the years 2026 to 2040; `name` has been checked."""
    if name == "UTC":
        return Clocks(frozenset((0,)), frozenset(), frozenset())
    with (ZONE_DATABASE / name).open("rb") as file:
        zone = ZoneInfo.from_file(file, key=name)
    offsets_min: set[int] = set()
    skipped: set[int] = set()
    repeated: set[int] = set()
    at, before = _FROM, _offset(_FROM, zone)
    while at < _UNTIL:
        offsets_min.add(round(before / timedelta(minutes=1)))
        after = _offset(at + _PROBE, zone)
        if after != before:
            change = _change(at, at + _PROBE, zone)
            minutes = _minutes_between(change + before, change + after)
            (skipped if after > before else repeated).update(minutes)
        at, before = at + _PROBE, after
    return Clocks(frozenset(offsets_min), frozenset(skipped), frozenset(repeated))


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first minute with the new offset."""
    old, minute = _offset(before, zone), timedelta(minutes=1)
    minutes = range((after - before) // minute)
    return before + minute * bisect_left(
        minutes, True, key=lambda passed: _offset(before + passed * minute, zone) != old
    )


def _minutes_between(one: datetime, other: datetime) -> Iterable[int]:
    first, last = min(one, other), max(one, other)
    start = first.hour * 60 + first.minute
    return (
        minute % 1440 for minute in range(start, start + (last - first) // timedelta(minutes=1))
    )


def minutes_in_utc(minutes: tuple[int, ...], zone: str | None) -> tuple[int, ...] | None:
    """The minutes of each UTC hour that are `minutes` of each hour in `zone`, all the year; None if no list is.

    A list that looks the same from every quarter of an hour (*/15, */5, *) is the same in every zone. Otherwise the
    zone must be known, and its clocks may change by whole hours only: those of Lord Howe Island change by half an hour,
    so that minute 5 of its hours is minute 5 of UTC's in one season and 35 in the other. Where the clocks never change
    and are off by a part of an hour (India), the zone's own minutes are as exact and easier to read: None as well.
    `minutes` are ascending; None as a zone is any.
    """
    whole = set(minutes)
    if whole == {(minute + _COMMON_STEP_MIN) % 60 for minute in whole}:
        return minutes
    if zone is None:
        return None
    offsets_min = clocks(zone).offsets_min
    if len(offsets_min) == 1 and any(offset % 60 for offset in offsets_min):
        return None
    in_utc = {tuple(sorted((minute - offset) % 60 for minute in minutes)) for offset in offsets_min}
    return in_utc.pop() if len(in_utc) == 1 else None
