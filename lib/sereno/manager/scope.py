"""The two scopes, system and user, as the directories that systemd reads in each. Pure, but for `others`."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sereno.errors import NotAvailable, UsageError, in_scope

SYSTEM_UNITS = "etc/systemd/system"
USER_UNITS = "systemd/user"


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a manager has its files (systemd.unit(5), "Unit File Load Path"; systemd.timer(5), `Persistent=`).

    Attributes:
        name: "system" or "user".
        units: where generated units go; the administrator's own directory, which wins over the others.
        search: every directory that may hold sereno's hand-written units.
        stamps: where systemd keeps the last elapse of persistent timers.
        runtime: unit files that live until the next boot.
    """

    name: str
    units: Path
    search: tuple[Path, ...]
    stamps: Path
    runtime: Path

    @property
    def is_user(self) -> bool:
        return self.name == "user"

    def command(self, words: str) -> str:
        """See `in_scope`."""
        return in_scope(words, user=self.is_user)

    @property
    def fleet_url(self) -> Path:
        """File with the URL of the database by which jobs run once in a fleet."""
        return self.units.parents[1] / "sereno/fleet.url"

    @property
    def state(self) -> Path:
        """Files of sereno's own that live until the next boot."""
        return self.runtime.parents[1] / "sereno"


def of_this_process(name: str | None, *, root: Path | None = None) -> Scope:
    """`choose` for this process."""
    return choose(name, root=root, euid=os.geteuid(), environ=os.environ)


def choose(name: str | None, *, root: Path | None, euid: int, environ: Mapping[str, str]) -> Scope:
    """The scope called `name`; None means system for root, user for everybody else.

    Args:
        root: directory of a staged system, or None for this machine.
        euid: effective user id of the caller.
        environ: the caller's environment (XDG directories).

    Raises:
        UsageError: another name, or the user scope with a root.
        NotAvailable: the user scope without a home directory.
    """
    if name is None:
        name = "system" if euid == 0 or root is not None else "user"
    if name == "system":
        return _system(root or Path("/"))
    if name != "user":
        raise UsageError(f"scope: {name!r} is neither 'system' nor 'user'")
    if root is not None:
        raise UsageError("root: only the system scope can be staged", hint="leave --user away")
    return _user(environ, euid)


def others(scope: Scope) -> Iterator[tuple[str, Path]]:
    """Where the machine's other scopes have generated units, each by its user: those of the managers that run without
    anybody's login, or at this moment."""
    if scope.is_user:
        yield "root", Path("/", SYSTEM_UNITS)
        return
    running = (_user_name(uid) for uid in _names("/run/user"))
    for name in sorted({*_names("/var/lib/systemd/linger"), *running}):
        with suppress(KeyError):
            yield name, Path(pwd.getpwnam(name).pw_dir, ".config", USER_UNITS)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _user_name(uid: str) -> str:
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except (KeyError, ValueError):
        return ""


def _system(root: Path) -> Scope:
    return Scope(
        name="system",
        units=root / SYSTEM_UNITS,
        search=tuple(
            root / place / "systemd/system" for place in ("etc", "usr/local/lib", "usr/lib", "lib")
        ),
        stamps=root / "var/lib/systemd/timers",
        runtime=root / "run/systemd/system",
    )


def _user(environ: Mapping[str, str], euid: int) -> Scope:
    home = environ.get("HOME") or os.path.expanduser("~")
    if not home.startswith("/"):
        raise NotAvailable("HOME: the user scope needs a home directory, and there is none")

    config = xdg(environ, "XDG_CONFIG_HOME", Path(home, ".config"))
    data = xdg(environ, "XDG_DATA_HOME", Path(home, ".local/share"))
    runtime = xdg(environ, "XDG_RUNTIME_DIR", Path(f"/run/user/{euid}"))
    return Scope(
        name="user",
        units=config / USER_UNITS,
        search=tuple(
            Path(place, USER_UNITS)
            for place in (config, data, "/etc", "/usr/local/lib", "/usr/lib")
        ),
        stamps=data / "systemd/timers",
        runtime=runtime / USER_UNITS,
    )


def xdg(environ: Mapping[str, str], variable: str, default: Path) -> Path:
    """A directory of the XDG base directory specification, which says that relative paths are to be ignored."""
    value = environ.get(variable, "")
    return Path(value) if value.startswith("/") else default
