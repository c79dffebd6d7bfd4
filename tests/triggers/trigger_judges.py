"""The two judges of a schedule, and expressions to put before them.

systemd-analyze reads our lines; cronsim, which follows Debian's cron, reads the cron text. Neither knows of the other,
and no code of sereno's takes part in reading the elapses.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

# "Next elapse:" is the first, then "Iter. #2:" on systemd 252 and "Iteration #2:" from 257 on. In UTC there is no
# second line for the same elapse.
_ELAPSE = re.compile(
    r"^ *(?:Next elapse|Iter(?:\.|ation) #\d+): \w{3} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC$", re.M
)
_SPECIFICATIONS_IN_A_CALL = 400
# systemd looks no further (MAX_YEAR in its calendarspec.c).
LAST_YEAR = 2199


def systemd_elapses(specifications: Sequence[str], base: datetime, count: int) -> list[list[str]]:
    """The next `count` elapses after `base` of each OnCalendar= value, as UTC text, read by systemd-analyze.

    One call for hundreds of values: a process costs as much as 250 elapses.
    """
    elapses: list[list[str]] = []
    for start in range(0, len(specifications), _SPECIFICATIONS_IN_A_CALL):
        batch = specifications[start : start + _SPECIFICATIONS_IN_A_CALL]
        output = subprocess.run(
            [
                "systemd-analyze",
                "calendar",
                f"--base-time={base:%Y-%m-%d %H:%M:%S} UTC",
                f"--iterations={count}",
                *batch,
            ],
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "TZ": "UTC", "LC_ALL": "C"},
        ).stdout
        blocks = output.split("\n\n")
        assert len(blocks) == len(batch), "one block for each value"
        elapses += [_ELAPSE.findall(block) for block in blocks]
    return elapses


def elapses_of_timers(
    timers: Sequence[Sequence[str]], base: datetime, count: int
) -> list[list[str]]:
    """The next `count` elapses of each timer, which has one or more OnCalendar= lines: any of them counts."""
    flat = [value_of(line) for lines in timers for line in lines]
    found = iter(systemd_elapses(flat, base, count))
    return [sorted({at for _ in lines for at in next(found)})[:count] for lines in timers]


def value_of(line: str) -> str:
    """The value of an OnCalendar= line."""
    name, _, value = line.partition("=")
    assert name == "OnCalendar"
    return value


def cron_elapses(expression: str, base: datetime, count: int) -> list[str]:
    """The next `count` elapses by cronsim in a zone whose clocks never change, up to systemd's last year, as text."""
    found = islice(CronSim(for_cronsim(expression), base.replace(tzinfo=None)), count)
    return [at.isoformat(" ") for at in found if at.year <= LAST_YEAR]


_STEPPED_RANGE = re.compile(r"(\w+)-(\w+)/\d+")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


def for_cronsim(expression: str) -> str:
    """The same text as cronsim has to be given it, where it and Debian's cron differ.

    "5-5/3" is 5 to Debian's cron: get_range() in entry.c counts from the first number while it is not above the second
    one. cronsim takes any set of one value with a step to the field's end, as for "5/3", which Debian's cron refuses.
    """
    return _STEPPED_RANGE.sub(
        lambda match: match[1] if _number(match[1]) == _number(match[2]) else match[0], expression
    )


def _number(value: str) -> int:
    name = value.lower()
    if name in _MONTHS:
        return _MONTHS.index(name) + 1
    return _WEEKDAYS.index(name) if name in _WEEKDAYS else int(value)


def local_elapses(expression: str, zone: ZoneInfo, base: datetime, count: int) -> list[str]:
    """What a schedule that keeps a zone's own time has to do, as UTC text.

    Cron's times by the clock on the wall, without those that do not exist, and the first of those that come twice.
    """
    wall = base.astimezone(zone).replace(tzinfo=None) - timedelta(hours=3)
    found: Iterator[str] = (
        at.replace(tzinfo=None).isoformat(" ")
        for local in CronSim(for_cronsim(expression), wall)
        for at in [local.replace(tzinfo=zone, fold=0).astimezone(UTC)]
        if at > base and at.astimezone(zone).replace(tzinfo=None) == local
    )
    return list(islice(found, count))


def generated_expressions(seed: int, count: int) -> list[str]:
    """Expressions with every construct of the language, always the same for the same seed."""
    choose = random.Random(seed)
    found = []
    while len(found) < count:
        expression = _expression(choose)
        if has_a_day(expression):
            found.append(expression)
    return found


def has_a_day(expression: str) -> bool:
    """Whether cron would ever run it (30 February, day and weekday ANDed, is no day)."""
    try:
        next(CronSim(for_cronsim(expression), datetime(2026, 1, 1)))  # noqa: DTZ001
    except CronSimError as error:
        if "Bad day-of-month" in str(error):
            return False
        raise
    return True


MACROS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")


def _expression(choose: random.Random) -> str:
    day, weekday = _field(choose, 1, 31), _field(choose, 0, 7, _WEEKDAYS)
    shape = choose.random()
    if shape < 0.15:
        day = "*"
    elif shape < 0.3:
        weekday = "*"
    elif shape < 0.4:
        day, weekday = "*", "*"
    if day != "*" and choose.random() < 0.08:
        day = choose.choice(("L", f"{day},L", f"l,{choose.randint(1, 31)}"))
    if weekday != "*" and choose.random() < 0.1:
        nth = f"{choose.choice((*_WEEKDAYS, *map(str, range(8))))}#{choose.randint(1, 5)}"
        weekday = choose.choice(
            (nth, f"{choose.randint(0, 7)}L", f"{nth},{choose.choice(_WEEKDAYS)}")
        )
        if "L" in day.upper():
            day = "15"
        if day.startswith("*"):
            day = "*"
    fields = (
        _field(choose, 0, 59),
        _field(choose, 0, 23),
        day,
        _field(choose, 1, 12, _MONTHS) if choose.random() < 0.4 else "*",
        weekday,
    )
    return choose.choice((" ", " ", "  ", "\t")).join(fields)


def _field(choose: random.Random, low: int, high: int, names: Sequence[str] = ()) -> str:
    if choose.random() < 0.2:
        return "*"
    items = 1 if choose.random() < 0.6 else choose.randint(2, 5)
    return ",".join(_item(choose, low, high, names) for _ in range(items))


def _item(choose: random.Random, low: int, high: int, names: Sequence[str]) -> str:
    first, last = sorted((choose.randint(low, high), choose.randint(low, high)))
    step = choose.choice((1, 2, 3, 4, 5, 7, 9, 10, 13, 15, 20, 25, 30, 45, 59, 60, 100))
    kind = choose.random()
    if kind < 0.25:
        return f"*/{step}"
    if kind < 0.5:
        return _value(choose, first, low, names)
    if names and last - low >= len(names):
        last = len(names) - 1 + low
        first = min(first, last)
    text = f"{_value(choose, first, low, names)}-{_value(choose, last, low, names)}"
    return text if kind < 0.75 else f"{text}/{step}"


def _value(choose: random.Random, value: int, low: int, names: Sequence[str]) -> str:
    if names and value - low < len(names) and choose.random() < 0.5:
        name = names[value - low]
        return choose.choice((name, name.upper(), name.capitalize()))
    return choose.choice((str(value), str(value), f"{value:02}"))
