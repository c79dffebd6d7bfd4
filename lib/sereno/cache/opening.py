"""Opening and closing a cache's files: creating them, judging them, setting damaged ones aside.

::

    <directory>/open.lock              held while somebody opens, closes or replaces; never removed
    <directory>/current/               the files in use: data.mdb, lock.mdb, board, and after a clean end `synced`
    <directory>/damaged-<time>/        files that were set aside, the newest three
    <directory>/new-<pid>/             files that are being made; whoever holds the lock may remove them

Files are made and replaced as one directory, by rename(2): a process that is killed on the way leaves the old ones or
the new ones. Three questions are asked at each opening, under the lock:

1. Did the machine go down without a clean end? Then pages may be missing, and, worse, an invalidation may be: an old
   value would come back to life. The cache starts empty.
2. Is the file what the last process left? If it was changed meanwhile, or processes died while they had it open, its
   structure is checked without LMDB, which trusts its file and may crash on a damaged one. So a backend that crashed
   on a damaged file does not crash again.
3. Is it of this version? A newer one's files are left alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager

import lmdb

from sereno.cache import board as words
from sereno.cache import clock, place
from sereno.cache.board import Board, Damaged
from sereno.cache.place import Place
from sereno.cache.store import (
    MAP_BYTES,
    MAX_READERS,
    State,
    Store,
    Write,
    last_sequence,
    synced_path,
    translated,
)
from sereno.errors import CacheError

DEFAULT_MAX_SIZE = 2000
DEFAULT_TTL_MS = 3_600_000

KEPT_ASIDE = 3
TOLERATED_DEATHS = 3
"""Deaths beside living processes before the file is checked: a worker that was killed is no sign of damage, one that
dies again and again may be. Without living processes the first one is reason enough."""


def open_store(where: Place, *, map_bytes: int = MAP_BYTES) -> Store:
    """Opens the cache in a directory, with a line of the board taken.

    Raises:
        CacheError: it cannot be opened.
        CacheFormatError: it is of another version; nothing was changed.
    """
    try:
        with _openers_lock(where):
            return _open_locked(where, map_bytes)
    except OSError as error:
        if isinstance(error, CacheError):
            raise
        raise place.refused(where.path, error) from error


def close_store(where: Place, store: Store) -> None:
    """Closes a store; the last process to do so has everything written to the disk and says so there."""
    board = store.board
    try:
        with _openers_lock(where):
            if board.census().alive == 0 and not board.words[words.RETIRED]:
                _end_cleanly(store)
            else:
                store.close()
    except (OSError, lmdb.Error):
        # No room or no rights for the mark: the next boot finds none, and the cache starts empty.
        store.close()
    finally:
        board.close()


def set_aside(where: Place, board: Board, why: str) -> None:
    """Replaces files that turned out to be damaged, unless another process has done so already."""
    with _openers_lock(where):
        if board.words[words.RETIRED]:
            return
        board.retire()
        if _inode(os.path.join(_current(where), "board")) == board.inode:
            _move_aside(where, why)


def lock_path(directory: str) -> str:
    """The file of the openers' lock; it is never replaced."""
    return os.path.join(directory, "open.lock")


def is_current(where: Place, board: Board) -> bool:
    """Are the files of that board still the ones in use?"""
    return (
        not board.words[words.RETIRED]
        and _inode(os.path.join(_current(where), "board")) == board.inode
    )


def _open_locked(where: Place, map_bytes: int) -> Store:
    _sweep(where)
    current = _current(where)
    if not os.path.lexists(current):
        _build(where, map_bytes)
    try:
        return _open_current(where, map_bytes)
    except _LostInReboot as why:
        _drop(where, str(why))
    except (Damaged, FileNotFoundError) as why:
        _move_aside(where, str(why))
    _build(where, map_bytes)
    try:
        return _open_current(where, map_bytes)
    except (Damaged, FileNotFoundError) as why:
        raise CacheError(f"cache {current}: new files, and yet {why}") from why


def _open_current(where: Place, map_bytes: int) -> Store:
    """Opens the files in use; tells everybody else when they are found damaged.

    Raises:
        Damaged, FileNotFoundError: they have to be replaced.
        CacheError, OSError: they may be sound, and cannot be opened now.
    """
    current = _current(where)
    _refuse_strange_files(current)
    board = Board(os.path.join(current, "board"))
    try:
        store = _open_judged(where, board, map_bytes)
        try:
            board.take_line()
        except BaseException:
            store.close()
            raise
        return store
    except BaseException as error:
        failure = translated(error, current) if isinstance(error, lmdb.Error) else error
        if isinstance(failure, Damaged | FileNotFoundError):
            board.retire()
        board.close()
        raise failure from error


