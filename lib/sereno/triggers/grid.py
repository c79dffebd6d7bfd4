"""`GridTrigger`: an interval that the hosts of a fleet count alike, from midnight in UTC."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sereno.errors import InvalidTrigger
from sereno.triggers.interval import IntervalTrigger, full_span
from sereno.triggers.oncalendar import time_text

DAY_S = 86_400


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
        if DAY_S % self.interval_s:
            near_s = min(
                (span_s for span_s in range(1, DAY_S + 1) if DAY_S % span_s == 0),
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
        """One line for the times that have hours, minutes and seconds to themselves.

        Args:
            local_zone: not looked at.
        """
        hours: dict[tuple[int, int], tuple[int, ...]] = defaultdict(tuple)
        minutes: dict[tuple[tuple[int, ...], int], tuple[int, ...]] = defaultdict(tuple)
        seconds: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, ...]] = defaultdict(tuple)
        for time_s in range(0, DAY_S, self.interval_s):
            hours[time_s // 60 % 60, time_s % 60] += (time_s // 3600,)
        for (minute, second), in_hours in sorted(hours.items()):
            minutes[in_hours, second] += (minute,)
        for (in_hours, second), in_minutes in sorted(minutes.items()):
            seconds[in_hours, in_minutes] += (second,)
        return tuple(
            f"OnCalendar=*-*-* {time_text(of_hours, of_minutes, of_seconds)} UTC"
            for (of_hours, of_minutes), of_seconds in seconds.items()
        )
