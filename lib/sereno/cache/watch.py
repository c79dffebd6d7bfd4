"""What becomes of a key while its value is computed: whatever changes it meanwhile must win over the value.

A change moves the generation of the key's slot, also where no entry is removed; so do a `clear` and files that are
retired. An invalidation by prefix moves those of the entries that it finds, and the key has none yet; so the board has
the last `REMEMBERED` prefixes as well, each as one word: its CRC-32 and its length.

Some 65,536th of the keys share a slot, and prefixes may share a word: then a change is seen that was none. The value
is not stored then, and the next caller computes it again.
"""

from __future__ import annotations

from zlib import crc32

from sereno.cache import entry, operations
from sereno.cache.board import GENERATION_MASK, PREFIX_COUNT, PREFIXES_AT, REMEMBERED
from sereno.cache.operations import Put, Removed
from sereno.cache.session import Session
from sereno.cache.store import Store
from sereno.cache.write import Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LENGTH_MASK = (1 << 32) - 1
_COUNT_MASK = (1 << 63) - 1  # for a board whose word is damaged


class Watch:
    """A key as it is when this is made, which is before its value begins to be computed.

    Raises:
        CacheError: the cache cannot be used.
    """

    def __init__(self, session: Session, key: str) -> None:
        self.key = key
        self._session = session
        self._slot = crc32(entry.store_key(key)) & GENERATION_MASK
        session.reading(self._note, None)

    def put_one(
        self, txn: Write, argument: tuple[Put, int, Callable[[int], int] | None]
    ) -> tuple[int, int]:
        """`operations.put_one`, unless the key may have been changed."""
        return (0, 0) if self._is_changed() else operations.put_one(txn, argument)

    def _note(self, store: Store, _: None) -> None:
        self._store = store
        self._generation = store.board.generations[self._slot]
        self._prefixes = store.words[PREFIX_COUNT]

    def _is_changed(self) -> bool:
        store = self._store
        # Files that were closed since tell nothing of what was done to those that took their place.
        return (
            self._session.store is not store
            or store.board.generations[self._slot] != self._generation
            or _is_below(self.key, store.words, self._prefixes)
        )


def remove_prefix(session: Session, txn: Write, argument: tuple[bytes, bytes, int]) -> Removed:
    """`operations.remove_prefix` that also reaches what is being computed."""
    assert session.store is not None
    words, prefix = session.store.words, argument[0]
    count = words[PREFIX_COUNT]
    words[PREFIXES_AT + count % REMEMBERED] = _word(prefix)
    words[PREFIX_COUNT] = (count + 1) & _COUNT_MASK
    return operations.remove_prefix(txn, argument)


def _is_below(key: str, words: memoryview, since: int) -> bool:
    """Was a prefix of `key` removed after the first `since` of all?"""
    count = words[PREFIX_COUNT]
    if count - since > REMEMBERED:
        return True
    whole = entry.utf8(key)
    for number in range(since, count):
        word = words[PREFIXES_AT + number % REMEMBERED]
        prefix = whole[: word & _LENGTH_MASK]
        if _word(prefix) == word:
            return True
    return False


def _word(prefix: bytes) -> int:
    return crc32(prefix) << 32 | len(prefix)
