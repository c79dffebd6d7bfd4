"""Files that others may read, replace or swap meanwhile: read without waiting, and replaced at once."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

MOST_BYTES = 16 << 20


def content(
    path: str | os.PathLike[str],
    most_bytes: int = MOST_BYTES,
    *,
    follow: bool = False,
    owner: int | None = None,
) -> bytes:
    """What a regular file holds, up to so many bytes; OSError also for what is none, so that no FIFO is waited for.

    Args:
        follow: read what a link leads to; else a link is an error.
        owner: id of the user whose it must be; None: anybody's.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    with open(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or owner not in (None, found.st_uid):
            raise OSError(0, "it is no regular file", str(path))
        return file.read(most_bytes)


def line_of(path: str) -> str | None:
    """The text of a file of one line, which a link may lead to; None where it cannot be read."""
    with suppress(OSError):
        return content(path, 4096, follow=True).decode("utf-8", "surrogateescape").strip()
    return None


def unfinished(name: str) -> str:
    """Name under which a file is written before it takes its place: always the same one, so that what killed processes
    left does not pile up."""
    return f".{name}.new"


def replace(path: str, data: bytes, *, mode: int | None = 0o644, several: bool = False) -> None:
    """Put `data` in the place of one file, by another one that is renamed: whoever is killed, a reader sees the old one
    or the new one. It may not be on the disk yet: see `durable` for that.

    Args:
        mode: whatever the umask is; None: 0666, and what the umask leaves of it.
        several: processes may do this at the same time, so that each needs a name of its own.

    Raises:
        OSError: it cannot be written; then the old file is still there, and no other.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, unfinished(name) + (f".{os.getpid()}" if several else ""))
    # It may belong to another user, or be a link.
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
    try:
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(data)
        os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
