"""What one process keeps for itself of a cache: encoded values, good while their generation word stands still.

A plain bounded container of cachetools: expiry and validity are comparisons of the caller's. First in, first out, and
not least recently used, because then reading changes nothing and needs no lock; an entry that is pushed out costs one
more read from the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cachetools

if TYPE_CHECKING:
    _Base = cachetools.FIFOCache[str, "Kept | None"]
else:
    _Base = cachetools.FIFOCache

Kept = tuple[bytes, float, int, int, int]
"""The value's text, the clock's reading in seconds until which it is good, the slot and the generation under which it
is, and where readers mark it as visited."""

OVERHEAD_BYTES = 500
"""Of one kept entry: its key, its tuple, the numbers in it, its places in the container's dicts."""


class Level(_Base):
    """Key → `Kept`; None for a key that is not kept. Reading needs no lock, changing it does."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, lambda kept: OVERHEAD_BYTES + len(kept[0]) if kept else 0)

    def __missing__(self, key: str) -> None:
        return None
