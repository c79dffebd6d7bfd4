"""The manifest: what lies outside the releases.

First line `sereno installing|upgrading|installed RELEASE`, then `dir - PATH`, `file SHA256 PATH`, `link TARGET PATH`.
Before anything is switched (a first time: staged) it is written with the old lines and the new ones: whatever a kill
leaves there is known as ours.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sereno.errors import Conflict
from sereno.install.changes import link_of
from sereno.install.places import Places


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is written there; `state` and `release` are "" where nothing is installed."""

    state: str = ""
    release: str = ""
    lines: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: str) -> Manifest:
        """Raises OSError when it is there and cannot be read."""
        try:
            first, *lines = Path(path).read_text("utf-8", "surrogateescape").splitlines() or [""]
        except FileNotFoundError:
            return cls()
        _, state, release = (*first.split(" "), "", "", "")[:3]
        return cls(state, release, frozenset(lines))

    @property
    def is_first(self) -> bool:
        """Whether no installation has been done before."""
        return self.state in ("", "installing")

    def text(self) -> str:
        return "\n".join([f"sereno {self.state} {self.release}", *sorted(self.lines)]) + "\n"

    def entries(self, kind: str) -> Iterator[tuple[str, str]]:
        """(hash or target, path) of the lines of one kind."""
        for line in sorted(self.lines):
            if line.startswith(f"{kind} "):
                _, value, path = line.split(" ", 2)
                yield value, path

    def has_file(self, places: Places, path: str) -> bool:
        """Whether the file is there as sereno wrote it."""
        return f"file {hash_of(places.at(path))} {path}" in self.lines


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to lie outside the releases: `files` by path, `links` by path, and the directories that they need."""

    files: Mapping[str, str]
    links: Mapping[str, str]
    directories: tuple[str, ...]


def wanted(places: Places, code: Path, release: str, named: str | None = None) -> Wanted:
    """What the units and files of `code` are, with the release in their text, or what is `named` in its place."""
    units = code / "systemd" / places.scope.name
    files = {path: code / "systemd" / name for path, name in places.system_files().items()}
    if places.is_user:
        files = {}
    # The template comes last: it names the release, so it is what switches the jobs over.
    names = sorted(
        (path.name for path in units.iterdir()), key=lambda name: (name == "sereno@.service", name)
    )
    files |= {f"{places.units}/{name}": units / name for name in names}
    tree = named or f"{places.prefix}/releases/{release}"
    links = places.links(release, sorted(os.listdir(code / "systemd/man")))
    outside = [path for path in links if not path.startswith(f"{places.prefix}/")]
    directories = [*map(os.path.dirname, (*files, *outside, places.switch))]
    if not places.is_user:
        directories.append(os.path.dirname(places.cache))
    return Wanted(
        {path: file.read_text("utf-8").replace("@RELEASE@", tree) for path, file in files.items()},
        links,
        tuple(dict.fromkeys(directories)),
    )


def complete(old: Manifest, new: Wanted, places: Places, release: str) -> Manifest:
    """The manifest of an installation that is done."""
    prefix = places.prefix
    directories = {prefix, f"{prefix}/releases", f"{prefix}/environments"}
    directories |= {path for _, path in old.entries("dir")}
    for path in (*new.directories, os.path.dirname(prefix)):
        while path != "/" and not os.path.isdir(places.at(path)):
            directories.add(path)
            path = os.path.dirname(path)
    lines = {f"dir - {path}" for path in directories}
    lines |= {f"file {_digest(text)} {path}" for path, text in new.files.items()}
    lines |= {f"link {target} {path}" for path, target in new.links.items()}
    return Manifest("installed", release, frozenset(lines))


def refuse_foreign(old: Manifest, new: Wanted, places: Places) -> None:
    """Raise Conflict for what is in the way and not as sereno wrote it."""
    foreign = []
    for path, text in new.files.items():
        there = places.at(path)
        if (
            os.path.lexists(there)
            and hash_of(there) != _digest(text)
            and not old.has_file(places, path)
        ):
            foreign.append(there)
    for path, target in new.links.items():
        there = places.at(path)
        is_ours = link_of(there) == target or f"link {link_of(there)} {path}" in old.lines
        if os.path.lexists(there) and not is_ours:
            foreign.append(there)
    if foreign:
        raise Conflict(
            f"in the way, and not as sereno installed it: {' '.join(foreign)}",
            hint="Nothing was changed. Move it away and run again.\n(A change of your own to a unit"
            f" belongs in a drop-in: {places.scope.command('systemctl edit UNIT')}.)",
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def hash_of(path: str) -> str:
    """SHA-256 of a file's content; "" when there is none to be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""
