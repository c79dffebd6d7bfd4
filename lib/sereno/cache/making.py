"""The files of a new cache: made as one directory, put in place by one rename. The caller holds the openers' lock."""

from __future__ import annotations

import os

import lmdb

from sereno.cache import aside, clock, judging
from sereno.cache import board as words
from sereno.cache.board import Board
from sereno.cache.files import Directory, held, make_directory
from sereno.cache.store import State, Store, translated
from sereno.cache.write import Write
from sereno.context_manager import closing

DEFAULT_MAX_SIZE = 2000
DEFAULT_TTL_MS = 3_600_000
DEFAULT_MAX_VALUE_BYTES = 64 << 20
"""While a value is written others wait: this one takes a third of a second."""


def make(top: Directory, map_bytes: int) -> None:
    """Makes the files of an empty cache as the directory `current` in `top`.

    Raises:
        CacheError, OSError: nothing of it is left.
    """
    name = f"new-{os.getpid()}"
    make_directory(name, top.dir_mode, top)
    try:
        with Directory(name, top) as new:
            _fill(new, map_bytes)
        top.rename(name, "current")
    except BaseException as error:
        aside.remove_tree(top, name)
        if isinstance(error, lmdb.Error):
            raise translated(error, os.path.join(top.path, name)) from error
        raise


def _fill(new: Directory, map_bytes: int) -> None:
    with held(new.create("board")) as fd:
        words.fill(fd)
    for name in ("data.mdb", "lock.mdb"):
        os.close(new.create(name))
    with (
        closing(Board(new)) as board,
        closing(Store(new, board, map_bytes=map_bytes)) as store,
    ):
        Write(store).run(
            Write.begin, State(DEFAULT_MAX_SIZE, DEFAULT_TTL_MS, None, DEFAULT_MAX_VALUE_BYTES)
        )
        store.reserve()
        store.env.close()
        board.words[words.EPOCH_MS] = clock.epoch_ms()
        board.boot_id = clock.boot_id()
        judging.remember_file(board, store.data)
