"""The changes of one call of install.sh: made, or in a dry run only said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from sereno.errors import SerenoError
from sereno.units.durable import TEMPORARY_PREFIX, link_of, locked, replace_all, replace_link


class Changes:
    """Makes changes one after another.

    Args:
        dry_run: print each, make none.
        goes_on: remember in `failed` what fails, and do the rest; otherwise it is a SerenoError.

    Attributes:
        made: whether there was anything to change.
    """

    def __init__(self, *, dry_run: bool, goes_on: bool = False) -> None:
        self.dry_run = dry_run
        self.goes_on = goes_on
        self.made = False
        self.failed: list[str] = []

    def _make(self, words: str, change: Callable[[], object]) -> None:
        self.made = True
        if self.dry_run:
            print(f"would {words}")
            return
        try:
            change()
        except OSError as error:
            failure = f"{words}: {error.strerror or error}"
            if not self.goes_on:
                raise SerenoError(
                    f"this failed: {failure}",
                    hint="What was installed before still works."
                    " Mend the cause, then run install.sh again.",
                ) from error
            self.failed.append(failure)

    def run(self, *words: str) -> None:
        """Run a command; what it says on standard error is passed on, or is the cause if it fails."""

        def call() -> None:
            done = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                raise ChildProcessError(cause(done))
            print(end=done.stderr, file=sys.stderr)

        self._make(f"run: {' '.join(words)}", call)

    def write(self, files: Mapping[str, str]) -> list[str]:
        """Make these files, {path: text}, those of one directory together; return the paths that were others before."""
        other = [path for path, text in files.items() if _text(path) != text]
        by_directory: dict[str, dict[str, str]] = {}
        for path in other:
            by_directory.setdefault(os.path.dirname(path), {})[os.path.basename(path)] = files[path]
        for directory, texts in by_directory.items():
            paths = " ".join(f"{directory}/{name}" for name in texts)
            with self._locked(directory):
                self._make(f"write: {paths}", partial(replace_all, directory, texts))
        return other

    def make_directory(self, path: str) -> None:
        if not os.path.isdir(path):
            self._make(f"make the directory {path}", lambda: os.makedirs(path))

    def link(self, path: str, target: str) -> None:
        if link_of(path) != target:
            with self._locked(os.path.dirname(path)):
                self._make(f"link: {path} -> {target}", lambda: replace_link(path, target))

    def remove(self, path: str) -> None:
        """Remove a file or a link, if there is one."""
        if os.path.lexists(path):
            self._make(f"remove {path}", lambda: os.unlink(path))

    def remove_tree(self, path: str) -> None:
        """Remove a directory with all that is in it; first what says that it is complete."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                os.unlink(f"{path}/MANIFEST")
            shutil.rmtree(path)

        if os.path.islink(path):
            self.remove(path)
        elif os.path.isdir(path):
            self._make(f"remove {path} and all in it", remove)

    def remove_empty(self, path: str) -> None:
        """Remove a directory, if it is one and has nothing in it."""
        with suppress(OSError):
            if not os.listdir(path):
                self._make(f"remove {path}", lambda: os.rmdir(path))

    def sweep(self, directories: Iterable[str]) -> None:
        """Remove what killed calls were writing there."""
        for directory in sorted({*directories}):
            with suppress(OSError):
                for name in os.listdir(directory):
                    if name.startswith(TEMPORARY_PREFIX):
                        self.remove(f"{directory}/{name}")

    def touch(self, path: str) -> None:
        self._make(f"touch {path}", lambda: os.utime(path))

    @contextmanager
    def _locked(self, directory: str) -> Iterator[None]:
        """Hold the lock that changes of jobs hold as well: the names of temporary files are one call's alone."""
        if self.dry_run:
            yield
            return
        with locked(directory):
            self.sweep([directory])
            yield


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except OSError:
        return None


def ask(*words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What a command that changes nothing says, or one that says itself what it changes."""
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False)


def cause(done: subprocess.CompletedProcess[str]) -> str:
    """Why a command failed: the last line that it said."""
    return done.stderr.strip().rpartition("\n")[2]
