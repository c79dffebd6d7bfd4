"""The facts of the scope's metadata cache. Nothing is created: where there is no cache yet, none is opened."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

from sereno.doctor.facts import CacheFacts, Entry
from sereno.errors import CacheError

# As systemd/sereno.tmpfiles lays it.
MACHINE_RIGHTS = (0o2770, "root", "sereno")
_DATA = "data.mdb"


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
    directories = [path for path in top if path.is_dir()]
    inside: list[Path] = []
    if place.is_dir():
        # rglob() would take what it may not read for empty; this raises, and the cache counts as not looked at.
        os.listdir(place)
        inside = sorted(place.rglob("*"))
    stats, error = None, None
    if any(path.name == _DATA for path in inside):
        from sereno.cache import MetadataCache

        try:
            stats = MetadataCache(place).get_stats()
        except CacheError as refused:
            error = refused.message
    return CacheFacts(
        wanted=None if is_user else MACHINE_RIGHTS,
        directories=tuple(map(_entry, directories)),
        inside=tuple(map(_entry, inside)),
        missing=tuple(str(path) for path in top if not path.exists()),
        stats=stats,
        error=error,
    )


def _entry(path: Path) -> Entry:
    status = path.stat()
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
