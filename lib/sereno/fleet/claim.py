"""What a run asks of the fleet before it begins, and what it is told: values and a protocol. Pure.

A run claims the nominal elapse of its job, so the same elapse is never run twice, however short the run is and however
the hosts' clocks differ. Whoever is told nothing has no claim: an error is never a yes.
"""

from __future__ import annotations

from sereno.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol
else:
    Protocol = object

TIMER, HAND = "timer", "hand"
APART, TAKEN, PAUSED, RESUMED, RUNNING = "apart", "taken", "paused", "resumed", "running"
MOST_APART_S = 2.0
"""How far a host's clock may be from the store's. A host ahead would take the fleet's future elapses."""
KEPT_DAYS = 90
"""How long rows are kept; the newest of a job stays, for a host that comes back later finds by it that it was run."""


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


class Store(Protocol):
    """The place of claims. Each method raises `FleetError` where it cannot be asked."""

    def claim(self, claim: Claim, tell: Callable[[Lost], object]) -> Answer:
        """Claim an elapse; `tell` is called with each run that this finds to be lost, and no other call ever is."""

    def end(
        self, run: str, state: str, duration_ms: float | None, error: str | None, stats: str | None
    ) -> bool:
        """Record the end of a run; False: it has no claim, or lost it."""
