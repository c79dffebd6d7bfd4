"""Entries in LMDB: opening an environment, what is read of it, and its errors as ours. `transaction` has the changes.

One database, the unnamed one, with three ranges of keys (`sereno.cache.entry`): entries, a few records (limits, the
counters at the last reset and at the last reported cleanup), and the order in which the entries came, for eviction. A
database with a name would need a write transaction to be opened, and so wait for a writer that is stopped.

Committed is committed: a process may be killed anywhere. `sync=False` leaves it to the kernel when pages reach the
disk, so a crash of the machine may lose or mix them: `files` sees to that. `writemap` would make a write two to four
times as fast and a full disk a SIGBUS: a cache must not be able to end the process that uses it.
"""

from __future__ import annotations

import errno
import os
import struct
from zlib import crc32

import lmdb

from sereno.cache import board as words
from sereno.cache import entry, place
from sereno.cache.board import GENERATION_MASK, PREFIX_COUNT, VISITED_MASK, Board
from sereno.cache.directory import Directory, held, only_these
from sereno.cache.entry import ORDER, RECORD, Damaged
from sereno.cache.values import Counted, State, Version
from sereno.errors import CacheError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAP_BYTES = 1 << 34
"""Address space kept for the file, not disk space. Never changed while the file is shared: LMDB processes with
different ideas of it damage the file (py-lmdb#269)."""
MAX_READERS = 1024

_LOCK_BYTES = (MAX_READERS + 64) * 64
"""At least what LMDB makes of its lock file: 64 bytes a reader, and a header."""

_MAP_FIXED = 0x10

RESERVE_BYTES = 1 << 20
"""Kept on the disk for removals where it is full. The list of what a `clear` frees takes 8 bytes a page: enough for
half a gigabyte, and for any removal of a batch."""

_PAGES_FOR_REMOVALS = 128

MOST_COPIED_BYTES = 64 << 20
"""More is not copied when the last process closes the cache: it would wait for longer than a tenth of a second."""

_STATE = struct.Struct("<4Q")
_COUNTERS = struct.Struct(f"<{len(words.COUNTERS)}Q")
RECORDS = STATE_KEY, RESET_KEY, MARK_KEY = RECORD + b"state", RECORD + b"reset", RECORD + b"mark"
_ENGINE = 0  # LMDB 0.9 and its file format, whatever LMDB_DEFAULT_LIB_VERSION says

# Errors of LMDB that mean that the file's content cannot be right.
_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.BadTxnError,
    lmdb.IncompatibleError,
    lmdb.CursorFullError,
    lmdb.PageFullError,
)


