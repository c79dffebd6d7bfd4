"""What one process keeps for itself of a cache: encoded values, good while their generation word stands still.

A plain bounded container of cachetools: expiry and validity are comparisons of the caller's. First in, first out, and
not least recently used, because then reading changes nothing and needs no lock; an entry that is pushed out costs one
more read from the store. Readers look into `kept`, a plain dict with the same content, in a third of the time.
"""

from __future__ import annotations

import cachetools

TYPE_CHECKING = False
if TYPE_CHECKING:
    _Base = cachetools.FIFOCache[str, "Kept"]
else:
    _Base = cachetools.FIFOCache

Kept = tuple[bytes, float, "memoryview[int]", int, int, int]
"""The value's text; the clock's reading in seconds until which it is good; the board's generations, the slot and the
generation under which it is; and where readers mark it as visited. With the generations themselves, so that what came
from files that were replaced is never compared with those of the new ones."""

OVERHEAD_BYTES = 600
"""Of one kept entry: its key, its tuple, the numbers in it, its places in four dicts."""


class Level(_Base):
    """Key → `Kept`. Reading needs no lock, changing it does."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, lambda kept: OVERHEAD_BYTES + len(kept[0]))
        self.kept: dict[str, Kept] = {}

    def __setitem__(self, key: str, kept: Kept) -> None:
        super().__setitem__(key, kept)
        self.kept[key] = kept

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        del self.kept[key]

    def clear(self) -> None:
        super().clear()
        self.kept.clear()
