"""The facts of the scope's metadata cache. Nothing is created: where there is no cache yet, none is opened.

A cache is opened as by any process, which sets damaged files aside. So its files are looked at before, and what was set
aside, now or earlier, is told.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from sereno.doctor.facts import CacheFacts, Entry
from sereno.errors import CacheError

# As systemd/sereno.tmpfiles lays it.
MACHINE_RIGHTS = (0o2770, "root", "sereno")
# As `sereno.cache.aside` and `making` name them.
_DATA, _DAMAGED, _NEW = "data.mdb", "damaged-", "new-"


def cache_facts(is_user: bool) -> CacheFacts | None:
    """The user's own cache, if there is one; or the machine's."""
    from sereno.cache.place import MACHINE_DIRECTORY, default_path

    if is_user:
        place = Path(default_path("metadata"))
        if not place.is_dir() or place.is_relative_to(MACHINE_DIRECTORY):
            return None
        top = [place]
    else:
        place = Path(MACHINE_DIRECTORY, "metadata")
        top = [place.parent, place]
    directories = _entries(path for path in top if path.is_dir())
    paths = _in_use(place)
    inside, stats, error = _entries(paths), None, None
    if any(path.name == _DATA for path in paths):
        from sereno.cache import MetadataCache

        try:
            stats = MetadataCache(place).get_stats()
        except CacheError as refused:
            error = refused.message
    return CacheFacts(
        wanted=None if is_user else MACHINE_RIGHTS,
        directories=directories,
        inside=inside,
        missing=tuple(str(path) for path in top if not path.exists()),
        damaged=tuple(map(str, sorted(place.glob(f"{_DAMAGED}*")))),
        stats=stats,
        error=error,
    )


def _in_use(place: Path) -> list[Path]:
    """What is in a cache's directory, but for what was set aside or is being made."""
    if not place.is_dir():
        return []
    # rglob() would take what it may not read for empty; this raises, and the cache counts as not looked at.
    tops = [place / name for name in os.listdir(place) if not name.startswith((_DAMAGED, _NEW))]
    return sorted(path for top in tops for path in (top, *top.rglob("*")))


def _entries(paths: Iterable[Path]) -> tuple[Entry, ...]:
    return tuple(entry for entry in map(_entry, paths) if entry is not None)


def _entry(path: Path) -> Entry | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        # Those who use the cache go on doing so.
        return None
    return Entry(
        str(path),
        stat.S_IMODE(status.st_mode),
        _name(lambda: pwd.getpwuid(status.st_uid).pw_name, status.st_uid),
        _name(lambda: grp.getgrgid(status.st_gid).gr_name, status.st_gid),
        stat.S_ISDIR(status.st_mode),
    )


def _name(ask: Callable[[], str], number: int) -> str:
    try:
        return ask()
    except KeyError:
        return str(number)
