"""Cron text or single cron fields as they were given → the text of each field. What cron cannot read is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn

from sereno.errors import InvalidTrigger
from sereno.triggers import fields
from sereno.triggers.fields import CRON_FIELDS, Field, pointer

# Longer than any schedule; Debian's cron takes no longer word or command either (MAX_TEMPSTR, MAX_COMMAND in cron.h).
MAX_TEXT = 1000

# Debian's cron, entry.c. In lower case only, as there.
MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
# From the coarsest to the finest, with what a field is when only a coarser one is given. A weekday is never assumed.
_DEFAULTING = (
    (fields.MONTH, "1"),
    (fields.DAY, "1"),
    (fields.WEEKDAY, "*"),
    (fields.HOUR, "0"),
    (fields.MINUTE, "0"),
    (fields.SECOND, "0"),
)
_CRON_CHARACTERS = re.compile(r"[\t -~]*")


def read_expression(expression: object) -> tuple[str, str]:
    """Cron text with single blanks, as given and with the five fields in the place of a word such as @daily;
    `InvalidTrigger` for what is neither."""
    words = _words(expression)
    whole = " ".join(words)
    if whole in MACROS:
        return whole, MACROS[whole]
    if whole.startswith("@"):
        hint = f"one of {', '.join(MACROS)}, @reboot"
        if whole.startswith("@every"):
            hint = "for a fixed distance between runs use an interval: add_interval_job"
        why = f"is no word of cron's{pointer(whole, 0, len(whole))}"
        raise InvalidTrigger(f"cron_expression: {whole!r} {why}", hint=hint)
    if len(words) != len(CRON_FIELDS):
        _refuse_count(words, whole)
    return whole, whole


def _words(expression: object) -> list[str]:
    if not isinstance(expression, str):
        raise InvalidTrigger(
            f"cron_expression: {expression!r} is not text", hint='such as "0 3 * * *"'
        )
    if len(expression) > MAX_TEXT:
        raise InvalidTrigger(
            f"cron_expression: {len(expression)} characters, more than {MAX_TEXT}: {expression[:40]!r}…"
        )
    if not _CRON_CHARACTERS.fullmatch(expression):
        place = next(i for i, one in enumerate(expression) if not _CRON_CHARACTERS.fullmatch(one))
        raise InvalidTrigger(
            f"cron_expression: character {expression[place]!r} at place {place + 1} of {expression!r} is not cron's",
            hint="five fields of ASCII text in one line, with blanks between them",
        )
    return expression.split()


def _refuse_count(words: list[str], whole: str) -> NoReturn:
    hint = "minute hour day month weekday, such as 0 3 * * *"
    if re.match(r"(CRON_)?TZ=", whole):
        hint = "name the zone with timezone="
    elif len(words) > 7:
        hint = "put the text in quotes: the shell writes names of files in the place of each *"
    elif len(words) > 5 and re.match(r"(19|20)\d\d" + r"|[*?]$" * (len(words) == 7), words[-1]):
        hint = "cron has no field of the year; seconds are given with second="
    elif len(words) > 5:
        hint = "seconds are given with second=, and a crontab's user name or command is not part of the schedule"
    place = pointer(whole, 0, len(whole)) if whole else ""
    raise InvalidTrigger(
        f"cron_expression: {whole!r} has {len(words)} fields, not 5{place}", hint=hint
    )


def fill_fields(given: Mapping[str, str | int | None]) -> dict[str, str]:
    """The text of every field, by name: those given, and for the others their minimum or "*". `InvalidTrigger` if none
    is given, or one is neither a whole number nor text without blanks."""
    names = [each.name for each, _ in _DEFAULTING]
    finest = max(
        (names.index(name) for name, value in given.items() if value is not None), default=None
    )
    if finest is None:
        raise InvalidTrigger(
            "trigger: no field is given",
            hint='give at least one of hour=, minute=, day=, month=, day_of_week=, second=; minute="*" is every minute',
        )
    return {
        each.name: (
            _field_text(each, value)
            if (value := given.get(each.name)) is not None
            else minimum
            if place > finest
            else "*"
        )
        for place, (each, minimum) in enumerate(_DEFAULTING)
    }


def _field_text(each: Field, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InvalidTrigger(
            f"{each.name}: {value!r} is not the text of a cron field or a whole number: {each.allowed}"
        )
    if len(value) > MAX_TEXT:
        raise InvalidTrigger(
            f"{each.name}: {len(value)} characters, more than {MAX_TEXT}: {value[:40]!r}…"
        )
    if value.split() != [value]:
        hint = "without blanks, such as '1,15' or '*/5'"
        nth = re.fullmatch(r"([1-5])(?:st|nd|rd|th) (\w{3})|last (\w{3})", value)
        if len(value.split()) == len(CRON_FIELDS):
            hint = f"cron_expression={value!r}"
        elif nth:
            hint = f"day_of_week={f'{nth[2]}#{nth[1]}' if nth[1] else f'{nth[3]}L'!r}"
        raise InvalidTrigger(
            f"{each.name}: {value!r} is not one cron field: {each.allowed}", hint=hint
        )
    return value
