"""The files of a new cache: made as one directory, put in place by one rename. The caller holds the openers' lock."""

from __future__ import annotations

import os

import lmdb

from sereno.cache import aside, clock, judging
from sereno.cache import board as words
from sereno.cache.board import Board
from sereno.cache.files import Directory, make_directory
from sereno.cache.place import Place
from sereno.cache.store import State, Store, translated
from sereno.cache.write import Write

DEFAULT_MAX_SIZE = 2000
DEFAULT_TTL_MS = 3_600_000


def make(where: Place, top: Directory, map_bytes: int) -> None:
    """Makes the files of an empty cache as the directory `current` in `top`.

    Raises:
        CacheError, OSError: nothing of it is left.
    """
    name = f"new-{os.getpid()}"
    make_directory(name, where.dir_mode, top)
    try:
        _fill(where, Directory(name, top), map_bytes)
        top.rename(name, "current")
    except lmdb.Error as error:
        aside.remove_tree(top, name)
        raise translated(error, os.path.join(top.path, name)) from error
    except BaseException:
        aside.remove_tree(top, name)
        raise


def _fill(where: Place, new: Directory, map_bytes: int) -> None:
    try:
        for name in ("board", "data.mdb", "lock.mdb"):
            fd = new.create(name, where.file_mode)
            try:
                if name == "board":
                    words.fill(fd)
            finally:
                os.close(fd)
        board = Board(os.path.join(new.path, "board"), new.open)
    except BaseException:
        new.close()
        raise
    try:
        store = Store(new, board, in_place=where.in_place, map_bytes=map_bytes)
        try:
            Write(store).run(Write.set_state, State(DEFAULT_MAX_SIZE, DEFAULT_TTL_MS))
            _own_all_blocks(store)
            store.env.close()
            board.words[words.EPOCH_MS] = clock.epoch_ms()
            board.boot_id = clock.boot_id()
            judging.remember_file(board, store.data)
        finally:
            store.close()
    finally:
        board.close()


def _own_all_blocks(store: Store) -> None:
    # LMDB only extends its lock file, which it maps: on a full disk the first touch of a new
    # reader's slot would be a SIGBUS.
    os.posix_fallocate(store.lock, 0, os.fstat(store.lock).st_size)
