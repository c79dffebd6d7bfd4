"""What a run asks of the fleet before it begins and what it is told; and what is seen of a fleet. Values; pure.

A run claims the nominal elapse of its job, so the same elapse is never run twice, however short the run is and however
the hosts' clocks differ. Whoever is told nothing has no claim: an error is never a yes.
"""

from __future__ import annotations

from sereno.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TIMER, HAND = "timer", "hand"
APART, TAKEN, PAUSED, RESUMED, RUNNING = "apart", "taken", "paused", "resumed", "running"
MOST_APART_S = 2.0
"""How far a host's clock may be from the store's. A host ahead would take the fleet's future elapses."""
KEPT_DAYS = 90
"""How long rows are kept; the newest of a job stays, for a host that comes back later finds by it that it was run."""
GONE_S = 7 * 86_400.0
"""Hosts that have not looked in for so long are gone."""


class Claim(NamedTuple):
    """A run that wants to begin.

    Attributes:
        elapse_s: when its timer was due, of a run that somebody starts when it began, in seconds since the epoch.
        kind: TIMER or HAND.
        boot: of this kernel and this init: another run that has the same is over, for systemd starts one at a time.
        run: its invocation id.
        lease_s: after so many seconds systemd has ended it.
        declaration: what the host has installed under this id, in words.
        machine: its machine id.
    """

    app: str
    job: str
    elapse_s: float
    kind: str
    host: str
    boot: str
    run: str
    lease_s: float
    declaration: str = ""
    machine: str = ""


class Lost(NamedTuple):
    """A run that nobody ended, and that nobody repeats."""

    elapse_s: float
    host: str
    run: str


class Answer(NamedTuple):
    """What the store makes of a claim.

    Attributes:
        token: the run may begin; it is higher than that of each claim before.
        reason: why it may not begin; one of the constants above.
        host: who has the elapse, or runs another one.
        state: what became of the elapse.
        since_s: since when the job is paused, or the other run goes on.
        ahead_s: by how much this host's clock is before the store's.
    """

    token: int | None = None
    reason: str = ""
    host: str = ""
    state: str = ""
    since_s: float = 0.0
    ahead_s: float = 0.0


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
        of_run = {"running": "running", "failed": "failing", "lost": "failing"}
        status = of_run.get(self.latest.status) if self.latest else None
        words = "paused" if self.paused_s else None, status
        return ", ".join(filter(None, words)) or "active"


class FleetHost(NamedTuple):
    """A host that has a job of the fleet; `ahead_s`: its clock before the store's; `seen_s`: when it last said so."""

    app: str
    job: str
    host: str
    machine: str
    declaration: str
    ahead_s: float
    seen_s: float
