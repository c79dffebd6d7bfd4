"""The facts of the scope's metadata cache. Nothing is created: where there is no cache yet, none is opened.

A cache is opened as by any process, which sets damaged files aside. So its files are looked at before, and what was set
aside, now or earlier, is told. Only names that sereno gives are looked at: there may be others, of anybody's making.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from sereno.errors import CacheError, SerenoError
from sereno.observe.doctor.facts import CacheFacts, Entry

# As systemd/sereno.tmpfiles lays it.
MACHINE_RIGHTS = (0o2770, "root", "sereno")


def cache_facts(is_user: bool) -> CacheFacts | None:
    """That of many hosts, where its URL is set; else the user's own cache, if there is one; or the machine's."""
    from sereno.cache import as_owner, damage
    from sereno.cache.place import MACHINE_DIRECTORY, default_path, server_url

    if server_url():
        return _on_a_server()
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
            told = as_owner.call("sereno.cache.as_owner:look", str(place))
            inside = _entries((f"{place}/{name}", told["inside"][name]) for name in as_owner.INSIDE)
            damaged = tuple(f"{place}/{name}" for name in damage.kept(told["damaged"]))
            error = told["error"] and str(told["error"])
            if told["stats"] is not None:
                stats = as_owner.figures(told["stats"], str(place))
        except CacheError as refused:
            error = refused.message
        except (TypeError, ValueError, LookupError, OverflowError):
            error = "what came from the process that looked is no answer"
    return CacheFacts(
        wanted=None if is_user else MACHINE_RIGHTS,
        directories=_entries((str(path), as_owner.status(str(path))) for path in top),
        inside=inside,
        missing=tuple(str(path) for path in top if not path.exists()),
        damaged=damaged,
        stats=stats,
        error=error,
    )


def _on_a_server() -> CacheFacts:
    from sereno.cache import MetadataCache

    try:
        with MetadataCache() as cache:
            return CacheFacts(server=cache.server(), stats=cache.get_stats())
    except SerenoError as error:
        return CacheFacts(error=str(error))


def _entries(found: Iterable[tuple[str, tuple[int, int, int] | None]]) -> tuple[Entry, ...]:
    from sereno.cache.place import group_name, user_name

    return tuple(
        Entry(path, stat.S_IMODE(mode), user_name(user), group_name(group), stat.S_ISDIR(mode))
        for path, status in found
        if status is not None
        for mode, user, group in [status]
    )