def _open_judged(where: Place, board: Board, map_bytes: int) -> Store:
    current = _current(where)
    census = board.census()
    board.words[words.DEATHS] += census.died
    rebooted = board.words[words.BOOT_ID : words.BOOT_ID + 2].tobytes() != clock.boot_id()
    if rebooted and not os.path.exists(synced_path(current)):
        raise _LostInReboot(
            "the machine went down while the cache was in use, and what was written last may be lost"
        )
    _check_structure(current, board, census.alive)
    store = Store(current, board, file_mode=where.file_mode, map_bytes=map_bytes)
    try:
        store.env.reader_check()
        store.state()
        if rebooted:
            _begin_boot(store)
    except BaseException:
        store.close()
        raise
    return store


class _LostInReboot(Damaged):
    """Nothing is wrong with the files as files; their content cannot be trusted."""


def _begin_boot(store: Store) -> None:
    header = store.board.words
    if store.last_transaction() != _read_synced(store.directory):
        raise _LostInReboot(
            "the store is not the one that was written to the disk at the last clean end"
        )
    # The board may have reached the disk at another moment than the store did.
    header[words.NEXT_SEQUENCE] = max(header[words.NEXT_SEQUENCE], last_sequence(store) + 1)
    header[words.EPOCH_MS] = clock.epoch_ms(header[words.LAST_MS])
    header[words.SYNCED] = 1
    store.board.forget_all(0)
    _set_boot_id(store.board)


def _check_structure(current: str, board: Board, alive: int) -> None:
    """Walks through the store's file without mapping it, where there is reason to.

    Raises:
        Damaged: with the first thing found.
    """
    data = os.path.join(current, "data.mdb")
    found = os.stat(data)
    header = board.words
    deaths = header[words.DEATHS]
    remembered = header[words.STORE_BYTES], header[words.STORE_MTIME_NS]
    if alive:
        is_suspicious = deaths >= TOLERATED_DEATHS
    else:
        is_suspicious = deaths > 0 or (found.st_size, found.st_mtime_ns) != remembered
    if not is_suspicious:
        return
    if alive:
        # The walk takes the file's size before it reads the meta page: a file that grew in between
        # looks cut off, but not three times.
        for _ in range(3):
            with _pages_held(current):
                problems = _problems(data)
            if not problems:
                break
    else:
        problems = _problems(data)
    if problems:
        raise Damaged(f"{problems[0]} ({len(problems)} findings)")
    header[words.DEATHS] = 0


@contextmanager
def _pages_held(current: str) -> Iterator[None]:
    """While this lasts, living writers use no page again that the walk may meet.

    A read transaction does that. To begin one LMDB looks at the two meta pages, which it checks, and at no other.
    """
    env = lmdb.open(
        current, map_size=MAP_BYTES, readonly=True, create=False, max_readers=MAX_READERS
    )
    try:
        with env.begin():
            yield
    finally:
        env.close()


def _problems(data: str) -> list[str]:
    """What py-lmdb's own checker finds; pages that are merely lost to the file are none of it."""
    from lmdb import verify

    try:
        found: list[str] = verify.verify(data, subdir=False)  # type: ignore[no-untyped-call]
    except verify.VerifyError as error:
        return [str(error)]
    return [text for text in found if "leak" not in text]