class Store:
    """The open LMDB environment of a directory, which is closed with it; one per process, or LMDB's locks break."""

    def __init__(self, directory: Directory, board: Board) -> None:
        self.env: Any = None
        self._open_files: list[int] = []
        self.directory = directory
        self.board = board
        self.words = board.words
        self.roomy_bytes = MAP_BYTES // 16  # entries of so few bytes do not fill the map
        try:
            for name in ("data.mdb", "lock.mdb"):
                self._open_files.append(directory.open(name))
            self.data, lock = self._open_files
            # LMDB maps it for writing: without a block the first touch of a slot is a SIGBUS.
            os.posix_fallocate(lock, 0, _LOCK_BYTES)
            found = os.fstat(lock)
            board.inodes["lock.mdb"] = (found.st_dev, found.st_ino)
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        with only_these(self.directory, *self._open_files) as path:
            self.env = lmdb.open(
                path,
                map_size=MAP_BYTES,
                max_dbs=0,
                max_readers=MAX_READERS,
                sync=False,
                metasync=False,
                writemap=False,
                lib_version=_ENGINE,
            )
        self.begin = self.env.begin

    def give_pages_back(self) -> None:
        """Where nobody else has it open: puts a copy without free pages in the file's place, if these are many.

        LMDB uses a page again and never gives one back, so a file is as large as all that it ever held at one time.
        The copy is on the disk when the next `sync` was. Raises what makes it impossible; the file is then what it was.
        """
        tree, held_blocks = self.env.stat(), os.fstat(self.data).st_blocks
        pages = tree["branch_pages"] + tree["leaf_pages"] + tree["overflow_pages"]
        in_use_bytes = pages * tree["psize"]
        if in_use_bytes > MOST_COPIED_BYTES or held_blocks * 512 < 1.4 * in_use_bytes + (1 << 20):
            return
        above, name = self.directory.above, f"new-{os.getpid()}-copy"
        assert above is not None
        copy = above.create(name)
        try:
            self.env.copyfd(copy, compact=True)
            os.rename(name, "data.mdb", src_dir_fd=above.fd, dst_dir_fd=self.directory.fd)
        except BaseException:
            os.close(copy)
            os.unlink(name, dir_fd=above.fd)
            raise
        self.env.close()
        os.close(self.data)
        self.data = self._open_files[0] = copy
        self._open()

    def abandon(self) -> None:
        """`close` in a forked child. LMDB would free the place among the readers that the parent reads from; so it does
        that in a copy of the table, which takes the table's place in the child's memory."""
        # First a descriptor, for a child that may open no more files.
        os.close(self._open_files.pop(0))
        _map_privately(self._open_files[0])
        self.close()

    def close(self) -> None:
        """Closes LMDB's environment, then the files; harmless when called again."""
        if self.env is not None:
            self.env.close()
        while self._open_files:
            os.close(self._open_files.pop())
        self.directory.close()

    def __del__(self) -> None:
        # Where a signal's handler raised before anybody had it.
        if hasattr(self, "directory"):
            self.close()

    def state(self) -> State:
        with self.begin() as txn:
            return unpack_state(txn.get(STATE_KEY))

    def fetch(self, keys: list[bytes], now_ms: int, is_visit: bool) -> list[bytes | None]:
        """The texts of live entries, all from one snapshot."""
        texts: list[bytes | None] = []
        with self.begin() as txn:
            for stored in keys:
                text = None
                record = txn.get(stored)
                if record is not None:
                    expiry_ms, sequence = entry.expiry_and_sequence(entry.intact(stored, record))
                    if expiry_ms > now_ms:
                        text = entry.value_of(record)
                        if is_visit:
                            self.board.visited[sequence & VISITED_MASK] = 1
                texts.append(text)
        return texts

    def keys(self, start: bytes, now_ms: int, at_most: int) -> tuple[list[str], bytes | None]:
        """Live keys from a store key on, and where to go on; a key that stands twice as long as others does no harm."""
        keys: list[str] = []
        with self.begin() as txn:
            cursor = txn.cursor()
            found = cursor.iternext(True, True) if cursor.set_range(start) else ()
            for looked_at, (stored, record) in enumerate(found):
                if stored > entry.EMPTY:
                    break
                if looked_at == at_most:
                    return keys, stored
                if entry.expiry_and_sequence(record)[0] > now_ms:
                    keys.append(entry.key_text(stored, entry.intact(stored, record)))
        return keys, None

    def due(self, start: int, end: int, now_ms: int) -> list[int]:
        """The slots in which an entry may have expired (`board.due`)."""
        return words.due(self.board.expiries, start, end, now_ms)

    def version(self, stored: bytes) -> Version:
        """How a key is now."""
        generation = self.board.generations[crc32(stored) & GENERATION_MASK]
        return Version(self.board, generation, self.words[PREFIX_COUNT])

    def counted(self) -> Counted:
        """What there is, and the counters since the last reset."""
        with self.begin() as txn:
            entries, reset = self.entries_in(txn), txn.get(RESET_KEY)
        counters = since(self.board.totals(), reset)
        file_bytes = os.fstat(self.data).st_size
        return Counted(entries, self.held_bytes(), file_bytes, self.state(), counters)

    def entries_in(self, txn: Any) -> int:
        """Entries as that transaction sees them: each has its place in the order, too."""
        return int(txn.stat()["entries"] - len(RECORDS)) // 2

    def held_bytes(self) -> int:
        """What the keys and values of all entries take."""
        return words.committed(self.words, self.last_transaction())[1]

    def last_transaction(self) -> int:
        return int(self.env.info()["last_txnid"])

    def last_sequence(self) -> int:
        """The largest sequence number in use, 0 when there is none."""
        with self.begin() as txn:
            cursor = txn.cursor()
            if cursor.last() and cursor.key()[:1] == ORDER:
                return int.from_bytes(cursor.key()[1:], "big")
            return 0

    def used_bytes(self) -> int:
        """The file up to the last page that is in use, or was, and is free now."""
        return (int(self.env.info()["last_pgno"]) + 1) * int(self.env.stat()["psize"])

    def is_nearly_full(self, held_bytes: int) -> bool:
        """Has the map no more room than removals may need?"""
        return held_bytes > self.roomy_bytes and self.used_bytes() > self.roomy_bytes * 15

    def reserve(self) -> bool:
        """Sees to it that there is a reserve; False where the disk has no room for it."""
        try:
            with held(self.directory.open_or_create("reserve")) as fd:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
        except OSError:
            return False
        self.words[words.RESERVE_IS_SPENT] = 0
        return True

    def spend_reserve(self) -> None:
        """Gives the reserve's blocks to the store's file. The caller holds the writers' lock."""
        self.words[words.RESERVE_IS_SPENT] = 1
        try:
            with held(self.directory.open_or_create("reserve")) as fd:
                os.ftruncate(fd, 0)
            os.posix_fallocate(self.data, self.used_bytes(), RESERVE_BYTES)
        except OSError:
            pass  # what there is may do

    def leave_room_for_removals(self, txn: Any, value_bytes: int) -> None:
        """Before something is stored while the reserve is spent: OSError where only removals have room."""
        if self.reserve():
            return
        tree = txn.stat()
        in_use = tree["branch_pages"] + tree["leaf_pages"] + tree["overflow_pages"]
        free = os.fstat(self.data).st_size // tree["psize"] - in_use
        if free < _PAGES_FOR_REMOVALS + value_bytes // tree["psize"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.directory.path)


