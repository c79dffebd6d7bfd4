"""The way out of an error whose cause is the sandbox of a run, where things fail that work in a terminal.

Judged by what this process can do, not by what its unit says: administrators change units too.
"""

from __future__ import annotations

import os
from errno import EACCES, EAFNOSUPPORT, ENOENT, EPERM, EROFS

from sereno.errors import SerenoError
from sereno.run.failure import chain, one_line

NETWORK = "the sandbox has no network: network=True where the job is added"
NO_HOME = "the run's user has no home: environment={'HOME': '/tmp'} gives it one while it runs, or home=True"
HOMES_HIDDEN = "the sandbox hides homes: home='read-only' or home=True where the job is added"
ROOT = "root without capabilities may no more than any owner of files: user= of who owns it"
# Of getaddrinfo(3), the kernel and C libraries, however a library wraps them.
_NETWORK_WORDS = (
    *("Address family not supported", "Network is unreachable"),
    *("Temporary failure in name resolution", "Name or service not known"),
)
# What ProtectHome= hides.
_HOMES = ("/home", "/root", "/run/user")


def hint_for(exception: BaseException, *, sandboxed: bool) -> str | None:
    """What helps against an exception, in one line; None where nothing is known.

    Not `sandboxed`, the process is no run: then only what the exception says itself.
    """
    for error in chain(exception):
        hint = error.hint if isinstance(error, SerenoError) else None
        if hint is None and sandboxed:
            hint = _of_sandbox(error)
        if hint is not None:
            return one_line(hint)
    return None


def _of_sandbox(error: BaseException) -> str | None:
    if any(words in str(error) for words in _NETWORK_WORDS):
        return NETWORK if _has_no_network() else None
    if not isinstance(error, OSError):
        return None
    path = error.filename if isinstance(error.filename, str) else ""
    if error.errno == EROFS:
        if path.startswith("/.") and os.path.expanduser("~") == "/":
            return NO_HOME
        while len(path) > 1 and not os.path.isdir(path):
            path = os.path.dirname(path)
        path = path if len(path) > 1 else "/var/lib/…"
        return f"the sandbox is read-only there: write_paths=[{path!r}] where the job is added"
    if error.errno in (ENOENT, EACCES) and _is_hidden(path):
        return HOMES_HIDDEN
    if error.errno in (EPERM, EACCES) and os.geteuid() == 0 and _has_no_capabilities():
        return ROOT
    return None


def _has_no_network() -> bool:
    from _socket import AF_INET, SOCK_DGRAM, socket

    try:
        socket(AF_INET, SOCK_DGRAM).close()
    except OSError as error:
        return error.errno == EAFNOSUPPORT
    return False


def _is_hidden(path: str) -> bool:
    """Whether it is in a home, over which the sandbox has put its directory that nobody may enter."""
    homes = [home for home in _HOMES if f"{path}/".startswith(f"{home}/") and os.path.exists(home)]
    return any(os.stat(home).st_mode & 0o777 == 0 for home in homes)


def _has_no_capabilities() -> bool:
    with open("/proc/self/status", "rb") as file:
        return b"\nCapEff:\t0000000000000000\n" in file.read()
