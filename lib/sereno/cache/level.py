"""What one process keeps for itself of a cache: encoded values, good while their generation word stands still.

A plain bounded container of cachetools holds the keys and sizes: expiry and validity are comparisons of the caller's.
First in, first out, and not least recently used, because then reading changes nothing and needs no lock; a value that
is pushed out costs one more read from the store. Readers look into `kept`, a plain dict with the same keys.
"""

from __future__ import annotations

import cachetools

TYPE_CHECKING = False
if TYPE_CHECKING:
    _Base = cachetools.FIFOCache[str, int]
else:
    _Base = cachetools.FIFOCache

Kept = tuple[bytes, float, "memoryview[int]", int, int, int]
"""The value's text; the clock's reading in seconds until which it is good; the board's generations, the slot and the
generation under which it is; and where readers mark it as visited. With the generations themselves, so that what came
from files that were replaced is never compared with those of the new ones."""

OVERHEAD_BYTES = 600
"""Of one kept value: its key, its tuple, the numbers in it, its places in four dicts."""


class Level(_Base):
    """Key → `Kept`. Reading `kept` needs no lock, changing it does."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, int)
        self.kept: dict[str, Kept] = {}
        self.full_bytes = max_bytes - 4 * OVERHEAD_BYTES
        """More than this is full; no larger value is kept."""

    def keep(self, key: str, value: Kept) -> None:
        """Keeps a value, and drops those that came first where there is no room for it."""
        old = self.kept.get(key)
        # One of equal size takes the other's place: what is written again and again costs no more than that.
        if old is None or len(old[0]) != len(value[0]):
            self[key] = OVERHEAD_BYTES + len(value[0])
        self.kept[key] = value

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.kept.pop(key, None)
