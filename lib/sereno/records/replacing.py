"""A file written under another name and renamed: whoever is killed, a reader sees the old one or the new one."""

from __future__ import annotations

import os
from contextlib import suppress


def replace(path: str, data: bytes, temporary: str, *, mode: int | None = 0o644) -> None:
    """Put `data` in the place of one file. It may not be on the disk yet: see `durable` for that.

    Args:
        temporary: the other name, in the same directory. Always the same one, so that what killed processes left does
            not pile up. That may belong to another user, or be a link: it is made anew.
        mode: whatever the umask is; None: 0666, and what the umask leaves of it.

    Raises:
        OSError: it cannot be written; then the old file is still there, and no other.
    """
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
