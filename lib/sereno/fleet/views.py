"""What is seen of a fleet: its jobs, their runs, and the hosts that have them. Values; pure.

Times are seconds since the epoch.
"""

from __future__ import annotations

from sereno.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Hosts that have not looked in for so long are gone.
GONE_S = 7 * 86_400.0


class FleetRun(NamedTuple):
    """One run in the fleet; `kind`: "timer" or "hand"; `status`: as of a run on one host."""

    app: str
    job: str
    elapse_s: float
    kind: str
    host: str
    run_id: str
    status: str
    began_s: float
    duration_ms: float | None
    error: str | None
    stats: dict[str, Any] | None


class FleetJob(NamedTuple):
    """One job of the fleet; `paused_s`: since when it is paused for all hosts; `latest`: its latest run."""

    app: str
    id: str
    paused_s: float | None
    latest: FleetRun | None

    @property
    def state(self) -> str:
        """As `JobState.state` says it of one host."""
        status = self.latest.status if self.latest else ""
        words = ["paused"] if self.paused_s else []
        words += {"running": ["running"], "failed": ["failing"], "lost": ["failing"]}.get(
            status, []
        )
        return ", ".join(words) or "active"


class FleetHost(NamedTuple):
    """A host that has a job of the fleet; `ahead_s`: its clock before the store's; `seen_s`: when it last said so."""

    app: str
    job: str
    host: str
    machine: str
    declaration: str
    ahead_s: float
    seen_s: float
