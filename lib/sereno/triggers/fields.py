"""One field of cron text → the values it stands for.

The language is that of Debian's cron (package cron 3.0pl1-162, `entry.c`: `get_list`, `get_range`, `get_number`)::

    field = item {"," item}
    item  = "*" ["/" step] | value | value "-" value ["/" step]
    value = number | name (months and weekdays, three letters, any case)

Where that program takes nonsense silently, the text is refused here instead: it ignores what follows an item up to the
next blank ("5;8" is 5, "1-5-9" is 1-5), and a range that runs backwards is an empty one, so that "22-2" never fires.

Two extensions that it does not have: "L" in the day field (the last day of the month), and in the weekday field "5#2"
(the second Friday) and "5L" (the last one). It refuses the first and the last, and reads "5#2" as 5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from sereno.errors import InvalidTrigger

MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

LAST = -1  # in `Values.nth`: the last one of the month

# Of other programs' languages, by the last letter.
_HINTS = {
    "W": "cron has no nearest weekday: L is the last day, and mon-fri in the weekday field the working days",
    "H": "H is Jenkins's: choose the value; jitter= spreads the runs of many machines",
}
_NUMBER = re.compile(r"[0-9]{1,9}")
_ITEM = re.compile(
    r"(?:\*|(?P<first>[A-Za-z0-9]+)(?:-(?P<last>[A-Za-z0-9]+))?)(?:/(?P<step>[A-Za-z0-9]+))?"
)
_NTH_WEEKDAY = re.compile(r"(?P<weekday>[A-Za-z]{3}|[0-9]+)(?:#(?P<nth>[0-9]+)|(?P<last>[Ll]))")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of cron text: its name, what it may hold, and the names that stand for numbers from `minimum` up."""

    name: str
    minimum: int
    maximum: int
    names: tuple[str, ...] = ()
    allowed: str = ""


SECOND = Field("second", 0, 59, allowed="0 to 59")
MINUTE = Field("minute", 0, 59, allowed="0 to 59")
HOUR = Field("hour", 0, 23, allowed="0 to 23")
DAY = Field("day", 1, 31, allowed="1 to 31, or L for the month's last day")
MONTH = Field("month", 1, 12, MONTH_NAMES, allowed="1 to 12, or jan to dec")
WEEKDAY = Field(
    "day_of_week", 0, 7, WEEKDAY_NAMES, allowed="0 to 7 (0 and 7 are Sunday), or sun to sat"
)

# In the order of cron text.
CRON_FIELDS = (MINUTE, HOUR, DAY, MONTH, WEEKDAY)


@dataclass(frozen=True, slots=True)
class Values:
    """What one field stands for.

    Attributes:
        numbers: the plain values; weekdays from 1 (Monday) to 7 (Sunday).
        star: the text starts with "*", also as in "*/2": what cron asks when it joins day and weekday.
        last_day: "L" of the day field is among the items.
        nth: (weekday, n) for the nth such weekday of a month, n from 1 to 5 or `LAST`.
    """

    numbers: frozenset[int]
    star: bool
    last_day: bool = False
    nth: frozenset[tuple[int, int]] = frozenset()


def parse(field: Field, text: str, *, whole: str | None = None, offset: int = 0) -> Values:
    """Read the text of one field, which has no blanks. `InvalidTrigger` names the field, the value and what is allowed,
    and points at the place.

    Args:
        whole: the text to show in an error; default: `text` itself.
        offset: where `text` starts in `whole`.
    """
    if text == "*":
        return _OF_STAR[field.name]
    numbers: set[int] = set()
    nth: set[tuple[int, int]] = set()
    last_day = False
    for found in re.finditer(r"(?:^|,)([^,]*)", text):
        item = found[1]
        place = _Place(field, text if whole is None else whole, offset + found.start(1), item)
        if field is DAY and item in ("L", "l"):
            last_day = True
        elif field is WEEKDAY and (match := _NTH_WEEKDAY.fullmatch(item)):
            nth.add(_nth_weekday(match, place))
        else:
            numbers.update(_range(item, place))
    if field is WEEKDAY:
        numbers = {number or 7 for number in numbers}
    return Values(frozenset(numbers), text.startswith("*"), last_day, frozenset(nth))


