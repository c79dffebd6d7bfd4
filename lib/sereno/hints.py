"""The way out of an error whose cause is the sandbox of a run, where things fail that work in a terminal.

Judged by what this process can do, not by what its unit says: administrators change units too.
"""

from __future__ import annotations

import os
from os.path import dirname, isdir

from sereno.errors import SerenoError
from sereno.failure import chain, one_line

_EPERM, _ENOENT, _EACCES, _EROFS, _EAFNOSUPPORT = 1, 2, 13, 30, 97
# What ProtectHome= hides.
_HOMES = ("/home", "/root", "/run/user")
# Of getaddrinfo(3), the kernel and C libraries, however a library wraps them.
_NETWORK_WORDS = (
    "Address family not supported",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Network is unreachable",
)
NETWORK = "the sandbox has no network: network=True where the job is added"
NO_HOME = (
    "the run's user has no home: environment={'HOME': '/tmp'} gives it one for the time of the run,"
    " home=True lets those of the machine be seen"
)
HOMES_HIDDEN = 'the sandbox hides homes: home="read-only" or home=True where the job is added'
ROOT = "root without capabilities may no more than any owner of files: user= of who owns it"


def hint_for(exception: BaseException, *, sandboxed: bool) -> str | None:
    """What helps against an exception, in one line; None where nothing is known.

    Args:
        sandboxed: the process is a run; False: only what the exception says itself.
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
    if "attempt to write a readonly database" in str(error):
        return _write_paths("") if os.statvfs("/").f_flag & os.ST_RDONLY else None
    if not isinstance(error, OSError):
        return None
    path = error.filename if isinstance(error.filename, str) else ""
    if error.errno == _EROFS:
        in_no_home = path.startswith("/.") and os.path.expanduser("~") == "/"
        return NO_HOME if in_no_home else _write_paths(path)
    if error.errno in (_ENOENT, _EACCES) and _is_hidden(path):
        return HOMES_HIDDEN
    if error.errno in (_EPERM, _EACCES) and os.geteuid() == 0 and _has_no_capabilities():
        return ROOT
    return None


def _write_paths(path: str) -> str:
    directory = dirname(path)
    while len(directory) > 1 and not isdir(directory):
        directory = dirname(directory)
    example = directory if len(directory) > 1 else "/var/lib/…"
    return f"the sandbox is read-only there: write_paths=[{example!r}] where the job is added"


def _has_no_network() -> bool:
    from _socket import AF_INET, SOCK_DGRAM, socket

    try:
        socket(AF_INET, SOCK_DGRAM).close()
    except OSError as error:
        return error.errno == _EAFNOSUPPORT
    return False


def _is_hidden(path: str) -> bool:
    """Whether the sandbox has put its directory that nobody may enter over the home of `path`."""
    for home in _HOMES:
        if path == home or path.startswith(f"{home}/"):
            try:
                return os.stat(home).st_mode & 0o777 == 0
            except OSError:
                return False
    return False


def _has_no_capabilities() -> bool:
    with open("/proc/self/status", "rb") as file:
        return b"\nCapEff:\t0000000000000000\n" in file.read()
