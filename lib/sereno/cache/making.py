"""The files of a new cache: made as one directory, put in place by one rename. The caller holds the openers' lock."""

from __future__ import annotations

import os

import lmdb

from sereno.cache import aside, clock, judging, place
from sereno.cache import board as words
from sereno.cache.board import Board
from sereno.cache.place import Place
from sereno.cache.store import State, Store, translated
from sereno.cache.write import Write

DEFAULT_MAX_SIZE = 2000
DEFAULT_TTL_MS = 3_600_000


def make(where: Place, current: str, map_bytes: int) -> None:
    """Makes the files of an empty cache as the directory `current`.

    Raises:
        CacheError, OSError: nothing of it is left.
    """
    new = os.path.join(where.path, f"new-{os.getpid()}")
    place.make_directory(new, where.dir_mode)
    try:
        _fill(where, new, map_bytes)
        os.rename(new, current)
    except lmdb.Error as error:
        aside.remove_tree(new)
        raise translated(error, new) from error
    except BaseException:
        aside.remove_tree(new)
        raise


def _fill(where: Place, new: str, map_bytes: int) -> None:
    words.create(os.path.join(new, "board"), where.file_mode)
    board = Board(os.path.join(new, "board"))
    try:
        store = Store(
            new, board, file_mode=where.file_mode, in_place=where.in_place, map_bytes=map_bytes
        )
        Write(store).run(Write.set_state, State(DEFAULT_MAX_SIZE, DEFAULT_TTL_MS))
        _own_all_blocks(os.path.join(new, "lock.mdb"))
        for name in ("data.mdb", "lock.mdb"):
            os.chmod(os.path.join(new, name), where.file_mode)
        store.close()
        board.words[words.EPOCH_MS] = clock.epoch_ms()
        board.boot_id = clock.boot_id()
        judging.remember_file(board, new)
    finally:
        board.close()


def _own_all_blocks(path: str) -> None:
    # LMDB only extends its lock file, which it maps: on a full disk the first touch of a new
    # reader's slot would be a SIGBUS.
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(fd, 0, os.fstat(fd).st_size)
    finally:
        os.close(fd)
