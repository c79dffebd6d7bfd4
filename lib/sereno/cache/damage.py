"""Judging a cache's files before they are used, and taking those that nobody can use out of the way.

LMDB trusts its file and may crash on a damaged one. So where there is reason to, its structure is walked through
without it. The caller holds the openers' lock.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time

import lmdb

from sereno.cache import board as words
from sereno.cache.board import CURRENT, DEATH_IN_A_WRITE, Board
from sereno.cache.directory import MARK, Directory, held, make_directory, only_these
from sereno.cache.entry import Damaged
from sereno.cache.store import MAP_BYTES, MAX_READERS
from sereno.cache.values import Superseded
from sereno.context_manager import closing, contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TOLERATED_DEATHS = 3 * DEATH_IN_A_WRITE
"""Deaths beside living processes before the file is checked: a worker that was killed is no sign of damage, one that
dies again and again may be. Without living processes the first one inside a write is reason enough."""

_UNREACHABLE = 1 << 62

FORMAT_OF_CURRENT = 2
"""Up to this one the directory was called `current`, whatever the format."""


def check_structure(current: Directory, board: Board, alive: int) -> None:
    """Walks through the store's file without mapping it, where there is reason to; raises Damaged."""
    header = board.words
    deaths = header[words.DEATHS]
    remembered = header[words.STORE_BYTES], header[words.STORE_MTIME_NS]
    with held(current.open("data.mdb")) as data:
        found = os.fstat(data)
        if remembered[0]:
            is_as_left = (found.st_size, found.st_mtime_ns) == remembered
        else:
            is_as_left = _is_as_begun(data, found.st_size, header[words.LAST_WRITE])
        most = TOLERATED_DEATHS if alive else DEATH_IN_A_WRITE
        if deaths < most and (alive or is_as_left):
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


def _is_as_begun(data: int, size_bytes: int, last_write: int) -> bool:
    """Is a file that was not closed the one of which that was the last transaction, committed or not, and whole?

    By LMDB's two meta pages (MDB_meta in mdb.c, on 64 bits).
    """
    try:
        (page_bytes,) = struct.unpack("<I", os.pread(data, 4, 40))
        metas = [struct.unpack("<QQ", os.pread(data, 16, at + 136)) for at in (0, page_bytes)]
    except struct.error:
        return False
    last_page, transaction = max(metas, key=lambda meta: meta[1])
    return transaction - last_write in (0, -1) and size_bytes >= (last_page + 1) * page_bytes


def check_words(board: Board, last_sequence: int) -> None:
    """Raises Damaged where the board's words cannot be what sereno wrote; nobody else has it open."""
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


def format_of(name: str) -> int:
    """The format of the files in a directory of that name; 0: it is none of a cache."""
    if name == "current":
        return FORMAT_OF_CURRENT
    number = name.removeprefix("format-")
    return int(number) if number != name and number.isascii() and number.isdigit() else 0


def supersede(fd: int) -> bool:
    """Has those who have a board of an older format open read it no more; False where that was done before.

    Up to format 2 they say that another sereno is needed, later ones find nothing stored. What this writes has stood at
    the same place in all formats.
    """
    format_word = struct.pack("<Q", words.FORMAT)
    if os.pread(fd, 8, 8) == format_word:
        return False
    os.pwrite(fd, struct.pack("<Q", 1), words.RETIRED * 8)
    os.pwrite(fd, b"\xff" * (words.GENERATIONS * 8), words.HEADER_BYTES)
    os.pwrite(fd, format_word, 8)
    return True


def supersede_older(top: Directory) -> None:
    """Empties the files of older formats; raises Superseded where it is this format that is older."""
    for name in os.listdir(top.fd):
        number = format_of(name)
        if number > words.FORMAT:
            raise Superseded(
                f"cache {top.path}: a newer sereno uses it (format {number}, this one has {words.FORMAT})",
                hint="restart what still runs the older one",
            )
        if not 0 < number < words.FORMAT:
            continue
        with Directory(name, top) as older:
            try:
                with held(older.open("board")) as fd:
                    is_new = supersede(fd)
            except FileNotFoundError:
                continue
            if is_new:
                for file in ("data.mdb", "lock.mdb", MARK, "reserve"):
                    try:
                        os.unlink(file, dir_fd=older.fd)
                    except FileNotFoundError:
                        pass
                report("cache %s: an older sereno wrote %s; it starts empty", top.path, name)


MOST_AT_ONCE = 20_000
"""Files that one opening removes; whoever may write the directory can put any number there."""

KEPT = 3
"""Directories of damaged files that stay, the newest, for whoever wants to know what happened."""


def move(top: Directory, why: str) -> None:
    """Keeps the files in use beside it, as `damaged-<time>`, and reports `why`."""
    now = time.time()
    name = time.strftime("damaged-%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    _rename(top, name)
    for old in sorted(each for each in os.listdir(top.fd) if each.startswith("damaged-"))[:-KEPT]:
        remove_tree(top, old)
    aside = os.path.join(top.path, name)
    report("cache %s: %s; it starts empty, the old files are in %s", top.path, why, aside)


def kept(names: Iterable[str]) -> list[str]:
    """Which of a directory's names `move` gave, the newest last."""
    import re

    return sorted(filter(re.compile(r"damaged-\d{8}T\d{6}\.\d{6}Z").fullmatch, names))[-KEPT:]


def drop(top: Directory, why: str) -> None:
    """Removes the files in use, and reports `why`."""
    gone = f"new-{os.getpid()}-gone"
    _rename(top, gone)
    remove_tree(top, gone)
    report("cache %s: %s; it starts empty", top.path, why)


def sweep(top: Directory) -> None:
    """Removes what killed processes were making, or removing."""
    for name in os.listdir(top.fd):
        if name.startswith("new-"):
            remove_tree(top, name)


def remove_tree(top: Directory, name: str) -> None:
    """Removes a file or a directory with all that is in it, as far as that can be done.

    However deep it is: its directories come up to `top` one after the other. What is left of many files goes at one of
    the next times.
    """
    waiting, removed = [name], 0
    while waiting and removed < MOST_AT_ONCE:
        each = waiting.pop()
        try:
            fd = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top.fd)
        except NotADirectoryError:
            _try(os.unlink, each, dir_fd=top.fd)
            continue
        except OSError:
            continue
        try:
            for entry in os.listdir(fd)[: MOST_AT_ONCE - removed]:
                removed += 1
                if not _try(os.unlink, entry, dir_fd=fd):
                    moved = f"new-{os.getpid()}-{removed}"
                    if _try(os.rename, entry, moved, src_dir_fd=fd, dst_dir_fd=top.fd):
                        waiting.append(moved)
        finally:
            os.close(fd)
        _try(os.rmdir, each, dir_fd=top.fd)


def _try(action: Callable[..., None], *arguments: str, **descriptors: int) -> bool:
    try:
        action(*arguments, **descriptors)
    except OSError:
        return False
    return True


def _rename(top: Directory, name: str) -> None:
    try:
        top.rename(CURRENT, name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # On overlayfs a directory of a lower layer, such as a container's image, stays; its files can go. The board is
        # the first, and without it nobody takes the others for a cache.
        make_directory(name, stat.S_IMODE(top.status(CURRENT).st_mode), top)
        for file in sorted(os.listdir(os.path.join(top.path, CURRENT))):
            top.rename(f"{CURRENT}/{file}", f"{name}/{file}")
        os.rmdir(CURRENT, dir_fd=top.fd)


def report(text: str, *values: str) -> None:
    import logging

    logging.getLogger("sereno.cache").warning(text, *values)
