"""`Access`: what a run may reach beyond the template's sandbox, as a validated value. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from sereno.errors import InvalidJob

READ_ONLY = "read-only"
HOMES = ("/home", "/root", "/run/user")


@dataclass(frozen=True, slots=True)
class Access:
    """What is let through the sandbox.

    Attributes:
        network: whether the run may use the network.
        home: False: homes are not there; "read-only"; True: they can be written, as far as the run's user may.
        write_paths: absolute paths of files or directories that can be written, as far as the run's user may.
    """

    network: bool = False
    home: bool | str = False
    write_paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.network, bool):
            raise InvalidJob(f"network: {self.network!r} is neither True nor False")
        if not (isinstance(self.home, bool) or self.home == READ_ONLY):
            raise InvalidJob(f"home: {self.home!r} is neither False, {READ_ONLY!r} nor True")
        for path in self.write_paths:
            _check_path(path)
            if not self.home and is_in_a_home(path):
                raise InvalidJob(
                    f"write_paths: {path!r} is in a home, and the sandbox has none",
                    hint=f"home={READ_ONLY!r} besides, and this path alone can be written",
                )


def access_of(
    network: bool,
    home: bool | str,
    write_paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> Access:
    """The access that these arguments of a registration give. Raises `InvalidJob` for what is none."""
    if isinstance(write_paths, (str, os.PathLike)):
        write_paths = (write_paths,)
    if not isinstance(write_paths, Iterable):
        raise InvalidJob(f"write_paths: {write_paths!r} is not a path, nor a list of paths")
    paths = (os.fspath(path) if isinstance(path, os.PathLike) else path for path in write_paths)
    return Access(network, home, tuple(dict.fromkeys(paths)))


def is_in_a_home(path: str) -> bool:
    """Whether the template's ProtectHome= hides that path; links are not followed."""
    return any(path == home or path.startswith(f"{home}/") for home in HOMES)


def _check_path(path: object) -> None:
    # systemd reads no C escapes in this setting, and takes a leading "-", "+" or ":" for its own.
    if (
        not isinstance(path, str)
        or not path.startswith("/")
        or path.startswith("//")
        or not path.isprintable()
        or os.path.normpath(path) != path
    ):
        raise InvalidJob(
            f"write_paths: {path!r} is not the path of a file or directory",
            hint="an absolute path without '..', '//' and control characters",
        )
    if path == "/":
        raise InvalidJob(
            "write_paths: '/' would leave nothing of the sandbox", hint="name the directories"
        )
