"""The order in which the entries came: sequence number → store key, as a cursor of LMDB walks it."""

from __future__ import annotations

from bisect import bisect_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any


def first(cursor: Any) -> int | None:
    """The smallest sequence number in use; they begin at 1."""
    return int.from_bytes(cursor.key(), "big") if cursor.first() else None


def circle(cursor: Any, hand: int) -> Iterator[tuple[int, bytes]]:
    """(sequence number, store key) from `hand` on to the newest, then from the oldest on, without end."""
    found = cursor.set_range(hand.to_bytes(8, "big")) or cursor.first()
    while found:
        yield int.from_bytes(cursor.key(), "big"), cursor.value()
        found = cursor.next() or cursor.first()


def in_use(cursor: Any, sequences: Sequence[int]) -> Iterator[int]:
    """Those of `sequences`, which have equal steps, that entries have, without asking for each."""
    at, last = 0, len(sequences)
    while at < last and cursor.set_range(sequences[at].to_bytes(8, "big")):
        found = int.from_bytes(cursor.key(), "big")
        if found == sequences[at]:
            yield found
            at += 1
        else:
            at = bisect_left(sequences, found, at)
