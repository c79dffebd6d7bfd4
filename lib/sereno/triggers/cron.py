"""`CronTrigger`: cron text or cron fields → the runs they mean to Debian's cron → calendar lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn

from sereno.errors import InvalidTrigger
from sereno.triggers import fields
from sereno.triggers.days import EVERY_DAY, DayRule, day_rules, either_counts
from sereno.triggers.fields import CRON_FIELDS, Field, Values, pointer
from sereno.triggers.oncalendar import calendar_lines
from sereno.triggers.zone import check_zone, minutes_in_utc

# Longer than any schedule; Debian's cron takes no longer line either (MAX_COMMAND in cron.h).
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
_EVERY_MONTH = tuple(range(1, 13))
_EVERY_HOUR = tuple(range(24))


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """A calendar schedule. Make it with `from_expression` or `from_fields`.

    Two triggers with the same runs are equal, however they were written.

    Attributes:
        day_rules: a day counts if one of them holds.
        months, hours, minutes, seconds: the values, ascending.
        timezone: the zone in which the schedule counts; None: the machine's.
        either: day and weekday were both restricted, so that cron joins them with OR.
        text: `cron[0 3 * * *]`, with ` second=…` and ` timezone=…` where they were given.
    """

    day_rules: tuple[DayRule, ...]
    months: tuple[int, ...]
    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]
    timezone: str | None
    either: bool = field(compare=False)
    text: str = field(compare=False)

    @classmethod
    def from_expression(cls, expression: str, *, timezone: str | None = None) -> CronTrigger:
        """Read cron text: `minute hour day month weekday`, or one of the words from `@hourly` to `@yearly`.

        Args:
            expression: text in the language of Debian's cron (see `sereno.triggers.fields`).
            timezone: name of the zone in which it counts; default: the machine's.

        Raises:
            InvalidTrigger: the text is not cron text, names no day that ever comes, or cannot be said exactly to
                systemd; the zone is unknown.

        >>> CronTrigger.from_expression("0 9 * * mon-fri").timer_lines()
        ('OnCalendar=Mon..Fri *-*-* 09:00:00',)
        """
        words = _words(expression)
        whole = " ".join(words)
        texts, shown, offset = words, whole, 0
        if whole.startswith("@"):
            if len(words) != 1 or whole not in MACROS:
                _refuse_macro(whole)
            texts, shown = MACROS[whole].split(), MACROS[whole]
        if len(texts) != len(CRON_FIELDS):
            _refuse_count(words, whole)
        parsed: dict[str, Values] = {}
        for cron_field, text in zip(CRON_FIELDS, texts, strict=True):
            parsed[cron_field.name] = fields.parse(cron_field, text, whole=shown, offset=offset)
            offset += len(text) + 1
        return cls._build(parsed, whole, "0", timezone)

    @classmethod
    def from_fields(
        cls,
        *,
        minute: str | int | None = None,
        hour: str | int | None = None,
        day: str | int | None = None,
        month: str | int | None = None,
        day_of_week: str | int | None = None,
        second: str | int | None = None,
        timezone: str | None = None,
    ) -> CronTrigger:
        """Join single cron fields, each a number or the text of a cron field.

        A field finer than the finest one given is its minimum, a coarser one "*": `hour=3` is 03:00:00 every day,
        `minute="*/15"` is every hour. Weekdays count from Sunday (0 or 7), and a day and a weekday are joined as in
        cron text: either one fires.

        Args:
            minute, hour, day, month, day_of_week: cron fields; default: see above.
            second: an extension of cron: 0 to 59 as a cron field; default 0.
            timezone: name of the zone in which they count; default: the machine's.

        Raises:
            InvalidTrigger: nothing is given, a field is not a cron field, or as in `from_expression`.

        >>> CronTrigger.from_fields(hour="3").timer_lines()
        ('OnCalendar=*-*-* 03:00:00',)
        """
        given = {
            "month": month,
            "day": day,
            "day_of_week": day_of_week,
            "hour": hour,
            "minute": minute,
            "second": second,
        }
        texts = _with_defaults(given)
        parsed = {each.name: fields.parse(each, texts[each.name]) for each, _ in _DEFAULTING}
        whole = " ".join(texts[each.name] for each in CRON_FIELDS)
        return cls._build(parsed, whole, texts["second"], timezone)

    @classmethod
    def _build(
        cls, parsed: dict[str, Values], whole: str, second: str, timezone: str | None
    ) -> CronTrigger:
        if timezone is not None:
            check_zone("timezone", timezone)
        day, weekday = parsed["day"], parsed["day_of_week"]
        months = tuple(sorted(parsed["month"].numbers))
        rules = day_rules(day, weekday, months)
        if not rules:
            raise InvalidTrigger(
                f"day, month: no month that {whole!r} names has such a day, so it would never run",
                hint="day=L is the last day of a month, whatever its length",
            )
        seconds = parsed.get("second", _AT_SECOND_0).numbers
        text = whole
        text += f" second={second}" if second != "0" else ""
        text += f" timezone={timezone}" if timezone is not None else ""
        return cls(
            day_rules=rules,
            months=months,
            hours=tuple(sorted(parsed["hour"].numbers)),
            minutes=tuple(sorted(parsed["minute"].numbers)),
            seconds=tuple(sorted(seconds)),
            timezone=timezone,
            either=either_counts(day, weekday),
            text=f"cron[{text}]",
        )

    @property
    def every_hour(self) -> bool:
        """Whether it names no hour, day, weekday or month: the same minutes of every hour."""
        return (
            self.hours == _EVERY_HOUR
            and self.months == _EVERY_MONTH
            and any(rule.any_weekday and rule.days == EVERY_DAY for rule in self.day_rules)
        )

    def timer_lines(self, *, local_zone: str | None = None) -> tuple[str, ...]:
        """The `OnCalendar=` lines of the `[Timer]` section, one for each day rule.

        When the clocks go back, systemd counts the repeated hour once, so a schedule of every hour would lose its
        runs in it. Such a schedule is written in UTC where that is exact. For */15, */5 and the like it always is; for
        others (:05 of every hour) the zone must be known: `timezone`, else `local_zone`. It stays in the zone's own
        time, and loses those runs, only where the zone is not known and on Lord Howe Island, whose clocks change by
        half an hour.

        A schedule that names an hour or a day keeps the zone's time: what falls in an hour that does not exist is left
        out that day, and what falls in one that comes twice runs once, the first time.

        Args:
            local_zone: name of the machine's zone (see `sereno.triggers.machine_zone`); default: not known. Lines that
                depend on it are wrong by the part of an hour in which two zones differ if the machine is moved, until
                they are written again.

        Raises:
            InvalidTrigger: `local_zone` is not in the machine's zone database.
        """
        minutes, zone = self.minutes, self.timezone
        if self.every_hour:
            known = zone
            if known is None and local_zone is not None:
                known = check_zone("local_zone", local_zone)
            in_utc = minutes_in_utc(minutes, known)
            if in_utc is not None:
                minutes, zone = in_utc, "UTC"
        return calendar_lines(
            day_rules=self.day_rules,
            months=self.months,
            hours=self.hours,
            minutes=minutes,
            seconds=self.seconds,
            zone=zone,
        )


_AT_SECOND_0 = Values(frozenset((0,)), star=False)


def _words(expression: object) -> list[str]:
    if not isinstance(expression, str):
        raise InvalidTrigger(
            f"cron_expression: {expression!r} is not text", hint='such as "0 3 * * *"'
        )
    if len(expression) > MAX_TEXT:
        raise InvalidTrigger(
            f"cron_expression: {len(expression)} characters, more than {MAX_TEXT}: {expression[:40]!r}…"
        )
    for place, character in enumerate(expression):
        if character != "\t" and not (character.isascii() and character.isprintable()):
            raise InvalidTrigger(
                f"cron_expression: character {character!r} at place {place + 1} of {expression!r} is not cron's",
                hint="five fields of ASCII text in one line, with blanks between them",
            )
    return expression.split()


def _refuse_macro(whole: str) -> NoReturn:
    if whole == "@reboot":
        raise InvalidTrigger(
            "cron_expression: '@reboot' is no schedule: a timer for it would also fire when it is installed",
            hint="for a run at each boot, enable a service of its own with WantedBy=multi-user.target",
        )
    hint = f"one of {', '.join(MACROS)}"
    if whole.startswith("@every"):
        hint = "for a fixed distance between runs use an interval: add_interval_job"
    raise InvalidTrigger(
        f"cron_expression: {whole!r} is no word of cron's{pointer(whole, 0, len(whole))}", hint=hint
    )


def _refuse_count(words: list[str], whole: str) -> NoReturn:
    hint = "minute hour day month weekday, such as 0 3 * * *"
    if re.match(r"(CRON_)?TZ=", whole):
        hint = "name the zone with timezone="
    elif len(words) == 6:
        hint = "seconds are given with second=, and a crontab's user name or command is not part of the schedule"
    place = pointer(whole, 0, len(whole)) if whole else ""
    raise InvalidTrigger(
        f"cron_expression: {whole!r} has {len(words)} fields, not 5{place}", hint=hint
    )


def _with_defaults(given: dict[str, str | int | None]) -> dict[str, str]:
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
            if (value := given[each.name]) is not None
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
        raise InvalidTrigger(
            f"{each.name}: {value!r} is not one cron field: {each.allowed}",
            hint="without blanks, such as '1,15' or '*/5'",
        )
    return value
