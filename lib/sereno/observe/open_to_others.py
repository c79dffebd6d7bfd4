"""Whether somebody else than root or the caller may change what a path leads to. Nothing is opened for it."""

from __future__ import annotations

import os
import stat

_MOST_LINKS = 40


def open_at(path: str) -> str | None:
    """The first path on the way to `path` that somebody else than root or the caller may change; None: none."""
    done, todo, links = "/" if path.startswith("/") else ".", path.split("/"), 0
    while True:
        try:
            found = os.lstat(done)
        except OSError:
            return None
        if stat.S_ISLNK(found.st_mode):
            # Whoever may write its directory may change it, and that one was looked at; in a sticky one its owner may.
            if found.st_uid not in (0, os.geteuid()):
                return done
            links += 1
            target = os.readlink(done)
            todo = target.split("/") + todo
            done = "/" if target.startswith("/") else os.path.dirname(done)
            if links > _MOST_LINKS:
                return None
        elif is_open(found):
            return done
        todo = [part for part in todo if part not in ("", ".")]
        if not todo:
            return None
        part, *todo = todo
        done = os.path.join(done, part)


def is_open(found: os.stat_result) -> bool:
    """Whether somebody else than root or the caller may change what was found."""
    if found.st_uid not in (0, os.geteuid()):
        return True
    writers = found.st_mode & (0o002 if found.st_gid in (0, os.getegid()) else 0o022)
    # In a sticky directory nobody renames what is another's.
    return bool(writers) and not found.st_mode & stat.S_ISVTX
