"""Opening and closing a cache's files: creating them, judging them, setting damaged ones aside.

::

    <directory>/open.lock              held while somebody opens, closes or replaces; never removed
    <directory>/format-<number>/       the files in use: data.mdb, lock.mdb, board, and after a clean end `synced`
    <directory>/damaged-<time>/        files that were set aside, the newest three
    <directory>/new-<pid>…/            what is being made; whoever holds the lock may remove it

Files are made and replaced as one directory, by rename(2): a process that is killed on the way leaves the old ones or
the new ones. Three questions are asked at each opening, under the lock:

1. Did the machine go down without a clean end? Then pages may be missing, and, worse, an invalidation may be: an old
   value would come back to life. The cache starts empty.
2. Is the file what the last process left? If it was changed meanwhile, or processes died while they had it open, its
   structure is checked without LMDB, which trusts its file and may crash on a damaged one. So a backend that crashed
   on a damaged file does not crash again.
3. Is it of this version? A newer one's files are left alone.

What is done to a file is done by its descriptor, of which `directory` has judged what it is.
"""

from __future__ import annotations

import os
import time

import lmdb

from sereno.cache import board as words
from sereno.cache import clock, damage, directory, locks, place
from sereno.cache.board import CURRENT, Board
from sereno.cache.directory import Directory, held, make_directory
from sereno.cache.entry import Damaged
from sereno.cache.store import Store, translated
from sereno.cache.values import State
from sereno.cache.write import Write
from sereno.context_manager import closing, contextmanager
from sereno.errors import CacheError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_MAX_SIZE = 2000
DEFAULT_TTL_MS = 3_600_000
DEFAULT_MAX_VALUE_BYTES = 64 << 20
"""While a value is written others wait: this one takes a third of a second."""

LOCK = "open.lock"
"""The file of the openers' lock; it is never replaced."""


def open_store(path: str) -> Store:
    """Opens the cache in a directory, which is made where it is missing, with a line of the board taken.

    Raises:
        CacheError: it cannot be opened.
        CacheFormatError: it is of another version; nothing was changed.
    """
    directory.prepare(path)
    with place.refusals(path), _openers_lock(path) as top:
        return _open_locked(top)


def close_store(path: str, store: Store) -> None:
    """Closes a store; the last process to do so has everything written to the disk and says so there."""
    board = store.board
    try:
        # That of the opening is closed.
        with _openers_lock(path) as store.directory.above:
            if board.census() == 0 and not board.words[words.RETIRED]:
                _end_cleanly(store)
            else:
                store.close()
    except (OSError, lmdb.Error):
        # No room or no rights for the mark: the next boot finds none, and the cache starts empty.
        store.close()
    finally:
        board.close()


def set_aside(path: str, board: Board, why: str) -> None:
    """Replaces files that turned out to be damaged, unless another process has done so already."""
    with place.refusals(path), _openers_lock(path) as top:
        if board.words[words.RETIRED]:
            return
        board.retire()
        if _is_in_use(path, board):
            damage.move(top, why)


def is_current(path: str, board: Board) -> bool:
    """Are the files of that board still the ones in use?

    Raises:
        CacheError: that cannot be told, for instance because this process has lost its rights. Nothing follows from it
            for those who have theirs.
    """
    with place.refusals(path):
        return not board.words[words.RETIRED] and _is_in_use(path, board)


def _open_locked(top: Directory) -> Store:
    damage.sweep(top)
    damage.supersede_older(top)
    try:
        top.status(CURRENT)
    except FileNotFoundError:
        make(top)
    try:
        return _open_current(top)
    except _LostInReboot as why:
        damage.drop(top, str(why))
    except (Damaged, FileNotFoundError) as why:
        damage.move(top, str(why))
    make(top)
    try:
        return _open_current(top)
    except (Damaged, FileNotFoundError) as why:
        raise CacheError(f"cache {top.path}: new files, and yet {why}") from why


def _open_current(top: Directory) -> Store:
    """Opens the files in use; tells everybody else when they are found damaged.

    Raises:
        Damaged, FileNotFoundError: they have to be replaced.
        CacheError, OSError: they may be sound, and cannot be opened now.
    """
    current = Directory(CURRENT, top)
    board: Board | None = None
    try:
        board = Board(current)
        store = _open_judged(current, board)
        try:
            board.take_line()
        except BaseException:
            store.close()
            raise
        return store
    except BaseException as error:
        current.close()
        failure = translated(error, current.path) if isinstance(error, lmdb.Error) else error
        if board is not None:
            if isinstance(failure, Damaged | FileNotFoundError):
                board.retire()
            board.close()
        raise failure from error


def _open_judged(current: Directory, board: Board) -> Store:
    alive = board.census()
    if board.words[words.RETIRED]:
        raise Damaged("they were found damaged before, by a process that was killed over it")
    # Whoever has the files open now has had them open in this boot, whatever the id: in a container that has one of its
    # own, a service in a sandbox with a /proc of its own reads the host's.
    rebooted = board.boot_id != clock.boot_id() and not alive
    if rebooted and directory.read_mark(current) is None:
        raise _LostInReboot(
            "the machine went down while the cache was in use, and what was written last may be lost"
        )
    try:
        # LMDB makes one where it is missing, but leaves its mode to the umask.
        os.close(current.create("lock.mdb"))
        if alive:
            raise Damaged("its lock file was removed while processes had it open")
    except FileExistsError:
        pass
    damage.check_structure(current, board, alive)
    store = Store(current, board)
    try:
        store.env.reader_check()
        store.state()
        if rebooted:
            _begin_boot(store)
        if not alive:
            _begin_alone(store)
    except BaseException:
        store.close()
        raise
    return store


