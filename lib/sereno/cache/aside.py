"""Taking files that nobody can use out of a cache's directory. The caller holds the openers' lock."""

from __future__ import annotations

import errno
import os
import stat
import time

from sereno.cache import place

KEPT = 3
"""Directories of damaged files that stay, the newest, for whoever wants to know what happened."""


def move(current: str, why: str) -> None:
    """Keeps the files in `current` beside it, as `damaged-<time>`, and reports `why`."""
    now, home = time.time(), os.path.dirname(current)
    name = time.strftime("damaged-%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    aside = os.path.join(home, name)
    _rename(current, aside)
    kept = sorted(entry for entry in os.listdir(home) if entry.startswith("damaged-"))
    for old in kept[:-KEPT]:
        remove_tree(os.path.join(home, old))
    _report("cache %s: %s; it starts empty, the old files are in %s", home, why, aside)


def drop(current: str, why: str) -> None:
    """Removes the files in `current`, and reports `why`."""
    gone = os.path.join(os.path.dirname(current), f"new-{os.getpid()}-gone")
    _rename(current, gone)
    remove_tree(gone)
    _report("cache %s: %s; it starts empty", os.path.dirname(current), why)


def sweep(directory: str) -> None:
    """Removes what killed processes were making, or removing."""
    for name in os.listdir(directory):
        if name.startswith("new-"):
            remove_tree(os.path.join(directory, name))


def remove_tree(path: str) -> None:
    """Removes a directory with all that is in it, as far as that can be done."""
    # Loaded here: its import takes as long as half of a cleanup's, which hardly ever needs it.
    from shutil import rmtree

    rmtree(path, ignore_errors=True)


def _rename(current: str, name: str) -> None:
    try:
        os.rename(current, name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # On overlayfs a directory of a lower layer, such as a container's image, stays; its files can go. The board is
        # the first, and without it nobody takes the others for a cache.
        place.make_directory(name, stat.S_IMODE(os.stat(current).st_mode))
        for file in sorted(os.listdir(current)):
            os.rename(os.path.join(current, file), os.path.join(name, file))
        os.rmdir(current)


def _report(text: str, *values: str) -> None:
    import logging

    logging.getLogger("sereno.cache").warning(text, *values)
