"""`CronTrigger`: cron text or cron fields → the runs they mean to Debian's cron → calendar lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import tzinfo

from sereno.errors import InvalidTrigger
from sereno.triggers import fields
from sereno.triggers.crontext import fill_fields, read_expression
from sereno.triggers.days import EVERY_MONTH, DayRule, day_rules, either_counts
from sereno.triggers.fields import CRON_FIELDS, SECOND, Values
from sereno.triggers.oncalendar import EVERY_HOUR, date_text, time_text
from sereno.triggers.zone import check_zone, minutes_in_utc

_AT_SECOND_0 = Values(frozenset((0,)), star=False)


@dataclass(frozen=True, slots=True, repr=False)
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
    def from_expression(
        cls, expression: str, *, timezone: str | tzinfo | None = None
    ) -> CronTrigger:
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
        whole, shown = read_expression(expression)
        offset = 0
        parsed: dict[str, Values] = {}
        for cron_field, text in zip(CRON_FIELDS, shown.split(" "), strict=True):
            parsed[cron_field.name] = fields.parse(cron_field, text, whole=shown, offset=offset)
            offset += len(text) + 1
        return cls._build(parsed, whole, "0", timezone)

    @classmethod
    def from_fields(
        cls, *, timezone: str | tzinfo | None = None, **given: str | int | None
    ) -> CronTrigger:
        """Join single cron fields, each a number or the text of a cron field.

        A field finer than the finest one given is its minimum, a coarser one "*": `hour=3` is 03:00:00 every day,
        `minute="*/15"` is every hour. Weekdays count from Sunday (0 or 7), and a day and a weekday are joined as in
        cron text: either one fires. But a field that covers all days, such as `day="1-31"`, is "*", and restricts none.

        Args:
            timezone, and what is raised: as in `from_expression`.
            given: minute, hour, day, month, day_of_week, cron fields; default: see above. second, an extension of
                cron: 0 to 59 as a cron field; default 0.

        >>> CronTrigger.from_fields(hour="3").timer_lines()
        ('OnCalendar=*-*-* 03:00:00',)
        """
        texts = fill_fields(given)
        for each in (fields.DAY, fields.WEEKDAY):
            texts[each.name] = fields.or_star(each, texts[each.name])
        parsed = {
            each.name: fields.parse(each, texts[each.name]) for each in (*CRON_FIELDS, SECOND)
        }
        whole = " ".join(texts[each.name] for each in CRON_FIELDS)
        return cls._build(parsed, whole, texts["second"], timezone)

    @classmethod
    def _build(
        cls, parsed: dict[str, Values], whole: str, second: str, timezone: str | tzinfo | None
    ) -> CronTrigger:
        if timezone is not None:
            timezone = check_zone("timezone", timezone)
        day, weekday = parsed["day"], parsed["day_of_week"]
        months = tuple(sorted(parsed["month"].numbers))
        try:
            rules = day_rules(day, weekday, months)
        except InvalidTrigger as error:
            raise InvalidTrigger(error.message + _pointer_to_days(whole), hint=error.hint) from None
        if not rules:
            raise InvalidTrigger(
                f"day, month: no month that {whole!r} names has such a day, so it would never run"
                + _pointer_to_days(whole),
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

    def __repr__(self) -> str:
        return f"<CronTrigger {self.text}>"

    @property
    def by_the_minute(self) -> bool:
        """Whether it elapses at full minutes alone."""
        return self.seconds == (0,)

    @property
    def every_hour(self) -> bool:
        """Whether it names no hour, day, weekday or month: the same minutes of every hour."""
        return (
            self.hours == EVERY_HOUR
            and self.months == EVERY_MONTH
            and any(rule.any_weekday and rule.any_day for rule in self.day_rules)
        )

    def clock(self, local_zone: str | None) -> tuple[tuple[int, ...], str | None]:
        """The minutes of each hour, and the zone in which they and the rest count, see `timer_lines`; None: the
        machine's."""
        minutes, zone = self.minutes, self.timezone
        if self.every_hour:
            known = zone
            if known is None and local_zone is not None:
                known = check_zone("local_zone", local_zone)
            in_utc = minutes_in_utc(minutes, known)
            if in_utc is not None:
                return in_utc, "UTC"
        return minutes, zone

    def timer_lines(self, *, local_zone: str | None = None) -> tuple[str, ...]:
        """The `OnCalendar=` lines of the `[Timer]` section, one for each day rule.

        When the clocks go back, systemd counts the repeated hour once, so a schedule of every hour would lose its
        runs in it. Such a schedule is written in UTC where that is exact. For */15, */5 and the like it always is; for
        others (:05 of every hour) the zone must be known: `timezone`, else `local_zone`. Where it is not, and on Lord
        Howe Island, whose clocks change by half an hour, it stays in the zone's own time and loses those runs:
        `sereno.triggers.warnings` says so.

        A schedule that names an hour or a day keeps the zone's time: what falls in an hour that does not exist is left
        out that day, and what falls in one that comes twice runs once, the first time.

        Args:
            local_zone: name of the machine's zone (see `sereno.triggers.machine_zone`); default: not known. Lines that
                depend on it are wrong by the part of an hour in which two zones differ if the machine is moved, until
                they are written again. `InvalidTrigger` if the zone database does not have it.
        """
        minutes, zone = self.clock(local_zone)
        time = time_text(self.hours, minutes, self.seconds) + (f" {zone}" if zone else "")
        return tuple(f"OnCalendar={date_text(rule, self.months)} {time}" for rule in self.day_rules)


def _pointer_to_days(whole: str) -> str:
    """Marks the day, the month and the weekday in the five fields of `whole`."""
    start = len(whole) - len(whole.split(" ", 2)[2])
    return fields.pointer(whole, start, len(whole) - start)
