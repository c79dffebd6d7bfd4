"""Whom the modes of code keep out. What has an access list of its own (acl(5)) keeps nobody out, as far as is known."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Account = tuple[int, Set[int | None]]
# What a run does with what its code is in, on the way to it, and with the code itself. A directory where Python looks
# is listed, too: else it finds no module there and says no more than that.
RIGHTS = {"gate": (0o1, "x", "enter"), "directory": (0o5, "rx", "list"), "file": (0o4, "r", "read")}


@dataclass(frozen=True, slots=True)
class Entry:
    """What a path leads to, links followed; mode, uid and gid as stat(2) has them, the mode without the kind."""

    # "file", "directory", "missing", "other" (a FIFO, a device); "unknown": the caller may not look.
    kind: str = "missing"
    mode: int = 0
    uid: int = 0
    gid: int = 0
    has_access_list: bool = False  # rights that its mode does not show
    # (path, mode, uid, gid) of the directories on the way that are not open to all, and have no such list.
    gates: tuple[tuple[str, int, int, int], ...] = ()


def entry(path: str) -> Entry:
    """The facts of a path. Raises OSError where there is nothing, or the caller may not look."""
    found = os.stat(path)
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory"}.get(
        stat.S_IFMT(found.st_mode), "other"
    )
    rights = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    return Entry(kind, *rights, _has_access_list(path), _gates(path))


def _gates(path: str) -> tuple[tuple[str, int, int, int], ...]:
    found = []
    for directory in {*Path(path).parents, *Path(os.path.realpath(path)).parents}:
        status, place = directory.stat(), str(directory)
        if not (status.st_mode & 0o001 or _has_access_list(place)):
            found.append((place, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid))
    return tuple(sorted(found))


def _has_access_list(path: str) -> bool:
    with suppress(OSError):
        return "system.posix_acl_access" in os.listxattr(path)
    return False


def account(name: str) -> tuple[int, frozenset[int]] | None:
    """A user's number, and those of its groups; None: there is no such user."""
    try:
        found = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        return None
    return found.pw_uid, frozenset(os.getgrouplist(found.pw_name, found.pw_gid))


def group(name: str) -> int | None:
    """A group's number; None: there is no such group."""
    with suppress(KeyError):
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    return None


def closed(
    code: Mapping[str, Entry], user: Account, executed: str | None = None
) -> tuple[str, str, int, int] | None:
    """The first on the way to its code, or of that, which a user may not enter, list or read; None: it may all.

    Args:
        code: what a run loads, and where Python looks, by path.
        executed: of these what need not be read.

    Returns:
        Its path, which of `RIGHTS` is missing, and the uid and gid that it belongs to.
    """
    listed = {path for path, one in code.items() if one.kind == "directory"}
    for path, one in code.items():
        needs = [(gate, "directory" if gate[0] in listed else "gate") for gate in one.gates]
        if one.kind in RIGHTS and not one.has_access_list and path != executed:
            needs.append(((path, one.mode, one.uid, one.gid), one.kind))
        for (asked, mode, uid, gid), kind in needs:
            if not may(user, RIGHTS[kind][0], mode, uid, gid):
                return asked, kind, uid, gid
    return None


def may(user: Account, wanted: int, mode: int, uid: int, gid: int) -> bool:
    """Whether a mode gives the user the bits `wanted`. In its sandbox root has no more rights than others."""
    return mode >> shift(user, uid, gid) & wanted == wanted


def shift(user: Account, uid: int, gid: int) -> int:
    """Where the bits of a mode stand that hold for the user: the owner's, the group's or those of others."""
    return 6 if uid == user[0] else 3 if gid in user[1] else 0
