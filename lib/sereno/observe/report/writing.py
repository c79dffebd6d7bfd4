"""Writing the report: complete, or not at all, and nowhere but where its path leads by nobody else's hand."""

from __future__ import annotations

import os
import stat

from sereno.errors import NotAllowed, SerenoError, UsageError
from sereno.observe.open_to_others import is_open, open_at
from sereno.records.files import replace


def write(path: str, text: str) -> None:
    """Make `text` the content of the file at `path`; who reads it meanwhile sees the old one or the new one.

    Links are followed that root or this user made. Where somebody else could lead the path elsewhere (his link, his
    directory, one that he may write), nothing is written; a directory such as /tmp, where each may move only what is
    his, can be written to. What nobody else may change stays as it was looked at.

    Raises:
        NotAllowed, UsageError: it cannot be written there; what was there is as it was.
    """
    content = text.encode("utf-8", "backslashreplace")
    directory, name = os.path.split(path)
    try:
        if not name:
            raise IsADirectoryError(21, os.strerror(21))
        if open_at(directory or ".") is not None:
            raise _refusal(path)
        if not _is_written_through(path, content):
            # With the rights that the umask leaves.
            replace(path, content, mode=None, several=True)
    except OSError as error:
        if isinstance(error, SerenoError):
            raise
        kind = NotAllowed if isinstance(error, PermissionError) else UsageError
        raise kind(f"-o: {path}: {error.strerror}", hint="-o - prints it") from None


def _is_written_through(path: str, content: bytes) -> bool:
    """Writes into what is no file: a pipe, a device, a link to one such as /dev/stdout. False: there is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if stat.S_ISREG(found.st_mode) and found.st_uid in (0, os.geteuid()):
        return False
    is_link = stat.S_ISLNK(found.st_mode)
    is_others = found.st_uid not in (0, os.geteuid()) if is_link else is_open(found)
    if is_others and not stat.S_ISCHR(found.st_mode):
        raise _refusal(path)
    with open(os.open(path, os.O_WRONLY | os.O_CLOEXEC), "wb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UsageError(
                f"-o: {path}: a link to a file", hint="name the file; or -o - prints it"
            )
        file.write(content)
    return True


def _refusal(path: str) -> NotAllowed:
    return NotAllowed(
        f"-o: {path}: somebody else owns or may write what is on the way to it",
        hint="-o - prints it: with >FILE a shell that has only the rights that are needed writes it",
    )
