"""Files and links of one directory: several files written as one, by rename, all of them or none, and on the disk."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY_PREFIX = ".sereno-new-"
"""What a process that was killed may leave behind begins with it."""


@contextmanager
def locked(directory: str | Path) -> Iterator[None]:
    """Hold the lock of a directory (flock(2)): changes of several processes come one after another."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_all(directory: str, files: Mapping[str, str]) -> None:
    """Write all of `files` ({name: text}), or none of them when one cannot be written (disk full, no rights).

    A reader sees a file's old text or the new one. Durable when it returns. The caller holds a lock on the directory,
    which makes the names of the temporary files nobody else's.

    Args:
        files: a name may have one directory in it, which is made.

    Raises:
        OSError: a file could not be written, and none was; or, with all on the disk, a directory could not be made or a
            file not renamed, and those before it were. No temporary file is left.
    """
    staged = {name: f"{directory}/{TEMPORARY_PREFIX}{n}" for n, name in enumerate(files)}
    try:
        for name, temporary in staged.items():
            _write(temporary, files[name])
        # Only when all are under way: synced one by one, two thousand took four times as long (ext4).
        for temporary in staged.values():
            _sync(temporary)
        changed = {directory}
        for name, temporary in list(staged.items()):
            path = f"{directory}/{name}"
            changed.add(parent := os.path.dirname(path))
            if "/" in name:
                with suppress(FileExistsError):
                    os.mkdir(parent)
            os.replace(temporary, path)
            del staged[name]
        for each in changed:
            _sync(each)
    finally:
        for temporary in staged.values():
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def replace_link(path: str, target: str, *, durable: bool = True) -> None:
    """Make the symbolic link `path`, or make it lead elsewhere; under the same lock, and by default as durable."""
    directory = os.path.dirname(path)
    temporary = f"{directory}/{TEMPORARY_PREFIX}link"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)
    if durable:
        _sync(directory)


def link_of(path: str | Path) -> str | None:
    """What a symbolic link leads to; None: it is none."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def names_in(directory: Path) -> list[str]:
    """The names in a directory in their order; none where there is no directory."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()


def _write(path: str, text: str) -> None:
    with open(path, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        # Begins to write it to the disk and waits for nothing: Python has no sync_file_range(2).
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
