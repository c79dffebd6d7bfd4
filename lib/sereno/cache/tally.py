"""How many entries there are and how many bytes they hold: two numbers that every write changes.

In a record of the store they would cost another page at each write. On the board they cost a few words, but a writer
may be killed between the words and the commit. So both are there, what was before the write and what will be after it,
with the write's transaction id: whoever looks compares that with the last commit and knows which counts. An id that
was not committed is used again by the next writer, which finds the numbers of before the killed one, and has to
announce its own even when they are the same: with its commit the killed one's would count.
"""

from __future__ import annotations

from sereno.cache.board import TALLY_AFTER, TALLY_AT, TALLY_BEFORE
from sereno.cache.entry import Damaged


def committed(words: memoryview, last_transaction: int) -> tuple[int, int]:
    """Entries and bytes as of the last commit."""
    at = TALLY_AFTER if words[TALLY_AT] <= last_transaction else TALLY_BEFORE
    return words[at], words[at + 1]


def announce(
    words: memoryview, transaction: int, before: tuple[int, int], entries: int, held_bytes: int
) -> None:
    """Before the commit of `transaction`: what was, and what will be. Each word on its way leaves `committed` right.

    Raises:
        Damaged: what was does not go with what the write removed.
    """
    try:
        words[TALLY_BEFORE], words[TALLY_BEFORE + 1] = before
        words[TALLY_AT] = transaction
        words[TALLY_AFTER], words[TALLY_AFTER + 1] = entries, held_bytes
    except ValueError:
        raise Damaged(f"{entries} entries of {held_bytes} bytes cannot be") from None


def correct(words: memoryview, entries: int, held_bytes: int) -> None:
    """Sets both, where nobody writes."""
    words[TALLY_AT] = 0
    words[TALLY_AFTER], words[TALLY_AFTER + 1] = entries, held_bytes
