"""The loads of bench_jobs.py, known to both sides: N jobs, when each is due, and for how many rounds."""

from __future__ import annotations

from typing import NamedTuple


class Load(NamedTuple):
    """`count` jobs, each due every `period_s` seconds, all at the same one or spread over the period."""

    count: int
    period_s: int
    rounds: int
    spread: bool = False

    def due_s(self, number: int) -> int:
        """Seconds from the beginning of a period at which job `number` is due."""
        return number % self.period_s if self.spread else 0

    def fields(self, number: int) -> dict[str, str]:
        """The cron fields of job `number`."""
        minute, second = divmod(self.due_s(number), 60)
        if self.period_s >= 60:
            return {"minute": f"{minute}-59/{self.period_s // 60}", "second": str(second)}
        return {"minute": "*", "second": f"{second}-59/{self.period_s}"}

    def delay_s(self, number: int, start_s: float) -> float:
        return (start_s - self.due_s(number)) % self.period_s


LOADS = (Load(1, 2, 30), Load(100, 30, 3), Load(1000, 120, 1, spread=True))
QUICK = (Load(1, 2, 5), Load(100, 30, 1))
