"""The facts of the scope's metadata cache. Nothing is created: where there is no cache yet, none is opened.

A cache is opened as by any process, which sets damaged files aside. So its files are looked at before, and what was set
aside, now or earlier, is told. Only names that sereno gives are looked at: there may be others, of anybody's making.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sereno.doctor.facts import CacheFacts, Entry
from sereno.errors import CacheError

# As systemd/sereno.tmpfiles lays it.
MACHINE_RIGHTS = (0o2770, "root", "sereno")
# As `sereno.cache.opening` and `aside` name them.
_DATA = "current/data.mdb"
_INSIDE = ("current", "current/board", _DATA, "current/lock.mdb", "current/synced", "open.lock")
_DAMAGED = re.compile(r"damaged-\d{8}T\d{6}\.\d{6}Z")
_MOST_DAMAGED = 3


def cache_facts(is_user: bool) -> CacheFacts | None:
    """The user's own cache, if there is one; or the machine's."""
    from sereno.cache import as_owner
    from sereno.cache.place import MACHINE_DIRECTORY, default_path

    if is_user:
        place = Path(default_path("metadata"))
        if not place.is_dir() or place.is_relative_to(MACHINE_DIRECTORY):
            return None
        top = [place]
    else:
        place = Path(MACHINE_DIRECTORY, "metadata")
        top = [place.parent, place]
    inside: tuple[Entry, ...] = ()
    damaged: tuple[str, ...] = ()
    stats, error = None, None
    if os.path.isdir(place):
        try:
            told = as_owner.call("sereno.doctor.cache:look", str(place))
            inside = _entries((f"{place}/{name}", told["inside"][name]) for name in _INSIDE)
            names = [name for name in told["damaged"] if _DAMAGED.fullmatch(name)]
            damaged = tuple(f"{place}/{name}" for name in names[-_MOST_DAMAGED:])
            error = told["error"] and str(told["error"])
            if told["stats"] is not None:
                stats = as_owner.figures(told["stats"], str(place))
        except CacheError as refused:
            error = refused.message
        except (TypeError, ValueError, LookupError, OverflowError):
            error = "what came from the process that looked is no answer"
    return CacheFacts(
        wanted=None if is_user else MACHINE_RIGHTS,
        directories=_entries((str(path), _status(path)) for path in top),
        inside=inside,
        missing=tuple(str(path) for path in top if not path.exists()),
        damaged=damaged,
        stats=stats,
        error=error,
    )


def look(path: str) -> dict[str, Any]:
    """What only who may use the cache in that directory can tell of it, as JSON can hold it."""
    from sereno.cache import as_owner

    inside = {name: _status(Path(path, name)) for name in _INSIDE}
    stats, error = None, None
    if inside[_DATA]:
        try:
            stats = as_owner.method(path, "get_stats")
        except CacheError as refused:
            error = refused.message
    found = sorted(filter(_DAMAGED.fullmatch, os.listdir(path)))
    return {"inside": inside, "stats": stats, "error": error, "damaged": found[-_MOST_DAMAGED:]}


def _status(path: Path) -> tuple[int, int, int] | None:
    """Mode, user and group, also of a link; None: those who use the cache go on doing so, and it is gone."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_mode, found.st_uid, found.st_gid


def _entries(found: Iterable[tuple[str, tuple[int, int, int] | None]]) -> tuple[Entry, ...]:
    return tuple(_entry(path, *status) for path, status in found if status is not None)


def _entry(path: str, mode: int, user: int, group: int) -> Entry:
    return Entry(
        path,
        stat.S_IMODE(mode),
        _name(lambda: pwd.getpwuid(user).pw_name, user),
        _name(lambda: grp.getgrgid(group).gr_name, group),
        stat.S_ISDIR(mode),
    )


def _name(ask: Callable[[], str], number: int) -> str:
    try:
        return ask()
    except KeyError:
        return str(number)
