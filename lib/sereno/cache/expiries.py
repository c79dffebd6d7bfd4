"""Which entries may have expired, told by the board: one word of 32 bits for each slot of sequence numbers.

An index in the store doubled the cost of every overwrite, and a scan reads every page of the store. Here a write leaves
the second of its expiry in a word, and the cleanup runs over the words. A word is never later than the earliest expiry
of the live entries of its slot (those whose sequence numbers are equal modulo `SLOTS`), so nothing that has expired is
missed; it may be earlier, after an overwrite, a removal, or a write that was killed or aborted, which costs one look
into the store. 0: no entry.

Words are written inside write transactions alone. What a transaction has not committed yet must not make a word later:
killed before its commit, the entry would be there and the word would not tell.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


SLOTS = 1 << 20
SLOT_MASK = SLOTS - 1
WORD_BYTES = 4
_LATEST_S = (1 << 32) - 1


def second(time_ms: int) -> int:
    """The word for a point of cache time: never 0, and never later than it is."""
    return min(max(1, time_ms // 1000), _LATEST_S)


def note(words: memoryview, sequence: int, expiry_ms: int) -> None:
    """An entry expires at that time."""
    slot = sequence & SLOT_MASK
    known, wanted = words[slot], second(expiry_ms)
    if not known or wanted < known:
        words[slot] = wanted


def due(words: memoryview, start: int, end: int, now_ms: int) -> list[int]:
    """The slots from `start` to before `end` in which an entry may have expired at `now_ms`."""
    now_s = second(now_ms)
    return [slot for slot, word in enumerate(words[start:end].tolist(), start) if 0 < word <= now_s]


def sequences(slot: int, first: int, following: int) -> Sequence[int]:
    """The sequence numbers of a slot, from `first` on to before `following`."""
    if following <= SLOTS:
        return (slot,)
    return range(first + (slot - first) % SLOTS, following, SLOTS)