def or_star(field: Field, text: str) -> str:
    """`text`, or "*" if that has the same values. Raises InvalidTrigger as `parse` does."""
    return "*" if parse(field, text).numbers == _OF_STAR[field.name].numbers else text


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an item stands, for errors."""

    field: Field
    whole: str
    start: int
    item: str

    def refuse(self, part: str, why: str, hint: str | None = None) -> NoReturn:
        start = self.start + max(self.item.find(part), 0)
        raise InvalidTrigger(
            f"{self.field.name}: {part!r} {why}{pointer(self.whole, start, len(part))}", hint=hint
        )


def pointer(whole: str, start: int, length: int) -> str:
    """Two more lines for a message: the text and a mark below the place in it; nothing if that cannot be shown."""
    shown = whole.replace("\t", " ")
    if not shown.isprintable() or not shown.isascii() or len(shown) > 200:
        return ""
    return f"\n    {shown}\n    {' ' * start}{'^' * max(length, 1)}"


def _range(item: str, place: _Place) -> range:
    field = place.field
    match = _ITEM.fullmatch(item)
    if match is None:
        _refuse_item(item, place)
    first, last, step = match["first"], match["last"], match["step"]
    if first is None:
        start, stop = field.minimum, field.maximum
    elif last is None:
        start = stop = _value(first, place)
        if step is not None:
            place.refuse(
                item,
                "has a step on a single value, which Debian's cron does not take",
                f"{first}-{field.maximum}/{step} counts from {first} to the end",
            )
    else:
        start, stop = _value(first, place), _value(last, place)
        if start > stop:
            _refuse_backwards(item, first, last, place)
    return range(start, stop + 1, 1 if step is None else _step(step, place))


def _value(text: str, place: _Place) -> int:
    field = place.field
    if text.lower() in field.names:
        return field.minimum + field.names.index(text.lower())
    if not _NUMBER.fullmatch(text):
        long_name = next((name for name in field.names if text.lower().startswith(name)), None)
        hint = f"names have three letters: {long_name}" if long_name else _HINTS.get(text[-1:])
        place.refuse(text, f"is not a value: {field.allowed}", hint)
    number = int(text)
    if not field.minimum <= number <= field.maximum:
        place.refuse(text, f"is out of range: {field.allowed}")
    return number


def _step(text: str, place: _Place) -> int:
    if not _NUMBER.fullmatch(text) or int(text) == 0:
        place.refuse("/" + text, "is not a step: a whole number from 1 up")
    return int(text)


def _nth_weekday(match: re.Match[str], place: _Place) -> tuple[int, int]:
    weekday = _value(match["weekday"], place) or 7
    if match["last"]:
        return weekday, LAST
    nth = int(match["nth"]) if len(match["nth"]) == 1 else 0
    if not 1 <= nth <= 5:
        place.refuse(
            "#" + match["nth"],
            "is not one of a month's weekdays: #1 to #5",
            f"{match['weekday']}L is the last one of a month",
        )
    return weekday, nth


def _refuse_backwards(item: str, first: str, last: str, place: _Place) -> NoReturn:
    names, whole = place.field.names, (place.field.minimum, place.field.maximum)
    bottom, top = (names[0], names[-1]) if first.isalpha() and names else map(str, whole)
    parts = [(first, top), (bottom, last)]
    if place.field is WEEKDAY and first.isdigit():
        # 7 is Sunday, so that a week of numbers begins on Monday.
        parts = [(first, "7"), ("1", last)] if last.lower() not in ("0", "sun") else [(first, "7")]
    hint = ",".join(
        one if one.lower() == other.lower() else f"{one}-{other}" for one, other in parts
    )
    place.refuse(item, "runs backwards, which Debian's cron takes for no value at all", hint)


def _refuse_item(item: str, place: _Place) -> NoReturn:
    field = place.field
    if not item:
        place.refuse("", f"stands in the list where a value should be: {field.allowed}")
    if item == "?":
        place.refuse(item, "is not cron's language", "write * for every value")
    if item.strip("\"'") != item:
        place.refuse(item, "has a quote in it", "give the text without quotes of its own")
    if "~" in item:
        place.refuse(
            item, "asks for a random value, which Debian's cron does not have", "choose the value"
        )
    place.refuse(item, f"is not a value, a range a-b or a step */n: {field.allowed}")


_OF_STAR = {
    field.name: Values(
        # Of Sunday's two numbers that which is systemd's.
        frozenset(range(1 if field is WEEKDAY else field.minimum, field.maximum + 1)),
        star=True,
    )
    for field in (SECOND, *CRON_FIELDS)
}