def _map_privately(fd: int) -> None:
    import ctypes
    import mmap

    found = os.fstat(fd)
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x} {found.st_ino}"
    call = ctypes.CDLL(None).mmap
    call.restype = ctypes.c_void_p
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long]
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        spans = [line.split()[0] for line in maps if " ".join(line.split()[3:5]) == file]
    for span in spans:
        start, end = (int(at, 16) for at in span.split("-"))
        flags = mmap.MAP_PRIVATE | _MAP_FIXED
        call(start, end - start, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, 0)


def translated(error: lmdb.Error, path: str) -> CacheError | Damaged:
    if isinstance(error, _DAMAGE):
        return Damaged(str(error))
    hint = None
    number = getattr(error, "code", 0)
    if isinstance(error, lmdb.MapFullError):
        number = errno.ENOSPC
        hint = "set a max_size, or a shorter TTL, or clear the cache"
    elif isinstance(error, lmdb.ReadersFullError):
        number = errno.EAGAIN
        hint = f"at most {MAX_READERS} readers at once"
    elif is_full(error, path):
        number = errno.ENOSPC
    elif number == errno.EAGAIN:
        hint = (
            f"a process of another container has the process id {os.getpid()} too, and LMDB tells processes apart by "
            "that: share the cache within one namespace of process ids (--pid=host, shareProcessNamespace)"
        )
    hint = hint or place.hint_for(number)
    reason = os.strerror(number) if number > 0 else str(error)
    result = CacheError(f"cache {path}: {reason} ({error})", hint=hint)
    result.errno, result.filename = (number if number > 0 else errno.EIO), path
    return result


def is_full(error: lmdb.Error, path: str) -> bool:
    """Does that say that there is no room on the disk, or in the map?"""
    number = getattr(error, "code", 0)
    if isinstance(error, lmdb.MapFullError) or number in (errno.ENOSPC, errno.EDQUOT):
        return True
    # LMDB's name for a write that was cut short.
    return number == errno.EIO and _has_no_room(path)


def _has_no_room(path: str) -> bool:
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 1 << 20


def pack_state(state: State) -> bytes:
    return _STATE.pack(*(limit or 0 for limit in state))


def unpack_state(raw: bytes | None) -> State:
    """Raises `Damaged` for what is no record of the limits."""
    if raw is None or len(raw) != _STATE.size:
        raise Damaged("the record of the limits is missing")
    return State(*(limit or None for limit in _STATE.unpack(raw)))


def pack_counters(totals: dict[str, int]) -> bytes:
    return _COUNTERS.pack(*totals.values())


def since(totals: dict[str, int], packed: bytes | None) -> dict[str, int]:
    """What was counted since the totals were those that were packed; all where there are none."""
    if packed is None or len(packed) != _COUNTERS.size:
        return totals
    then = zip(totals.items(), _COUNTERS.unpack(packed), strict=True)
    return {name: max(0, count - before) for (name, count), before in then}
