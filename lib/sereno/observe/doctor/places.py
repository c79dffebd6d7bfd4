"""What is true of a path, found without opening what could hold the one who asks: a FIFO, a device."""

from __future__ import annotations

import os
import re
from functools import cache
from glob import escape, glob
from itertools import chain
from pathlib import Path

from sereno.observe.doctor.job_facts import Place
from sereno.observe.open_to_others import open_at
from sereno.records.files import content
from sereno.units.reach import entry

# A file system is full when less than this is left, or than a hundredth of it: /run is small.
_LEAST_BYTES, _LEAST_FILES = 64 << 20, 1000
_VENV, _SEES_SYSTEM = "pyvenv.cfg", r"include-system-site-packages *= *true"
_SYSTEM_SITES = ("/usr/lib/python3/dist-packages", "/usr/local/lib/python3*/dist-packages")


def look(path: str) -> Place:
    """The facts of one path."""
    try:
        return _look(path)
    except FileNotFoundError:
        leads_to = os.readlink(path) if os.path.islink(path) else None
        return Place("missing", leads_to=leads_to, open_at=open_at(path))
    except (OSError, ValueError):
        return Place("unknown")


def _look(path: str) -> Place:
    found, of_all = entry(path), os.statvfs(path)
    built_for, runs = _python(path) if found.kind == "file" else ((), None)
    return Place(
        *(found.kind, found.mode, found.uid, found.gid, found.has_access_list, found.gates),
        open_at=open_at(path),
        mount=_mount_of(path),
        is_noexec=bool(of_all.f_flag & os.ST_NOEXEC),
        is_read_only=bool(of_all.f_flag & os.ST_RDONLY),
        lacks=_lacks(of_all),
        interpreter=_interpreter(path) if found.kind == "file" and found.mode & 0o111 else None,
        built_for=built_for,
        runs=runs,
    )


def text_of(path: str | Path, most: int = 1 << 20) -> str:
    return content(path, most, follow=True).decode("utf-8", "surrogateescape")


def _lacks(found: os.statvfs_result) -> str | None:
    if found.f_bfree * found.f_frsize < min(_LEAST_BYTES, found.f_blocks * found.f_frsize / 100):
        return "bytes"
    return "inodes" if found.f_ffree < min(_LEAST_FILES, found.f_files / 100) else None


def _mount_of(path: str) -> str:
    path = os.path.realpath(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def _interpreter(path: str) -> str | None:
    try:
        found = re.match(r"#![ \t]*([^ \t\n]+)", text_of(path, 256))
    except OSError:
        return None
    return found[1] if found else None


def _python(path: str) -> tuple[tuple[str, ...], str | None]:
    """Of an environment's interpreter: the versions whose packages it has, and its own; of another one: its own."""
    runs = re.search(r"/python(\d+\.\d+)$", os.path.realpath(path))
    built_for = (each.parent.name.removeprefix("python") for each in _own_sites(path) or ())
    return tuple(sorted(built_for)), runs[1] if runs else None


def _own_sites(program: str) -> list[Path] | None:
    """Where an environment has its packages; None: the program is no environment's."""
    venv = Path(program).parent.parent
    return list(venv.glob("lib/python*/site-packages")) if (venv / _VENV).is_file() else None


@cache
def sites(program: str) -> tuple[str, ...] | None:
    """Where an interpreter has its packages; None: it cannot be told without running it."""
    found = _own_sites(program)
    if found is None:
        return None
    if re.search(_SEES_SYSTEM, text_of(Path(program).parent.parent / _VENV)):
        found += [each for place in _SYSTEM_SITES for each in Path("/").glob(place[1:])]
    # Those of an editable installation lead anywhere.
    paths = [each.name for site in found for each in site.glob("*.pth")]
    if set(paths) - {"distutils-precedence.pth", "_virtualenv.pth"}:
        return None
    return tuple(map(str, found))


@cache
def module_place(module: str, places: tuple[str, ...]) -> str | None:
    """Where Python finds a module that is in one of these directories: its file, or its package's directory."""
    for place in places:
        whole = os.path.join(place, *module.split("."))
        candidates = chain((whole, f"{whole}.py"), glob(f"{escape(whole)}.*.so"))
        if found := next(filter(os.path.exists, candidates), None):
            return found
    return None
