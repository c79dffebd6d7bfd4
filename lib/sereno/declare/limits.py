"""`Limits`: what one run may take of the machine, as a validated value; and the check of its retries. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sereno.declare.quantities import check_seconds, check_whole
from sereno.declare.retry import Retry
from sereno.errors import InvalidJob

# What the template's TimeoutStartSec= allows a run that states no limit of its own.
TEMPLATE_TIMEOUT_S = 3600
# systemd.exec(5), IOSchedulingClass=.
IO_CLASSES = ("idle", "best-effort", "realtime")
# No Python process fits in less, so what is less is a slip of the unit.
LEAST_MEMORY_BYTES = 16 << 20
MOST_MEMORY_BYTES = 1 << 60
MOST_CPU_PERCENT = 100_000
MOST_RETRIES = 100
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one run beside its time limit; None everywhere: the template's."""

    memory_max_bytes: int | None = None
    cpu_quota_percent: int | None = None
    nice: int | None = None
    io_class: str | None = None

    def __post_init__(self) -> None:
        text = "bytes, or text such as '512M'"
        for field, value, least, most, hint in (
            ("memory_max", self.memory_max_bytes, LEAST_MEMORY_BYTES, MOST_MEMORY_BYTES, text),
            ("cpu_quota", self.cpu_quota_percent, 1, MOST_CPU_PERCENT, ""),
            ("nice", self.nice, -20, 19, ""),
        ):
            if value is not None:
                check_whole(field, value, least=least, most=most, hint=hint)
        if self.io_class is not None and self.io_class not in IO_CLASSES:
            raise InvalidJob(
                f"io_class: {self.io_class!r} is not a class of I/O scheduling",
                hint=", ".join(IO_CLASSES),
            )

    def check_for_user(self) -> None:
        """Raise `InvalidJob` for what a user's own manager has no right to set."""
        if self.nice is not None and self.nice < 0:
            raise InvalidJob(f"nice: {self.nice} is below 0, which only root may give")
        if self.io_class == "realtime":
            raise InvalidJob("io_class: 'realtime' is a class that only root may give")


def check_retry(retry: Retry, timeout_s: float | None) -> None:
    """Raise `InvalidJob` for retries that have no meaning, or no room in the time limit of the run."""
    check_whole("retries", retry.retries, least=0, most=MOST_RETRIES)
    check_seconds("retry_delay", retry.delay_s, least=0, most=_DAY_S)
    check_seconds("retry_delay_max", retry.delay_max_s, least=0, most=_DAY_S)
    backoff = retry.backoff
    if (
        isinstance(backoff, bool)
        or not isinstance(backoff, (int, float))
        or not 1 <= backoff <= 100
    ):
        raise InvalidJob(f"retry_backoff: {backoff!r} is not a factor from 1 to 100")
    limit_s = TEMPLATE_TIMEOUT_S if timeout_s is None else timeout_s
    if retry.retries and retry.total_delay_s >= limit_s:
        raise InvalidJob(
            f"retries: the delays of {retry.retries} retries take {retry.total_delay_s:g} s,"
            f" and the whole run may take {limit_s:g} s",
            hint="timeout= is the limit of all tries and delays together: raise it, or retry less or sooner",
        )
