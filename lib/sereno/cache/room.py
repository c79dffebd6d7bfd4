"""Room on the disk for what is about to be written into the store's map.

LMDB writes into its map (`writemap`): a page costs no system call, and a write is four times as fast. The price is
that a page of a sparse file for which the disk has no block is not an error but a SIGBUS (mmap(2)). So the blocks are
there before LMDB can touch the page: no write begins that might need more pages than the file has blocks for, and
where the disk has none left, posix_fallocate(3) says so, as an error.

How many pages a transaction takes is known only after its commit, so an upper bound is kept: two words of the board,
the pages that have blocks (`ALLOCATED`) and the pages that may be in use (`TAIL`). Each write adds what it may need at
most to the second; when it meets the first, the true value is asked for, and where that is not enough, the file gets
more blocks. A writer that is killed leaves a bound that is too high, which costs a question.

Rejected: a file without holes from the start (a cache of 2,000 entries needs one megabyte, the map has 16 gigabytes)
and catching the signal (Python cannot).
"""

from __future__ import annotations

import errno
import os

from sereno.cache.board import ALLOCATED, TAIL, Damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SMALLEST_PAGE_BYTES = 4096
"""Values are counted in these. A machine with larger pages needs fewer of them."""

PAGES_A_WRITE = 64
"""Pages that one change takes at most beside those of its value: the way from the root to the leaf of two trees of up
to 8 levels, copied and split, and the list of free pages."""
PAGES_A_STEP = 24
"""The same for each further change in a transaction."""
FREED_A_PAGE = SMALLEST_PAGE_BYTES // 8
"""How many page numbers fit into one page of the list of free pages."""
LISTED_BYTES = (FREED_A_PAGE - 2) * SMALLEST_PAGE_BYTES
"""A value up to this is freed without more pages than its change has anyway."""

_FULL = (errno.ENOSPC, errno.EDQUOT)

_SMALL_BYTES = 64 << 20  # what a file may lack that was copied without its zeroes

SMALLEST_GROWTH = 256  # pages: 1 MiB
LARGEST_GROWTH = 2048  # 8 MiB, which takes milliseconds where blocks are zeroed at once


class Room:
    """The blocks of one store's file.

    Args:
        data: the open file.
        env: its LMDB environment.
        words: the header of its board.
        map_bytes: size of its map.
        is_mapped: whether LMDB writes into its map; False: a full disk is an error by itself, and no blocks are
            reserved, but those that may be in use are counted for the processes that need them.

    Attributes:
        taken: pages that the transaction under way has reserved so far.
    """

    __slots__ = ("_data", "_env", "_is_mapped", "_map_pages", "_page_bytes", "_words", "taken")

    def __init__(
        self, data: int, env: Any, words: memoryview, map_bytes: int, *, is_mapped: bool
    ) -> None:
        self._data = data
        self._env = env
        self.taken = 0
        self._words = words
        self._page_bytes = int(env.stat()["psize"])
        self._map_pages = map_bytes // self._page_bytes
        self._is_mapped = is_mapped

    def begin_alone(self) -> None:
        """Finds out anew what is there, when nobody else has the file open: it may be a copy, with holes.

        Done at the opening, since the blocks of a large file take the disk milliseconds, which a first write would hold
        the lock for. A disk that has no room for them tells the first write.
        """
        words = self._words
        words[ALLOCATED] = 0
        words[TAIL] = self._used()
        try:
            self._grow(words[TAIL])
        except OSError:
            pass

    def take(self, pages: int) -> None:
        """Reserves `pages` for a transaction that has not touched any yet. The caller holds the write lock.

        Raises:
            OSError: the disk has no room for them.
        """
        words = self._words
        if words[TAIL] + pages > words[ALLOCATED]:
            words[TAIL] = self._used()
            self._grow(words[TAIL] + pages)
        words[TAIL] += pages
        self.taken = pages

    def take_more(self, pages: int) -> None:
        """Reserves `pages` for one that has: they are beside those that it took before."""
        words = self._words
        if words[TAIL] + pages > words[ALLOCATED]:
            # Asked for anew: the word is anybody's who can write the board, and the disk is filled by it.
            words[TAIL] = self._used() + self.taken
            self._grow(words[TAIL] + pages)
        words[TAIL] += pages
        self.taken += pages

    def take_steps(self, steps: int) -> int:
        """Like `take`, for so many changes of small values; returns for how many there is room, at least one.

        All together they copy no more pages than there are, and split each leaf that they meet at most.
        """
        used = self._used()
        while True:
            try:
                self.take(PAGES_A_WRITE + min(PAGES_A_STEP * steps, used + 4 * steps))
                return steps
            except OSError as error:
                if steps == 1 or error.errno not in _FULL:
                    raise
            steps = max(1, steps // 8)

    def _used(self) -> int:
        """Pages of the file that LMDB says are in use.

        Raises:
            Damaged: the file has not nearly the blocks for them, which every use of a page needs. Believed, a number
                that somebody wrote into the file would fill the disk.
        """
        used = int(self._env.info()["last_pgno"]) + 1
        if self._is_mapped and used * self._page_bytes > _SMALL_BYTES:
            has_bytes = 512 * os.fstat(self._data).st_blocks
            if used * self._page_bytes > 2 * has_bytes + _SMALL_BYTES:
                raise Damaged(f"{used} pages in use, and blocks for {has_bytes} bytes")
        return used

    def _grow(self, wanted: int) -> None:
        allocated = self._words[ALLOCATED]
        wanted = min(wanted, self._map_pages)  # behind that LMDB says itself that the map is full
        if wanted <= allocated or not self._is_mapped:
            return
        growth = min(max(wanted // 8, SMALLEST_GROWTH), LARGEST_GROWTH)
        generous = min(wanted + growth, self._map_pages)
        try:
            self._allocate(allocated, generous)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._allocate(allocated, wanted)
            generous = wanted
        self._words[ALLOCATED] = generous

    def _allocate(self, first: int, end: int) -> None:
        os.posix_fallocate(self._data, first * self._page_bytes, (end - first) * self._page_bytes)


def pages_of(value_bytes: int) -> int:
    """Pages of a value that is too large to stand in a leaf."""
    return value_bytes // SMALLEST_PAGE_BYTES + 2


def pages_to_list(pages: int) -> int:
    """Pages of the list of free pages that `pages` take when they are freed, beyond what each change has for that.

    They stand in one piece, which LMDB may have to make anew when it outgrows a page.
    """
    return 2 * (pages // FREED_A_PAGE)
