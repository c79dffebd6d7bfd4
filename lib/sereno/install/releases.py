"""The releases and the environments below the prefix: directories that are complete when they have a MANIFEST."""

from __future__ import annotations

import ast
import glob
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from sereno.errors import SerenoError
from sereno.install.changes import Changes, ask, cause
from sereno.install.places import Order
from sereno.units.durable import link_of, replace_all

# Where packages are, and how to get there. `user` or `target` would put them elsewhere.
_SETTINGS = re.compile(
    r"^(global|install|:env:)\.(index-url|extra-index-url|no-index|find-links|proxy|cert|client-cert|trusted-host"
    r"|timeout|default-timeout|retries)=(.*)$",
    re.MULTILINE,
)
_NO_OTHERS = {"PIP_QUIET": "0", "PIP_USER": "0", "PIP_GLOBAL": "0", "PIP_SITE": "0"}


def shipped(checkout: Path, scope: str) -> Iterator[str]:
    """The files of a release, without what interpreters, editors and tools leave there, and the other scope's units."""
    other = {"system": "user", "user": "system"}[scope]
    for top in ("bin", "lib", "systemd"):
        for directory, names, files in os.walk(checkout / top):
            names[:] = sorted(name for name in names if not _is_left_by_tools(name))
            if directory == f"{checkout}/systemd":
                names.remove(other)
            for name in sorted(files):
                path = f"{directory}/{name}"
                if not name.startswith(".") and not name.endswith("~") and os.path.isfile(path):
                    yield os.path.relpath(path, checkout)


def _is_left_by_tools(directory: str) -> bool:
    return directory.startswith(".") or directory.endswith(("__pycache__", ".egg-info"))


def choose(order: Order, files: Iterable[str]) -> tuple[str, str]:
    """(release, environment) of a checkout: names that say what is in them; `files` of `order.code` are shipped."""
    home = order.places.home
    lists = sorted((order.code / "lib").glob("requirements*.txt"))
    texts = [order.interpreter.encode(), *(path.read_bytes() for path in lists)]
    environment = _free(f"{home}/environments", _hash(texts))
    package = (order.code / "lib/sereno/__init__.py").read_text("utf-8")
    version = re.search(r'^__version__ = "([A-Za-z0-9.+-]*)"', package, re.MULTILINE)
    texts = [order.places.prefix.encode(), environment.encode()]
    texts += [b"%s\0%s" % (name.encode(), (order.code / name).read_bytes()) for name in files]
    return _free(f"{home}/releases", f"{version[1] if version else 0}-{_hash(texts)}"), environment


def _hash(texts: Iterable[bytes]) -> str:
    digests = b"".join(hashlib.sha256(text).digest() for text in texts)
    return hashlib.sha256(digests).hexdigest()[:12]


def _free(directory: str, name: str) -> str:
    """The first of NAME, NAME.2, NAME.3… that is whole, or not there yet: what was changed since is left alone."""
    found, number = name, 1
    while os.path.exists(f"{directory}/{found}/MANIFEST") and not is_whole(f"{directory}/{found}"):
        number += 1
        found = f"{name}.{number}"
    return found


def is_whole(directory: str) -> bool:
    """Whether all that the MANIFEST lists is there as it was."""
    try:
        lines = Path(directory, "MANIFEST").read_text("utf-8", "surrogateescape").splitlines()
        digests = ((_digest(f"{directory}/{line[66:]}"), line[:64]) for line in lines)
        return bool(lines) and all(there == noted for there, noted in digests)
    except OSError:
        return False


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def seal(order: Order, directory: str) -> None:
    """Write the MANIFEST, which says that the directory is complete; what it lists is on the disk by then."""
    lines = [
        f"{_digest(f'{place}/{name}')}  ./{os.path.relpath(f'{place}/{name}', directory)}\n"
        for place, _, files in os.walk(directory)
        for name in files
        if not place.endswith("/__pycache__") and not os.path.islink(f"{place}/{name}")
    ]
    if order.manager != "staged":
        subprocess.run(["sync", "-f", directory], check=True)
    replace_all(directory, {"MANIFEST": "".join(sorted(lines))})


def sweep(order: Order, changes: Changes) -> None:
    """Remove what killed calls did not complete."""
    for kind in ("releases", "environments"):
        for path in glob.glob(f"{order.places.home}/{kind}/*"):
            if not os.path.exists(f"{path}/MANIFEST"):
                changes.remove_tree(path)


def prune(order: Order, changes: Changes) -> None:
    """The version before stays, for its runs and for going back; older ones go when nothing uses them."""
    home = order.places.home
    releases = glob.glob(f"{home}/releases/*/MANIFEST")
    names = [path.split("/")[-2] for path in sorted(releases, key=os.path.getmtime, reverse=True)]
    old = [f"releases/{name}" for name in names if name != order.release][1:]
    for name in old:
        if not _is_in_use(order, name):
            changes.remove_tree(f"{home}/{name}")
    kept = {link_of(path) for path in glob.glob(f"{home}/releases/*/venv")}
    for path in glob.glob(f"{home}/environments/*"):
        name = f"environments/{os.path.basename(path)}"
        if f"../../{name}" not in kept and not order.dry_run and not _is_in_use(order, name):
            changes.remove_tree(path)


def _is_in_use(order: Order, name: str) -> bool:
    """Whether a process was started from there or has a file of it mapped."""
    words = f"{order.places.prefix}/{name}/".encode()
    if order.manager == "staged":
        return False
    for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/maps"):
        with suppress(OSError):
            if words in Path(path).read_bytes():
                return True
    return False


def pip_settings(order: Order) -> list[str]:
    """What an environment is made by: `NAME=VALUE`, of pip.conf and of PIP_*; the later one holds."""
    # These would choose what is listed; pip.conf may have them for other commands.
    environment = {**os.environ, **_NO_OTHERS}
    environment.pop("PIP_PYTHON", None)
    # install.sh has unpacked it there.
    pip = f"{order.answers}/pip/pip"
    done = ask(sys.executable, "-I", pip, "config", "list", env=environment)
    if done.returncode:
        raise SerenoError(
            f"pip's settings cannot be read: {cause(done).removeprefix('ERROR: ')}",
            hint="See: python3 -m pip config debug",
        )
    found = sorted(
        _SETTINGS.findall(done.stdout),
        key=lambda setting: ("global", "install", ":env:").index(setting[0]),
    )
    return [
        f"PIP_{name.upper().replace('-', '_')}={' '.join(ast.literal_eval(value).split())}"
        for _, name, value in found
    ]