def _build(where: Place, map_bytes: int) -> None:
    """Makes the files of an empty cache and puts them in place as one."""
    new = os.path.join(where.path, f"new-{os.getpid()}")
    place.make_directory(new, where.dir_mode)
    try:
        words.create(os.path.join(new, "board"), where.file_mode)
        board = Board(os.path.join(new, "board"))
        try:
            store = Store(new, board, file_mode=where.file_mode, map_bytes=map_bytes)
            txn = Write(store)
            txn.set_state(State(DEFAULT_MAX_SIZE, DEFAULT_TTL_MS, 0))
            txn.commit()
            _own_all_blocks(os.path.join(new, "lock.mdb"))
            for name in ("data.mdb", "lock.mdb"):
                os.chmod(os.path.join(new, name), where.file_mode)
            store.close()
            board.words[words.EPOCH_MS] = clock.epoch_ms()
            _set_boot_id(board)
            _remember_file(board, new)
        finally:
            board.close()
        os.rename(new, _current(where))
    except lmdb.Error as error:
        shutil.rmtree(new, ignore_errors=True)
        raise translated(error, new) from error
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _own_all_blocks(path: str) -> None:
    # LMDB only extends its lock file, which it maps: on a full disk the first touch of a new
    # reader's slot would be a SIGBUS.
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(fd, 0, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def _end_cleanly(store: Store) -> None:
    board, directory = store.board, store.directory
    header = board.words
    if not header[words.SYNCED]:
        store.env.sync(True)
        header[words.LAST_MS] = header[words.EPOCH_MS] + clock.boottime_ms()
    transaction = store.last_transaction()
    store.close()
    _remember_file(board, directory)
    if not header[words.SYNCED]:
        board.flush()
        _write_synced(directory, transaction)
        header[words.SYNCED] = 1


def _remember_file(board: Board, directory: str) -> None:
    found = os.stat(os.path.join(directory, "data.mdb"))
    board.words[words.STORE_BYTES] = found.st_size
    board.words[words.STORE_MTIME_NS] = found.st_mtime_ns


def _write_synced(directory: str, transaction: int) -> None:
    path = synced_path(directory)
    mode = stat.S_IMODE(os.stat(os.path.join(directory, "board")).st_mode)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            os.fchmod(fd, mode)
        os.write(fd, b"%d\n" % transaction)
        os.fsync(fd)
    finally:
        os.close(fd)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_synced(directory: str) -> int:
    try:
        with open(synced_path(directory), "rb") as file:
            return int(file.read(24))
    except ValueError:
        return -1


def _set_boot_id(board: Board) -> None:
    halves = memoryview(clock.boot_id()).cast("Q")
    board.words[words.BOOT_ID], board.words[words.BOOT_ID + 1] = halves


def _move_aside(where: Place, why: str) -> None:
    now = time.time()
    name = time.strftime("damaged-%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    aside = os.path.join(where.path, name)
    os.rename(_current(where), aside)
    kept = sorted(entry for entry in os.listdir(where.path) if entry.startswith("damaged-"))
    for old in kept[:-KEPT_ASIDE]:
        shutil.rmtree(os.path.join(where.path, old), ignore_errors=True)
    _report("cache %s: %s; it starts empty, the old files are in %s", where.path, why, aside)


def _drop(where: Place, why: str) -> None:
    """Removes the files in use; nobody has them open, for the machine was rebooted."""
    gone = os.path.join(where.path, f"new-{os.getpid()}-gone")
    os.rename(_current(where), gone)
    shutil.rmtree(gone, ignore_errors=True)
    _report("cache %s: %s; it starts empty", where.path, why)


def _report(text: str, *values: str) -> None:
    import logging

    logging.getLogger("sereno.cache").warning(text, *values)


def _refuse_strange_files(current: str) -> None:
    """Symbolic links, hard links and special files could make a process write where somebody else wants it to."""
    for name in ("", "board", "data.mdb", "lock.mdb"):
        path = os.path.join(current, name) if name else current
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            if name == "lock.mdb":
                continue  # LMDB makes a new one, and nothing is lost.
            raise
        if name:
            is_plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        else:
            is_plain = stat.S_ISDIR(found.st_mode)
        if not is_plain:
            raise CacheError(
                f"cache file {path}: not a plain {'file with one name' if name else 'directory'}",
                hint=f"remove {current}: a cache can be filled again",
            )


def _sweep(where: Place) -> None:
    for name in os.listdir(where.path):
        if name.startswith("new-"):
            shutil.rmtree(os.path.join(where.path, name), ignore_errors=True)


def _current(where: Place) -> str:
    return os.path.join(where.path, "current")


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _openers_lock(where: Place) -> Iterator[None]:
    path = lock_path(where.path)
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        os.fchmod(fd, where.file_mode)
    except FileExistsError:
        fd = _open_patiently(path, flags)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _open_patiently(path: str, flags: int) -> int:
    """Opens the lock file; the one who is just creating it may not have given the group its rights yet."""
    for pause_s in (0.001, 0.005, 0.02, 0.1, None):
        try:
            return os.open(path, flags)
        except PermissionError:
            if pause_s is None:
                raise
            time.sleep(pause_s)
    raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
