"""`BootTrigger`: a run after each boot, cron's @reboot."""

from __future__ import annotations

from dataclasses import dataclass

# Any moment that is past on every machine: systemd's clock never shows less than the time of its own build.
ELAPSE_S = 946_684_800
_ELAPSE = "2000-01-01 00:00:00 UTC"


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
