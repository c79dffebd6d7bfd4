"""The board: a small file of shared words beside the store, mapped by every process that has the cache open.

It holds what must be read or written without a transaction:

* *generations*, one word for each slot of keys: the id of the last write transaction that may have changed one of
  them. What a process keeps of a key is good while the word is what it was when it was read;
* *counters*, one line for each process, so that each word has one writer. A line outlives its process: the next to
  take it counts on, and the sum over all lines stays exact whoever is killed;
* *visited* marks, one byte for an entry, set by readers and cleared by eviction;
* *expiries*, a word for an entry, from which the cleanup sees what may have expired (`note`, `due`);
* a few words for all: next sequence number, the hand of eviction, whether the files were replaced.

An aligned 8-byte store is one machine instruction on every 64-bit machine, so a word is never seen half written.

Who holds a line is told by a lock on one byte of the file (`sereno.cache.locks`), which the kernel drops when the
process dies; process ids would be taken for others after a while, and mean nothing in another container.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from zlib import crc32

from sereno.cache import clock, locks
from sereno.cache.directory import Directory, held
from sereno.cache.entry import Damaged
from sereno.errors import CacheFormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 3
"""Version of all the files together: board, store and the header of an entry."""
CURRENT = f"format-{FORMAT}"
"""The directory of the files in use. Each format has one of its own, so that processes of two releases, beside each
other while one is deployed, do not take each other's files away."""
_MAGIC = int.from_bytes(b"SERENObd", "little")
HEADER_BYTES = 4096
_WORD_BYTES = 8

GENERATIONS = 1 << 16
GENERATION_MASK = GENERATIONS - 1
NO_GENERATION = (1 << 64) - 1
"""Larger than any transaction id: nothing read under it may be kept."""

SLOTS = 1 << 20
SLOT_MASK = SLOTS - 1
_EXPIRY_BYTES = 4
_LATEST_S = (1 << 32) - 1

LINES = 1024
_LINE_WORDS = 16
VISITED = 1 << 22
"""Marks are found by sequence number modulo this: two of 100,000 entries share one in 2 % of the cases, which costs
an undeserved second chance and nothing else."""
VISITED_MASK = VISITED - 1

_LINES_AT = HEADER_BYTES + GENERATIONS * _WORD_BYTES
_VISITED_AT = _LINES_AT + LINES * _LINE_WORDS * _WORD_BYTES
_EXPIRIES_AT = _VISITED_AT + VISITED
SIZE_BYTES = _EXPIRIES_AT + SLOTS * _EXPIRY_BYTES

# Words of the header.
_W_MAGIC, _W_FORMAT = 0, 1
NEXT_SEQUENCE = 2
HAND = 3
RETIRED = 4  # these files were set aside; open those that took their place
SYNCED = 5  # the mark of a clean end is on disk and must go before the next write
EPOCH_MS = 6  # cache time = this + CLOCK_BOOTTIME
LAST_MS = 7  # cache time at the last clean end
DEATHS = 8  # of processes that had the cache open, since the store was last verified; inside a write they weigh more
STORE_BYTES, STORE_MTIME_NS = 9, 10  # the store's file at the last clean end
BOOT_ID = 11  # and 12
RESERVE_IS_SPENT = 13  # on removals; until there is one again, what is stored leaves room for them
LAST_WRITE = 14  # the last transaction that was begun
LIMITS_AT = 15  # the last transaction that may have changed the limits
TALLY_AT = 16  # the last transaction that may have changed the tally (`announce`)
TALLY_BEFORE = 17  # and 18: entries and their bytes before it
TALLY_AFTER = 19  # and 20: the same after it
PREFIX_COUNT = 21  # how many prefixes were removed in all (`note_removal`)
PREFIXES_AT = 22  # the last of them, in a circle
REMEMBERED = HEADER_BYTES // _WORD_BYTES - PREFIXES_AT

_LENGTH_MASK = (1 << 32) - 1
_COUNT_MASK = (1 << 63) - 1  # for a board whose word is damaged

DEATH_IN_A_WRITE = 20

# Words of a line.
IN_USE, WRITING = 0, 7
COUNTERS = ("hits", "misses", "evictions", "invalidations", "expired_removals", "sets")
HITS, MISSES, EVICTIONS, INVALIDATIONS, EXPIRED_REMOVALS, SETS = range(1, 7)


