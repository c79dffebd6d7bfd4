"""Taking files that nobody can use out of a cache's directory. The caller holds the openers' lock."""

from __future__ import annotations

import errno
import os
import stat
import time

from sereno.cache.files import Directory, make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST_AT_ONCE = 20_000
"""Files that one opening removes; whoever may write the directory can put any number there."""

KEPT = 3
"""Directories of damaged files that stay, the newest, for whoever wants to know what happened."""


def move(top: Directory, why: str) -> None:
    """Keeps the files in `current` beside it, as `damaged-<time>`, and reports `why`."""
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
    """Removes the files in `current`, and reports `why`."""
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
        top.rename("current", name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # On overlayfs a directory of a lower layer, such as a container's image, stays; its files can go. The board is
        # the first, and without it nobody takes the others for a cache.
        make_directory(name, stat.S_IMODE(top.status("current").st_mode), top)
        for file in sorted(os.listdir(os.path.join(top.path, "current"))):
            top.rename(f"current/{file}", f"{name}/{file}")
        os.rmdir("current", dir_fd=top.fd)


def report(text: str, *values: str) -> None:
    import logging

    logging.getLogger("sereno.cache").warning(text, *values)
