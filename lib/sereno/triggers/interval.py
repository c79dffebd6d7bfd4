"""Schedules that are no cron text: `IntervalTrigger`, a run each so many seconds, counted from the start of the run
before; `GridTrigger`, counted from midnight in UTC, by the hosts of a fleet alike; `BootTrigger`, one after each boot.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from operator import itemgetter

from sereno.errors import InvalidTrigger
from sereno.triggers.oncalendar import time_text

# Ten years. What is longer is a slip of the unit (milliseconds given as seconds), not a schedule.
MAX_INTERVAL_S = 3_660 * 86_400
_DAY_S = 86_400
_Values = tuple[int, ...]
# Any moment that is past on every machine: systemd's clock never shows less than the time of its own build.
ELAPSE_S = 946_684_800
_ELAPSE = "2000-01-01 00:00:00 UTC"
# In the order of the constructor; a day here is 24 hours, whatever the clocks do.
SECONDS_IN = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400, "weeks": 604_800}
# Units of systemd.time(7), from the largest.
_SPAN_UNITS = ((604_800, "w"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, init=False, repr=False, slots=True)
class IntervalTrigger:
    """A run each `interval_s` seconds.

    Two triggers of the same length are equal, however they were given.

    Args:
        seconds, minutes, hours, days, weeks: whole numbers from 0 up that are added; default 0 each. A day has 24
            hours.

    Raises:
        InvalidTrigger: a value that is no whole number or is negative; a sum of zero or over ten years.

    >>> IntervalTrigger(hours=1, minutes=30, seconds=15).timer_lines()
    ('OnUnitActiveSec=1h 30min 15s',)
    """

    interval_s: int

    def __init__(
        self,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        weeks: float = 0,
    ) -> None:
        given = (seconds, minutes, hours, days, weeks)
        interval_s = sum(
            _whole(name, value) * unit_s
            for (name, unit_s), value in zip(SECONDS_IN.items(), given, strict=True)
        )
        if interval_s == 0:
            raise InvalidTrigger(
                "interval: 0 s between two runs", hint="give seconds, minutes, hours, days or weeks"
            )
        if interval_s > MAX_INTERVAL_S:
            raise InvalidTrigger(
                f"interval: {interval_s} s is more than ten years ({MAX_INTERVAL_S} s)"
            )
        object.__setattr__(self, "interval_s", interval_s)

    def __repr__(self) -> str:
        return f"IntervalTrigger(seconds={self.interval_s})"

    @property
    def text(self) -> str:
        """`interval[H:MM:SS]`, a week being `interval[168:00:00]`: hours are never made into days of unclear length."""
        minutes, seconds = divmod(self.interval_s, 60)
        return f"interval[{minutes // 60}:{minutes % 60:02}:{seconds:02}]"

    def timer_lines(self, *, local_zone: str | None = None) -> tuple[str, ...]:
        """The line of the `[Timer]` section that repeats; what makes the first run happen is not the schedule's."""
        return (f"OnUnitActiveSec={full_span(self.interval_s)}",)


@dataclass(frozen=True, slots=True)
class GridTrigger:
    """A run each `interval_s` seconds of the day. For systemd it is a calendar, not an interval.

    Raises:
        InvalidTrigger: a day is no multiple of it: the run before midnight would come too early or too late.

    >>> GridTrigger(5400).timer_lines()[0]
    'OnCalendar=*-*-* 00,03,06,09,12,15,18,21:00:00 UTC'
    """

    interval_s: int

    def __post_init__(self) -> None:
        if _DAY_S % self.interval_s:
            near_s = min(
                (span_s for span_s in range(1, _DAY_S + 1) if _DAY_S % span_s == 0),
                key=lambda span_s: abs(span_s - self.interval_s),
            )
            raise InvalidTrigger(
                f"interval: a day is no multiple of {full_span(self.interval_s)}, and the hosts of a fleet count from"
                f" midnight; the nearest that divides it is {full_span(near_s)}",
                hint="or give the times with add_cron_job",
            )

    @property
    def text(self) -> str:
        """`interval[1:30:00 UTC]`."""
        return f"{IntervalTrigger(self.interval_s).text[:-1]} UTC]"

    @property
    def by_the_minute(self) -> bool:
        """Whether it elapses at full minutes alone."""
        return self.interval_s % 60 == 0

    def timer_lines(self, *, local_zone: str | None = None) -> tuple[str, ...]:
        """One line for the times that have hours, minutes and seconds to themselves."""
        times: list[tuple[_Values, ...]] = [
            ((time_s // 3600,), (time_s // 60 % 60,), (time_s % 60,))
            for time_s in range(0, _DAY_S, self.interval_s)
        ]
        for place in range(3):
            # Those that differ in their hour alone become one, then those that do in their minute, then second.
            joined: dict[tuple[tuple[_Values, ...], ...], _Values] = defaultdict(tuple)
            for time in sorted(times, key=itemgetter(0, 2, 1)):
                joined[time[:place], time[place + 1 :]] += time[place]
            times = [(*coarser, one, *finer) for (coarser, finer), one in joined.items()]
        return tuple(f"OnCalendar=*-*-* {time_text(*time)} UTC" for time in times)


@dataclass(frozen=True, slots=True)
class BootTrigger:
    """One run after each boot of the machine; in a user's own scope, after each start of that user's manager.

    >>> BootTrigger().timer_lines()
    ('OnCalendar=2000-01-01 00:00:00 UTC',)
    """

    @property
    def text(self) -> str:
        """`cron[@reboot]`."""
        return "cron[@reboot]"

    def timer_lines(self, *, local_zone: str | None = None) -> tuple[str, ...]:
        """A moment that is over, so that the timer never elapses by itself.

        Once in each boot `sereno.units.seed` dates the timer's stamp before that moment, and systemd makes up for the
        elapse. Rejected: `OnBootSec=`, which fires again when the timer is started again (systemd 252 and 257), and a
        seed with the time of the boot, which is wrong where the clock is set only after it.
        """
        return (f"OnCalendar={_ELAPSE}",)


def full_span(seconds: int) -> str:
    """A time span as systemd.time(7) writes it: `1h 30min 15s`."""
    words = []
    for unit_s, name in _SPAN_UNITS:
        count, seconds = divmod(seconds, unit_s)
        if count:
            words.append(f"{count}{name}")
    return " ".join(words)


def _whole(name: str, value: object) -> int:
    # Of not-a-number and the infinities the rest is not-a-number.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1 != 0:
        hint = "give parts in the smaller unit: half an hour is minutes=30"
        if isinstance(value, str):
            hint = f"it is text: write {name}=5, without quotes"
        raise InvalidTrigger(f"{name}: {value!r} is not a whole number", hint=hint)
    if value < 0:
        raise InvalidTrigger(f"{name}: {value!r} is negative", hint="a whole number from 0 up")
    return int(value)
