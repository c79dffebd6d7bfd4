"""Which entry goes when the cache is full: SIEVE.

Yazhuo Zhang, Juncheng Yang, Yao Yue, Ymir Vigfusson, K. V. Rashmi: "SIEVE is Simpler than LRU: an Efficient
Turn-Key Eviction Algorithm for Web Caches", NSDI 2024. Entries stand in the order in which they came. A hand walks
from old to new; a visited entry loses its mark and stays where it is, the first unvisited one goes, and the hand stays
there for the next time. A read only sets a mark, so it costs no write to the order, as LRU's would.

Two things are added: an entry that has expired goes although it is visited, and the hand looks at no more than
`PATIENCE` entries before it takes the next, so that one insertion never pays for the whole circle.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableSequence
    from typing import TypeVar

    Key = TypeVar("Key")

PATIENCE = 256


def choose(
    circle: Iterable[tuple[int, Key]],
    visited: MutableSequence[int] | memoryview,
    mask: int,
    is_expired: Callable[[Key], bool],
) -> tuple[int, Key]:
    """The sequence number and key of the entry that has to go.

    Args:
        circle: (sequence number, key) from the hand on, to the newest, then from the oldest on, without end.
        visited: the marks, found by sequence number & `mask`: not 0 when the entry was read since it came or since
            the hand last passed. Those that are passed are cleared.
        is_expired: is the entry with that key dead already?

    Raises:
        LookupError: the circle is empty.
    """
    for steps, (sequence, key) in enumerate(circle):
        mark = sequence & mask
        if not visited[mark] or steps >= PATIENCE or is_expired(key):
            return sequence, key
        visited[mark] = 0
    raise LookupError("nothing to evict")
