"""`Retry`: how often, and after which delays, a run tries its function again. Every run with retries loads it.

All tries are one run with one result. systemd's `Restart=` would make each a start of its own: start limits would count
them and then refuse the scheduled runs as well, and what a timer does meanwhile differs between 252 and 257.
"""

from __future__ import annotations

from sereno.named_tuple import NamedTuple
from sereno.setting_names import RETRIES, RETRY_BACKOFF, RETRY_DELAY_MAX_S, RETRY_DELAY_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Retry(NamedTuple):
    """What follows a failed try; `sereno.declare.options.Options` explains the fields."""

    retries: int = 0
    delay_s: float = 10
    backoff: float = 2
    delay_max_s: float = 900

    def delay_before_s(self, retry: int) -> float:
        """Seconds to wait before a retry, counted from 1."""
        return min(self.delay_s * self.backoff ** (retry - 1), self.delay_max_s)

    @property
    def total_delay_s(self) -> float:
        """Seconds that a run waits in all when every try fails."""
        return sum(self.delay_before_s(retry) for retry in range(1, self.retries + 1))

    def environment(self) -> dict[str, str]:
        """The settings from which the run reads it again; none without retries."""
        names = (RETRIES, RETRY_DELAY_S, RETRY_BACKOFF, RETRY_DELAY_MAX_S)
        values = dict(zip(names, (f"{value!r}" for value in self), strict=True))
        return values if self.retries else {}


def retry_of(environ: Mapping[str, str]) -> Retry:
    """What `Retry.environment` wrote, or an administrator instead; ValueError for what cannot be waited for."""
    default = Retry()
    retry = Retry(
        retries=int(environ.get(RETRIES, 0)),
        delay_s=float(environ.get(RETRY_DELAY_S, default.delay_s)),
        backoff=float(environ.get(RETRY_BACKOFF, default.backoff)),
        delay_max_s=float(environ.get(RETRY_DELAY_MAX_S, default.delay_max_s)),
    )
    if not (retry.delay_s >= 0 and retry.backoff >= 1 and retry.delay_max_s >= 0):
        raise ValueError(f"{retry}")
    return retry
