"""`Access`: what a run may reach beyond the template's sandbox, as a validated value; and what a user's manager cannot
make of that sandbox. Pure, but for that."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from sereno.declare.quantities import check_truth
from sereno.errors import InvalidJob

READ_ONLY = "read-only"
PATH_RULE = "an absolute path without '..', '//' and control characters"
HOMES = ("/home", "/root", "/run/user")
# Setting of the kernel, and its value that refuses them: Debian's old patch, the number of them, Ubuntu from 24.04 on.
_REFUSALS = {
    "kernel/unprivileged_userns_clone": "0",
    "user/max_user_namespaces": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",
}


@dataclass(frozen=True, slots=True)
class Access:
    """What is let through the sandbox; each path in `write_paths` is an absolute one."""

    network: bool = False
    home: bool | str = False
    write_paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_truth("network", self.network)
        if not (isinstance(self.home, bool) or self.home == READ_ONLY):
            raise InvalidJob(f"home: {self.home!r} is neither False, {READ_ONLY!r} nor True")
        for path in self.write_paths:
            if not is_absolute(path):
                raise InvalidJob(
                    f"write_paths: {path!r} is not the path of a file or directory", hint=PATH_RULE
                )
            if path == "/":
                raise InvalidJob(
                    "write_paths: '/' would leave nothing of the sandbox",
                    hint="name the directories",
                )
            if not self.home and is_in_a_home(path):
                raise InvalidJob(
                    f"write_paths: {path!r} is in a home, and the sandbox has none",
                    hint=f"home={READ_ONLY!r} besides, and this path alone can be written",
                )


def namespaces_refused(settings: Path = Path("/proc/sys")) -> str | None:
    """The setting by which this machine refuses users namespaces, of which a user's manager builds a sandbox, such as
    "user.max_user_namespaces=0"; None: they may be made."""
    for name, refusing in _REFUSALS.items():
        with suppress(OSError):
            if (settings / name).read_text("ascii").strip() == refusing:
                return f"{name.replace('/', '.')}={refusing}"
    return None


def paths(field: str, given: object) -> tuple[str, ...]:
    """The paths in `given`, one or several, each once; raise `InvalidJob` that names `field` if it is neither."""
    if isinstance(given, (str, os.PathLike)):
        given = (given,)
    if not isinstance(given, Iterable):
        raise InvalidJob(f"{field}: {given!r} is not a path, nor a list of paths")
    found = (os.fspath(path) if isinstance(path, os.PathLike) else path for path in given)
    return tuple(dict.fromkeys(found))


def is_in_a_home(path: str) -> bool:
    """Whether the template's ProtectHome= hides that path; links are not followed."""
    return any(path == home or path.startswith(f"{home}/") for home in HOMES)


def is_absolute(path: object) -> TypeGuard[str]:
    """Whether it is a path as `PATH_RULE` says: systemd reads no C escapes in paths, and wants them normalised."""
    return (
        isinstance(path, str)
        and path.startswith("/")
        and not path.startswith("//")
        and path.isprintable()
        and os.path.normpath(path) == path
    )