class Board:
    """The mapped file `board` of a directory. `words` is the header; `generations`, `visited`, `expiries` and, once
    taken, `line` are its other parts; `fd` is the open file, for locks.

    Raises:
        Damaged: the file is not a board, or not whole.
        CacheFormatError: it is one of another version.
    """

    fd = -1

    def __init__(self, directory: Directory) -> None:
        self.path = os.path.join(directory.path, "board")
        self.line_number = -1
        # One open file for the lock and another for the mapping: mmap keeps a duplicate of its own,
        # which would hold the lock for as long as anything refers to the mapping.
        self.fd = directory.open("board")
        try:
            found = os.fstat(self.fd)
            self.inodes = {"board": (found.st_dev, found.st_ino)}
            _recognise(self.path, os.pread(self.fd, 2 * _WORD_BYTES, 0), found.st_size)
            with held(directory.open("board")) as mapped_fd:
                if not os.path.samestat(found, os.fstat(mapped_fd)):
                    raise Damaged("the board was replaced while it was opened")
                # Whoever copied the file may have left out its zeroes, whose first use is a SIGBUS on a full disk.
                os.posix_fallocate(mapped_fd, 0, SIZE_BYTES)
                self._map = mmap.mmap(mapped_fd, SIZE_BYTES)
        except BaseException:
            self.close()
            raise
        self._whole = memoryview(self._map)
        self.words = self._whole[:HEADER_BYTES].cast("Q")
        self.generations = self._whole[HEADER_BYTES:_LINES_AT].cast("Q")
        self.visited = self._whole[_VISITED_AT:_EXPIRIES_AT]
        self.expiries = self._whole[_EXPIRIES_AT:].cast("I")
        self.line = unused_line()

    def take_line(self) -> None:
        """Takes a line that no living process holds; the caller holds the lock of openers."""
        for number in range(LINES):
            if locks.take(self.fd, _line_at(number)):
                start = _line_at(number)
                self.line = self._whole[start : start + _LINE_WORDS * _WORD_BYTES].cast("Q")
                self.line[IN_USE] = 1
                self.line_number = number
                return
        raise OSError(errno.EAGAIN, f"{LINES} processes have this cache open already", self.path)

    def epoch_ms(self) -> int:
        """What makes cache time of CLOCK_BOOTTIME as this process sees it."""
        return self.words[EPOCH_MS] - clock.offset_ms()

    def census(self) -> int:
        """Counts the other processes that hold a line; the deaths of those that did not give theirs back are noted.

        Each is noted once: its line is free again afterwards. A process that is killed, as workers are, is no sign of
        damage; one that died inside a write may be.
        """
        alive, lines = 0, self._lines()
        for number, lives in self._others():
            if lives:
                alive += 1
                continue
            start = number * _LINE_WORDS
            self.words[DEATHS] += DEATH_IN_A_WRITE if lines[start + WRITING] else 1
            lines[start + IN_USE] = lines[start + WRITING] = 0
        return alive

    def has_company(self) -> bool:
        """Does another living process hold a line?"""
        return any(lives for _, lives in self._others())

    def _others(self) -> Iterator[tuple[int, bool]]:
        """The other lines in use, by number, and whether their process lives."""
        for number, in_use in enumerate(self._lines()[IN_USE::_LINE_WORDS].tolist()):
            if in_use and number != self.line_number:
                yield number, locks.is_taken(self.fd, _line_at(number))

    def _lines(self) -> memoryview:
        return self._whole[_LINES_AT:_VISITED_AT].cast("Q")

    def totals(self) -> dict[str, int]:
        """Every counter, summed over all lines: all that was ever counted, by the living and the dead."""
        words = self._lines()
        return {name: sum(words[at::_LINE_WORDS].tolist()) for at, name in enumerate(COUNTERS, 1)}

    @property
    def boot_id(self) -> bytes:
        """The id of the boot in which the files were used last (`clock.boot_id`)."""
        return self.words[BOOT_ID : BOOT_ID + 2].tobytes()

    @boot_id.setter
    def boot_id(self, value: bytes) -> None:
        self.words[BOOT_ID : BOOT_ID + 2] = memoryview(value).cast("Q")

    def forget_all(self, generation: int) -> None:
        """Makes every process drop whatever it keeps, of every key."""
        self.generations[:] = memoryview(generation.to_bytes(8, "little") * GENERATIONS).cast("Q")

    def retire(self) -> None:
        """Tells everyone who has these files open that they are not the cache's any more."""
        self.words[RETIRED] = 1
        self.forget_all(NO_GENERATION)

    def flush(self) -> None:
        self._map.flush()

    def close(self, *, gives_line_back: bool = True) -> None:
        """Unmaps the file. A forked child passes False: the line is its parent's."""
        if gives_line_back and self.line_number >= 0:
            self.line[IN_USE] = 0
            self.line_number = -1
        fd, self.fd = self.fd, -1
        if fd >= 0:
            # What counts or marks after this does so into the void, not into a line of somebody else.
            self.line = unused_line()
            os.close(fd)

    def __del__(self) -> None:
        # Where a signal's handler raised before anybody had it: its descriptor holds a line.
        self.close(gives_line_back=False)


def unused_line() -> memoryview:
    """A line that nobody reads: for counting into the void."""
    return memoryview(bytearray(_LINE_WORDS * _WORD_BYTES)).cast("Q")


