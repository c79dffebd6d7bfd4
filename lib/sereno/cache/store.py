"""Entries in LMDB: opening an environment, what is read of it, and its errors as ours. `write` has the changes.

Two databases: *entries* (key → header and value) and *order* (sequence number → key, the order in which the entries
came, for eviction), and three records beside them: the cache's limits, the counters at the last reset, and the counters
at the last reported cleanup.

Committed is committed: a process may be killed anywhere. `sync=False` leaves it to the kernel when pages reach the
disk, so a crash of the machine may lose or mix them: `opening` sees to that. `writemap` makes a write four times as
fast and a full disk a SIGBUS; `room` sees to that.
"""

from __future__ import annotations

import errno
import os
import struct

import lmdb

from sereno.cache import board as words
from sereno.cache import tally, waiting
from sereno.cache.board import Board, Damaged
from sereno.cache.files import Directory, only_these
from sereno.cache.room import PAGES_A_WRITE, Room
from sereno.errors import CacheError
from sereno.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAP_BYTES = 1 << 34
"""Address space kept for the file, not disk space. Never changed while the file is shared: LMDB processes with
different ideas of it damage the file (py-lmdb#269)."""
MAX_READERS = 1024

_STATE = struct.Struct("<QQ")
_COUNTERS = struct.Struct(f"<{len(words.COUNTERS)}Q")
STATE_KEY, RESET_KEY, MARK_KEY = b"state", b"reset", b"mark"
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


class State(NamedTuple):
    """The limits that are stored with a cache; None: no limit."""

    max_size: int | None
    default_ttl_ms: int | None


class Store:
    """The open LMDB environment of one directory; one per process and directory, or LMDB's locks break.

    Args:
        directory: the files, which have to be there; closed with the store.
        in_place: whether the file system overwrites a file's blocks; where it does not (`place`), blocks that are there
            do not keep a full disk away, and LMDB writes with pwrite(2).

    Raises:
        lmdb.Error: the environment cannot be opened.
    """

    def __init__(
        self,
        directory: Directory,
        board: Board,
        *,
        in_place: bool = True,
        map_bytes: int = MAP_BYTES,
    ) -> None:
        self.directory = directory
        self.board = board
        self.words = board.words
        self.env: Any = None
        self._open_files: list[int] = []
        try:
            for name in ("data.mdb", "lock.mdb"):
                self._open_files.append(directory.open(name))
            self.data, self.lock = self._open_files
            with only_these(directory, self.data, self.lock) as path:
                self.env, is_mapped = _open(path, map_bytes, in_place)
            self.begin = self.env.begin
            self.room = Room(self.data, self.env, board.words, map_bytes, is_mapped=is_mapped)
            # A handle is opened in a write transaction, also one of what is there.
            board.lock_writers()
            try:
                self._open_databases()
            finally:
                waiting.unlock(board.fd)
        except BaseException:
            self.close()
            raise

    def _open_databases(self) -> None:
        self.main: Any = self.env.open_db(None)
        self.entries: Any
        self.order: Any
        try:
            self.entries = self.env.open_db(b"entries", create=False)
            self.order = self.env.open_db(b"order", create=False)
        except lmdb.NotFoundError:
            self.room.take(PAGES_A_WRITE)
            self.entries = self.env.open_db(b"entries")
            self.order = self.env.open_db(b"order")

    def close(self) -> None:
        """Closes LMDB's environment, then the files; harmless when called again."""
        if self.env is not None:
            self.env.close()
        while self._open_files:
            os.close(self._open_files.pop())
        self.directory.close()

    def state(self) -> State:
        with self.begin() as txn:
            return unpack_state(txn.get(STATE_KEY))

    def record(self, name: bytes) -> dict[str, int]:
        """One of the stored sets of counters (`RESET_KEY`, `MARK_KEY`); all 0 when never stored."""
        with self.begin() as txn:
            return unpack_counters(txn.get(name))

    def size(self) -> int:
        with self.begin() as txn:
            return int(txn.stat(self.entries)["entries"])

    def held_bytes(self) -> int:
        """What the keys and values of all entries take."""
        return tally.committed(self.words, self.last_transaction())[1]

    def last_transaction(self) -> int:
        return int(self.env.info()["last_txnid"])

    def last_sequence(self) -> int:
        """The largest sequence number in use, 0 when there is none."""
        with self.begin(self.order) as txn:
            cursor = txn.cursor()
            return int.from_bytes(cursor.key(), "big") if cursor.last() else 0

    def used_pages(self) -> int:
        """Pages of the file that are in use or were, and are free now."""
        return int(self.env.info()["last_pgno"]) + 1

    def used_bytes(self) -> int:
        """The file up to the last of them."""
        return self.used_pages() * int(self.env.stat()["psize"])


def _open(path: str, map_bytes: int, in_place: bool) -> tuple[lmdb.Environment, bool]:
    """The environment, and whether it writes into its map."""
    for writemap in (True, False) if in_place else (False,):
        try:
            env = lmdb.open(
                path,
                map_size=map_bytes,
                max_dbs=2,
                max_readers=MAX_READERS,
                sync=False,
                metasync=False,
                writemap=writemap,
                lib_version=_ENGINE,
            )
        except lmdb.Error as error:
            # To be mapped for writing the file is as large as the map, which a process with a
            # limit on the size of files (setrlimit(2)) may not make.
            if not (writemap and getattr(error, "code", 0) == errno.EFBIG):
                raise
        else:
            return env, writemap
    raise AssertionError("unreachable")


def translated(error: lmdb.Error, path: str) -> CacheError | Damaged:
    """An error of LMDB as one of ours."""
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
    elif number == errno.EIO and _is_full(path):
        number = errno.ENOSPC  # LMDB's name for a write that was cut short
    reason = os.strerror(number) if number > 0 else str(error)
    result = CacheError(f"cache {path}: {reason} ({error})", hint=hint)
    result.errno, result.filename = (number if number > 0 else errno.EIO), path
    return result


def _is_full(path: str) -> bool:
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 1 << 20


def pack_state(state: State) -> bytes:
    return _STATE.pack(state.max_size or 0, state.default_ttl_ms or 0)


def unpack_state(raw: bytes | None) -> State:
    """Raises `Damaged` for what is no record of the limits."""
    if raw is None or len(raw) != _STATE.size:
        raise Damaged("the record of the limits is missing")
    max_size, default_ttl_ms = _STATE.unpack(raw)
    return State(max_size or None, default_ttl_ms or None)


def pack_counters(counters: dict[str, int]) -> bytes:
    return _COUNTERS.pack(*(counters[counter] for counter in words.COUNTERS))


def unpack_counters(raw: bytes | None) -> dict[str, int]:
    if raw is None or len(raw) != _COUNTERS.size:
        return dict.fromkeys(words.COUNTERS, 0)
    return dict(zip(words.COUNTERS, _COUNTERS.unpack(raw), strict=True))
