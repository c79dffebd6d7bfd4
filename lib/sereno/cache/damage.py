"""Judging a cache's files before they are used: whether LMDB may be let at them.

LMDB trusts its file and may crash on a damaged one. So where there is reason to, its structure is walked through
without it.
"""

from __future__ import annotations

import os

import lmdb

from sereno.cache import board as words
from sereno.cache.board import Board
from sereno.cache.entry import Damaged
from sereno.cache.files import Directory, held, only_these
from sereno.cache.store import MAP_BYTES, MAX_READERS
from sereno.context_manager import closing, contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

TOLERATED_DEATHS = 3
"""Deaths beside living processes before the file is checked: a worker that was killed is no sign of damage, one that
dies again and again may be. Without living processes the first one is reason enough."""

_UNREACHABLE = 1 << 62


def check_structure(current: Directory, board: Board, alive: int) -> None:
    """Walks through the store's file without mapping it, where there is reason to.

    Raises:
        Damaged: with the first thing found.
    """
    header = board.words
    deaths = header[words.DEATHS]
    remembered = header[words.STORE_BYTES], header[words.STORE_MTIME_NS]
    with held(current.open("data.mdb")) as data:
        found = os.fstat(data)
        is_as_left = not deaths and (found.st_size, found.st_mtime_ns) == remembered
        if (deaths < TOLERATED_DEATHS) if alive else is_as_left:
            return
        from contextlib import nullcontext

        # The walk takes the file's size before it reads the meta page: a file that grew in between
        # looks cut off, but not three times.
        for _ in range(3 if alive else 1):
            with _pages_held(current, data) if alive else nullcontext():
                problems = _problems(data)
            if not problems:
                break
    if problems:
        raise Damaged(f"{problems[0]} ({len(problems)} findings)")
    header[words.DEATHS] = 0


def check_words(board: Board, last_sequence: int) -> None:
    """Looks whether the board's words can be what sereno wrote; nobody else has it open.

    Raises:
        Damaged: a number is larger than counting can make it, or behind the store.
    """
    counted = [*board.words[words.NEXT_SEQUENCE : words.BOOT_ID], *board.totals().values()]
    if max(counted) >= _UNREACHABLE:
        raise Damaged("the board counts further than anything can count")
    if board.words[words.NEXT_SEQUENCE] <= last_sequence:
        raise Damaged("the board is behind the store")


@contextmanager
def _pages_held(current: Directory, data: int) -> Iterator[None]:
    """While this lasts, living writers use no page again that the walk may meet.

    A read transaction does that. To begin one LMDB looks at the two meta pages, which it checks, and at no other.
    """
    with held(current.open("lock.mdb")) as lock:
        with only_these(current, data, lock) as path:
            env = lmdb.open(
                path, map_size=MAP_BYTES, readonly=True, create=False, max_readers=MAX_READERS
            )
        with closing(env), env.begin():
            yield


def _problems(data: int) -> list[str]:
    """What py-lmdb's own checker finds; pages that are merely lost to the file are none of it."""
    from lmdb import verify

    try:
        found: list[str] = verify.verify(f"/proc/self/fd/{data}", subdir=False)  # type: ignore[no-untyped-call]
    except verify.VerifyError as error:
        return [str(error)]
    return [text for text in found if "leak" not in text]


def remember_file(board: Board, data: int) -> None:
    """Notes what the store's file looks like at a clean end."""
    found = os.fstat(data)
    board.words[words.STORE_BYTES] = found.st_size
    board.words[words.STORE_MTIME_NS] = found.st_mtime_ns