def _begin_alone(store: Store) -> None:
    """Finds out what the words say of the file."""
    damage.check_words(store.board, store.last_sequence())
    # From now on the file changes; after an end that is not clean its last transaction tells whether it is the same.
    store.words[words.STORE_BYTES] = 0
    store.reserve()
    last = store.last_transaction()
    if last + 1 < store.words[words.LAST_WRITE]:
        # `Store.give_pages_back`: a copy counts its transactions from 1 again.
        store.board.forget_all(0)
        store.words[words.LIMITS_AT], store.words[words.LAST_WRITE] = 0, last
    with store.begin() as txn:
        words.correct(store.words, store.entries_in(txn), store.held_bytes())


class _LostInReboot(Damaged):
    """Nothing is wrong with the files as files; their content cannot be trusted."""


def _begin_boot(store: Store) -> None:
    header = store.board.words
    if store.last_transaction() != directory.read_mark(store.directory):
        raise _LostInReboot(
            "the store is not the one that was written to the disk at the last clean end"
        )
    # The board may have reached the disk at another moment than the store did.
    header[words.NEXT_SEQUENCE] = max(header[words.NEXT_SEQUENCE], store.last_sequence() + 1)
    header[words.EPOCH_MS] = clock.epoch_ms(header[words.LAST_MS])
    header[words.SYNCED] = 1
    store.board.forget_all(0)
    store.board.boot_id = clock.boot_id()


def _end_cleanly(store: Store) -> None:
    board = store.board
    header = board.words
    if not header[words.SYNCED]:
        # By no number of a transaction: a copy counts them from 1 again.
        words.correct(header, *words.committed(header, store.last_transaction()))
        try:
            store.give_pages_back()
        except (OSError, lmdb.Error):
            pass  # no room for the copy: the next one may have it
        store.env.sync(True)
        header[words.LAST_MS] = header[words.EPOCH_MS] + clock.boottime_ms()
    transaction, used_bytes = store.last_transaction(), store.used_bytes()
    store.env.close()
    # As long as the map is only what LMDB's mapping needs; a closed cache can be copied without it.
    os.ftruncate(store.data, used_bytes)
    damage.remember_file(board, store.data)
    if not header[words.SYNCED]:
        # The word first: killed in between, a mark without it would outlive what is written next.
        header[words.SYNCED] = 1
        board.flush()
        directory.write_mark(store.directory, transaction)
    store.close()


def _is_in_use(path: str, board: Board) -> bool:
    """Raises OSError where it cannot be told whether there is such a file."""
    for name, inode in board.inodes.items():
        try:
            found = os.stat(os.path.join(path, CURRENT, name))
        except (FileNotFoundError, NotADirectoryError):
            return False
        if (found.st_dev, found.st_ino) != inode:
            return False
    return True


@contextmanager
def _openers_lock(path: str) -> Iterator[Directory]:
    """The cache's directory, with the lock held under which files are opened, closed and replaced."""
    with Directory(path) as top:
        try:
            fd = top.create(LOCK)
        except FileExistsError:
            fd = _open_patiently(top)
        with held(fd):
            locks.lock(fd, f"cache {path}: the right to open it")
            yield top


def _open_patiently(top: Directory) -> int:
    """Opens the lock file; the one who is just creating it may not have given the group its rights yet."""
    for pause_s in (0.001, 0.005, 0.02, 0.1):
        try:
            return top.open(LOCK)
        except PermissionError:
            time.sleep(pause_s)
    return top.open(LOCK)


def make(top: Directory) -> None:
    """Makes the files of an empty cache as the directory `CURRENT` in `top`, or leaves nothing."""
    name = f"new-{os.getpid()}"
    make_directory(name, top.dir_mode, top)
    try:
        with Directory(name, top) as new:
            _fill(new)
        top.rename(name, CURRENT)
    except BaseException as error:
        damage.remove_tree(top, name)
        if isinstance(error, lmdb.Error):
            raise translated(error, os.path.join(top.path, name)) from error
        raise


def _fill(new: Directory) -> None:
    with held(new.create("board")) as fd:
        words.fill(fd)
    for name in ("data.mdb", "lock.mdb"):
        os.close(new.create(name))
    with (
        closing(Board(new)) as board,
        closing(Store(new, board)) as store,
    ):
        limits = State(DEFAULT_MAX_SIZE, DEFAULT_TTL_MS, None, DEFAULT_MAX_VALUE_BYTES)
        Write(store).run(Write.begin, (limits,))
        store.reserve()
        store.env.close()
        board.words[words.EPOCH_MS] = clock.epoch_ms()
        board.boot_id = clock.boot_id()
        damage.remember_file(board, store.data)
