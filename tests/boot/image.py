"""The Debian trees that boot tests run on, two of each release, made once and kept in the test cache.

`fresh` is what a newly set up server has: systemd, dbus, python3, apt; neither python3-venv nor python3-systemd, but
the package lists and the .deb files of these two, so that `apt-get install` works inside without a network.
`prepared` is `fresh` with these two installed, and what some jobs need.

    image.py             makes them now

The key of the cache is the hash of this file, the recipe, and the release. A tree is renamed into place when it is
complete and never written again; machines boot on overlays of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Releases of Debian and what matters here: systemd 252 and Python 3.11; 257 and 3.13; from 260 on, and 3.14.
SUITES = ("bookworm", "trixie", "forky")
ORDINARY = ("bookworm", "trixie")
# SERENO_TEST_SUITES="trixie forky": exactly these releases, each with all tests.
NAMED = tuple(os.environ.get("SERENO_TEST_SUITES", "").split())
LONG = os.environ.get("SERENO_TEST_LONG") == "1"
CHOSEN = NAMED or (SUITES if LONG else ORDINARY)
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "python3",
    "passwd",
    "login",
    "procps",
    "tzdata",
    # Explanations in Spanish, and the manual pages.
    "locales",
    "man-db",
)
# What install.sh adds on a server.
INSTALLED_BY_US = ("python3-venv", "python3-systemd")
# What some jobs need beside it: the driver of a fleet's database.
FOR_JOBS = ("python3-psycopg2",)
DEADLINE_S = 900
# A tree that no run has used for so long is removed.
KEPT_S = 7 * 86_400.0


def cache_directory() -> Path:
    """The folder for what tests download and build; tests/run and this module agree on it."""
    given = os.environ.get("SERENO_TEST_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sereno-tests"


def trees(suite: str, tell: Callable[[str], object]) -> tuple[Path, Path]:
    """(fresh, prepared) of a release, made now if the cache does not hold them, which `tell` is told.

    Raises RuntimeError with the failed command's output.
    """
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    cache = cache_directory()
    home = cache / f"image-{key}-{suite}"
    with _locked(cache / f"trees-{suite}.lock"):
        if not home.is_dir():
            tell(f"\nmaking the trees of Debian {suite} for the boot tests, once: {home}")
            _make(home, suite)
            _remove_unused(cache)
        os.utime(home)
    return home / "fresh", home / "prepared"


def _remove_unused(cache: Path) -> None:
    """Not each tree of another recipe: machines of another checkout may be running on it."""
    for old in [*cache.glob("image-*"), *cache.glob("making-*")]:
        if old.stat().st_mtime < time.time() - KEPT_S:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(home: Path, suite: str) -> None:
    # A directory of this call's own: what a killed call left may still be written to by its mmdebstrap.
    making = Path(tempfile.mkdtemp(prefix="making-", dir=home.parent))
    making.chmod(0o755)
    fresh, prepared = making / "fresh", making / "prepared"
    with tempfile.TemporaryDirectory() as scratch:
        _call(*_mmdebstrap(suite, fresh, _host_sources(suite, Path(scratch))))
    # An empty machine id would make each machine's boot a first boot, which enables every unit it finds.
    (fresh / "etc/machine-id").write_text(f"{uuid4().hex}\n")
    # mmdebstrap leaves these two as they are on this machine.
    (fresh / "etc/hostname").write_text("debian\n")
    # No name can be looked up inside, and that shall be known at once.
    (fresh / "etc/resolv.conf").write_text("")
    _call("cp", "--archive", fresh, prepared)
    _call(
        *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=pipe"),
        *("--private-network", "--timezone=off", "--resolv-conf=off", f"--directory={prepared}"),
        "--setenv=DEBIAN_FRONTEND=noninteractive",
        *("apt-get", "install", "--yes", "--no-install-recommends", *INSTALLED_BY_US, *FOR_JOBS),
    )
    making.rename(home)


def _mmdebstrap(suite: str, tree: Path, sources: list[Path]) -> list[str | Path]:
    apt_get = 'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get'
    packages = " ".join((*INSTALLED_BY_US, *FOR_JOBS))
    download = f"install --yes --download-only --no-install-recommends {packages}"
    return [
        *("mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase"),
        f"--include={','.join(PACKAGES)}",
        *(f"--aptopt={line}" for line in _host_apt_settings()),
        f"--customize-hook={apt_get} clean",
        f"--customize-hook={apt_get} {download}",
        "--skip=cleanup/apt",
        *(suite, tree),
        *sources,
    ]


def _host_sources(suite: str, scratch: Path) -> list[Path]:
    """Debian's entries of this machine's apt sources, for `suite`; none: mmdebstrap's own choice of mirror.

    Only the suites of this machine's own release, renamed: a workstation's third-party and backports entries would
    make another system.
    """
    own = _host_suite()
    suites = {own, f"{own}-updates", f"{own}-security"}
    stanzas, lines = [], []
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        text = path.read_text() if own and path.is_file() else ""
        if path.suffix == ".sources":
            for stanza in re.split(r"\n\s*\n", text):
                named = re.search(r"^Suites:(.*)$", stanza, re.MULTILINE)
                if named and set(named[1].split()) <= suites:
                    renamed = named[0].replace(own, suite)
                    stanzas.append(stanza.replace(named[0], renamed).strip())
        elif path.suffix == ".list":
            for entry in re.findall(r"^deb\s.*$", text, re.MULTILINE):
                found = re.fullmatch(r"(deb\s+(?:\[[^]]*\]\s+)?\S+\s+)(\S+)(.*)", entry)
                if found and found[2] in suites:
                    lines.append(found[1] + found[2].replace(own, suite) + found[3])
    files = []
    for name, entries, between in (
        ("debian.sources", stanzas, "\n\n"),
        ("debian.list", lines, "\n"),
    ):
        if entries:
            file = scratch / name
            file.write_text(between.join(entries) + "\n")
            files.append(file)
    return files


def _host_suite() -> str:
    """The release of Debian that this machine runs; "" on another distribution."""
    system = platform.freedesktop_os_release()
    return system.get("VERSION_CODENAME", "") if system["ID"] == "debian" else ""


def _host_apt_settings() -> list[str]:
    """This machine's proxies and its leniency towards the dates of a mirror that is a snapshot."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    wanted = re.compile(r"Acquire::(?:https?::Proxy|Check-Valid-Until|Check-Date)\b.* \".+\";$")
    return [line for line in dump.splitlines() if wanted.match(line)]


def _call(*argv: str | Path) -> None:
    done = subprocess.run(
        [str(word) for word in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
    )
    if done.returncode:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}:\n{done.stdout[-4000:]}")


def main() -> None:
    """Make the trees of all chosen releases side by side, where machines can be booted: making one mostly waits."""
    # Here: `machine` is no part of the recipe.
    from machine import why_not

    if why_not() is None:
        with ThreadPoolExecutor() as side_by_side:
            for _ in side_by_side.map(lambda suite: trees(suite, print), CHOSEN):
                pass


if __name__ == "__main__":
    main()
