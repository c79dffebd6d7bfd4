"""What one process keeps for itself of a cache: encoded values, good while their generation word stands still.

A plain bounded container of cachetools: expiry and validity are comparisons of the caller's. First in, first out, and
not least recently used, because then reading changes nothing and needs no lock; an entry that is pushed out costs one
more read from the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cachetools

if TYPE_CHECKING:
    _Base = cachetools.FIFOCache[str, "Kept | None"]
else:
    _Base = cachetools.FIFOCache

OVERHEAD_BYTES = 400
"""Of one kept entry: its key, its tuple, the numbers in it, its places in the container's dicts (measured)."""


class Kept(NamedTuple):
    """One value, and what tells whether it is still good."""

    text: bytes
    until_s: float
    slot: int
    generation: int
    mark: int


class Level(_Base):
    """Key → `Kept`; None for a key that is not kept. Reading needs no lock, changing it does."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, lambda kept: OVERHEAD_BYTES + len(kept[0]) if kept else 0)

    def __missing__(self, key: str) -> None:
        return None

    def keep(self, key: str, kept: Kept) -> None:
        """Keeps it, unless it is larger than the whole level."""
        if OVERHEAD_BYTES + len(kept[0]) <= self.maxsize:
            self[key] = kept
