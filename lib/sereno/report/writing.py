"""Writing the report: complete, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress

from sereno.errors import NotAllowed, UsageError


def write(path: str, text: str) -> None:
    """Make `text` the content of the file at `path`; who reads it meanwhile sees the old one or the new one.

    Raises:
        NotAllowed, UsageError: it cannot be written there; what was there is as it was.
    """
    target = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}")
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            # A pipe or a device such as /dev/stdout: a file in its place is not what was meant.
            with open(target, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return
        # "x", with the rights that the umask leaves; not through a link that somebody has put there.
        with open(temporary, "x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.replace(temporary, target)
    except OSError as error:
        if not isinstance(error, FileExistsError):
            with suppress(OSError):
                os.unlink(temporary)
        kind = NotAllowed if isinstance(error, PermissionError) else UsageError
        raise kind(f"-o: {path}: {error.strerror}", hint="-o - prints it") from None
