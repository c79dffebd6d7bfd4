"""The order in which entries came, and which of them goes when the cache is full.

The latter is told by SIEVE: Yazhuo Zhang, Juncheng Yang, Yao Yue, Ymir Vigfusson, K. V. Rashmi: "SIEVE is Simpler than
LRU: an Efficient Turn-Key Eviction Algorithm for Web Caches", NSDI 2024. A hand walks from old to new; a visited entry
loses its mark and stays where it is, the first unvisited one goes, and the hand stays there for the next time. A read
only sets a mark, so it costs no write to the order, as LRU's would. Two things are added: an entry that has expired
goes although it is visited, and the hand looks at no more than `PATIENCE` entries before it takes the next.
"""

from __future__ import annotations

from bisect import bisect_left

from sereno.cache import board
from sereno.cache.entry import ORDER, order_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
    from typing import Any, TypeVar

    Key = TypeVar("Key")

PATIENCE = 256

FEW = 32
"""Sequence numbers of a slot that are asked for one by one. An entry that stays while millions come and go makes them
many, most of them nobody's."""


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
        at = sequence & mask
        if not visited[at] or steps >= PATIENCE or is_expired(key):
            return sequence, key
        visited[at] = 0
    raise LookupError("nothing to evict")


def circle(cursor: Any, hand: int, spare: int) -> Iterator[tuple[int, bytes]]:
    """(sequence number, store key), all but `spare`'s, from `hand` on to the newest, then from the oldest on, without
    end."""
    found = cursor.set_range(order_key(ORDER, hand)) or cursor.set_range(ORDER)
    while found:
        sequence = sequence_of(cursor.key())
        if sequence != spare:
            yield sequence, cursor.value()
        found = cursor.next() or cursor.set_range(ORDER)


def in_use(cursor: Any, slot: int, first: int, following: int) -> Iterable[int]:
    """The sequence numbers of a slot of `board`, from `first` on to before `following`, that entries have; a few are
    given without looking."""
    if following <= board.SLOTS:
        return (slot,)
    sequences = range(first + (slot - first) % board.SLOTS, following, board.SLOTS)
    return sequences if len(sequences) <= FEW else _found(cursor, sequences)


def _found(cursor: Any, sequences: Sequence[int]) -> Iterator[int]:
    at, last = 0, len(sequences)
    while at < last and cursor.set_range(order_key(ORDER, sequences[at])):
        found = sequence_of(cursor.key())
        if found == sequences[at]:
            yield found
            at += 1
        else:
            at = bisect_left(sequences, found, at)


def sequence_of(order: bytes) -> int:
    return int.from_bytes(order[1:], "big")