def fill(fd: int) -> None:
    """Makes an empty file an empty board with all its blocks, so that a full disk is an error here and never a SIGBUS
    later."""
    os.posix_fallocate(fd, 0, SIZE_BYTES)
    os.pwrite(fd, struct.pack("<QQQQ", _MAGIC, FORMAT, 1, 0), 0)


def _recognise(path: str, head: bytes, size: int) -> None:
    if len(head) < 2 * _WORD_BYTES:
        raise Damaged(f"the board is cut off ({size} bytes)")
    magic, version = struct.unpack("<QQ", head)
    if magic != _MAGIC:
        raise Damaged("the board does not begin as one")
    if FORMAT < version < 1 << 16:
        raise CacheFormatError(
            f"cache file {path}: format {version}, this sereno reads and writes format {FORMAT}",
            hint="use the sereno that wrote it, or another directory (SERENO_CACHE_DIR), or remove "
            f"{os.path.dirname(path)}: a cache can be filled again",
        )
    if version != FORMAT or size != SIZE_BYTES:
        raise Damaged(
            f"the board has {size} bytes and format {version}, {SIZE_BYTES} and {FORMAT} are right"
        )


def _line_at(number: int) -> int:
    return _LINES_AT + number * _LINE_WORDS * _WORD_BYTES


# How many entries there are and how many bytes they hold: two numbers that every write changes.
#
# In a record of the store they would cost another page at each write. On the board they cost a few words, but a writer
# may be killed between the words and the commit. So both are there, what was before the write and what will be after
# it, with the write's transaction id: whoever looks compares that with the last commit and knows which counts. An id
# that was not committed is used again by the next writer, which finds the numbers of before the killed one, and has to
# announce its own even when they are the same: with its commit the killed one's would count.


def committed(words: memoryview, last_transaction: int) -> tuple[int, int]:
    """Entries and bytes as of the last commit."""
    at = TALLY_AFTER if words[TALLY_AT] <= last_transaction else TALLY_BEFORE
    return words[at], words[at + 1]


def announce(
    words: memoryview, transaction: int, before: tuple[int, int], entries: int, held_bytes: int
) -> None:
    """Before the commit of `transaction`: what was, and what will be. Each word on its way leaves `committed` right."""
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


# Which prefixes were removed: a key that begins with one may have no entry yet whose generation would tell it.
#
# The last `REMEMBERED` of them, each as one word: its CRC-32 and its length.


def note_removal(words: memoryview, prefix: bytes) -> None:
    """All keys (UTF-8) that begin so are superseded, also where none has an entry."""
    count = words[PREFIX_COUNT]
    words[PREFIXES_AT + count % REMEMBERED] = _prefix_word(prefix)
    words[PREFIX_COUNT] = (count + 1) & _COUNT_MASK


def was_removed(words: memoryview, key: bytes, since: int) -> bool:
    """Was a prefix of `key` removed after the first `since` of all? True also where that cannot be told any more."""
    count = words[PREFIX_COUNT]
    if count - since > REMEMBERED:
        return True
    those = (words[PREFIXES_AT + number % REMEMBERED] for number in range(since, count))
    return any(_prefix_word(key[: word & _LENGTH_MASK]) == word for word in those)


def _prefix_word(prefix: bytes) -> int:
    return crc32(prefix) << 32 | len(prefix)


# Which entries may have expired: one word of 32 bits for each slot of sequence numbers.
#
# An index in the store doubled the cost of every overwrite, and a scan reads every page of the store. Here a write
# leaves the second of its expiry in a word, and the cleanup runs over the words. A word is never later than the
# earliest expiry of the live entries of its slot (those whose sequence numbers are equal modulo `SLOTS`), so nothing
# that has expired is missed; it may be earlier, after an overwrite, a removal, or a write that was killed or aborted,
# which costs one look into the store. 0: no entry.
#
# Words are written inside write transactions alone. What a transaction has not committed yet must not make a word
# later: killed before its commit, the entry would be there and the word would not tell.


def second(time_ms: int) -> int:
    """The word for a point of cache time: never 0, and never later than it is."""
    time_s = time_ms // 1000
    return time_s if 0 < time_s < _LATEST_S else 1 if time_s <= 0 else _LATEST_S


def note(words: memoryview, sequence: int, expiry_ms: int) -> None:
    """An entry expires at that time."""
    slot = sequence & SLOT_MASK
    known = words[slot]
    # As most writes find it, without a call: what expires later leaves the word as it is.
    if not known or expiry_ms // 1000 < known:
        words[slot] = second(expiry_ms)


def due(words: memoryview, start: int, end: int, now_ms: int) -> list[int]:
    """The slots from `start` to before `end` in which an entry may have expired at `now_ms`."""
    now_s = second(now_ms)
    return [slot for slot, word in enumerate(words[start:end].tolist(), start) if 0 < word <= now_s]
