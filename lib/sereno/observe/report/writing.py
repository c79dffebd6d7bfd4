"""Writing the report: complete, or not at all, and nowhere but where its path leads by nobody else's hand."""

from __future__ import annotations

import os
import stat

from sereno.errors import NotAllowed, SerenoError, UsageError
from sereno.records.replacing import replace

ROOT = 0


def write(path: str, text: str) -> None:
    """Make `text` the content of the file at `path`; who reads it meanwhile sees the old one or the new one.

    Links are followed that root or this user made. Where somebody else could lead the path elsewhere (his link, his
    directory, one that he may write), nothing is written; a directory such as /tmp, where each may move only what is
    his, can be written to.

    Raises:
        NotAllowed, UsageError: it cannot be written there; what was there is as it was.
    """
    content = text.encode("utf-8", "backslashreplace")
    directory = -1
    try:
        *above, name = path.split("/")
        directory = _directory(above, path)
        if not name:
            raise IsADirectoryError(21, os.strerror(21))
        if not _is_written_through(directory, name, content, path):
            _replace(directory, name, content)
    except OSError as error:
        if isinstance(error, SerenoError):
            raise
        kind = NotAllowed if isinstance(error, PermissionError) else UsageError
        raise kind(f"-o: {path}: {error.strerror}", hint="-o - prints it") from None
    finally:
        if directory >= 0:
            os.close(directory)


def _directory(above: list[str], path: str) -> int:
    """Opens the directory, part by part; each has to be safe from others."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    here = os.open("/" if above and not above[0] else ".", flags)
    try:
        _refuse_others(os.fstat(here), path)
        for part in filter(None, above):
            found = _status(here, part)
            is_link = stat.S_ISLNK(found.st_mode)
            if is_link:
                _refuse_others(found, path)
            below = os.open(part, flags if is_link else flags | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
            _refuse_others(os.fstat(here), path)
    except BaseException:
        os.close(here)
        raise
    return here


def _is_written_through(directory: int, name: str, content: bytes, path: str) -> bool:
    """Writes into what is no file: a pipe, a device, a link to one such as /dev/stdout. False: there is none."""
    try:
        found = _status(directory, name)
    except FileNotFoundError:
        return False
    if stat.S_ISREG(found.st_mode) and found.st_uid in (ROOT, os.geteuid()):
        return False
    if not stat.S_ISCHR(found.st_mode):
        _refuse_others(found, path)
    with open(os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory), "wb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UsageError(
                f"-o: {path}: a link to a file", hint="name the file; or -o - prints it"
            )
        file.write(content)
    return True


def _replace(directory: int, name: str, content: bytes) -> None:
    # With the rights that the umask leaves; not through a link that somebody has put there.
    replace(name, content, f".{name}.{os.getpid()}", mode=None, directory=directory)


def _status(directory: int, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=directory, follow_symlinks=False)


def _refuse_others(found: os.stat_result, path: str) -> None:
    others = stat.S_IWOTH | (0 if found.st_gid == os.getegid() else stat.S_IWGRP)
    is_open = found.st_mode & others and not found.st_mode & stat.S_ISVTX
    if found.st_uid not in (ROOT, os.geteuid()) or (is_open and not stat.S_ISLNK(found.st_mode)):
        raise NotAllowed(
            f"-o: {path}: somebody else owns or may write what is on the way to it",
            hint="-o - prints it: with >FILE a shell that has only the rights that are needed writes it",
        )
