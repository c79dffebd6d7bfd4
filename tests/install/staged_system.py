"""A system image in a directory, and install.sh run on it: whole, or cut off at a chosen call."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RELEASES = "opt/sereno/releases"
TEMPLATE = "etc/systemd/system/sereno@.service"
TIMER = "etc/systemd/system/sereno@cache_cleanup_hourly.timer"
TARGET_LINK = "etc/systemd/system/timers.target.wants/sereno.target"
# A system's own, for an image.
ACCOUNTS = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "group": "root:x:0:\n",
    "shadow": "root:*:20000:0:99999:7:::\n",
    "gshadow": "root:*::\n",
}
# The commands with which install.sh changes a system. The wrapper of each counts the calls that name the image, and
# at the chosen one fails, or kills install.sh with all its children, or interrupts them as ^C does, before the command
# has begun.
CHANGING = (
    "chmod cp find groupdel ln mkdir mv rm rmdir sed systemctl systemd-sysusers systemd-tmpfiles"
    " userdel xargs"
).split()
WRAPPER = """\
#!/bin/sh
case "$*" in
    *is-enabled* | *@RELEASE@* | *" -perm "* | *" -printf "*) ;;
    *"$TEST_IMAGE"*)
        printf '%s\\n' "${0##*/} $*" >>"$TEST_CALLS"
        if [ "$(wc -l <"$TEST_CALLS")" -eq "$TEST_STOP_AT" ]; then
            case $TEST_STOP in
                kill) kill -KILL 0 ;;
                interrupt) kill -INT 0 ;;
            esac
            exit 1
        fi
        ;;
esac
PATH=${PATH#*:}
exec "${0##*/}" "$@"
"""


def make_newer(checkout: Path) -> Path:
    """Change a checkout as a new version does: code, a changed unit, a new unit, and one that is gone."""
    package = checkout / "lib/sereno/__init__.py"
    text = package.read_text("utf-8")
    version = next(line for line in text.splitlines() if line.startswith("__version__"))
    package.write_text(text.replace(version, '__version__ = "99.0"'), "utf-8")
    units = checkout / "systemd/system"
    with (units / "sereno.target").open("a", encoding="utf-8") as target:
        target.write("# Changed in this version.\n")
    (units / "sereno-new.slice").write_text("[Unit]\nDescription=New in this version\n", "utf-8")
    return checkout


@dataclass
class Image:
    """A system image in the directory `root`.

    Attributes:
        scratch: directory for what must not lie in the image: temporary files, wrappers, the record of calls.
        calls: the changing commands of the last call of `install` that was counted.
    """

    root: Path
    scratch: Path
    wheels: Path | None = None
    calls: list[str] = field(default_factory=list)

    def install(
        self,
        checkout: Path,
        *arguments: str,
        stop_at: int | None = None,
        stop: str = "kill",
        shell: str = "sh",
        path: str | None = None,
        env: Mapping[str, str] | None = None,
        umask: int = 0o022,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run `checkout`/install.sh --root on this image.

        Args:
            arguments: further options.
            stop_at: number of the changing command at which it is stopped; 0: count only; None: not even that.
            stop: "kill", "interrupt" or "fail".
            shell: the shell that interprets it.
            path: directory to put before PATH.
            env: added to the environment; an empty value takes the variable away.
            check: raise when it does not end with 0.
        """
        temporary = self.scratch / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "TMPDIR": str(temporary),
            "LC_ALL": "C.UTF-8",
            "TEST_IMAGE": str(self.root),
        }
        record = self.scratch / "calls"
        record.write_text("")
        if stop_at is not None:
            path = str(self._wrappers())
            environment |= {
                "TEST_CALLS": str(record),
                "TEST_STOP_AT": str(stop_at),
                "TEST_STOP": stop,
            }
        if path is not None:
            environment["PATH"] = f"{path}:{environment['PATH']}"
        environment |= env or {}
        environment = {name: value for name, value in environment.items() if value}
        if self.wheels is not None and "--uninstall" not in arguments:
            arguments = ("--wheels", str(self.wheels), *arguments)
        done = subprocess.run(
            [shell, str(checkout / "install.sh"), "--root", str(self.root), *arguments],
            capture_output=True,
            text=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            umask=umask,
            timeout=300,
            check=False,
        )
        self.calls = record.read_text().splitlines()
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def _wrappers(self) -> Path:
        directory = self.scratch / "wrappers"
        if not directory.exists():
            directory.mkdir(parents=True)
            for name in CHANGING:
                (directory / name).write_text(WRAPPER)
                (directory / name).chmod(0o755)
        return directory

    def copy(self, to: Path) -> Image:
        """The same image in another place."""
        if self.root.exists():
            subprocess.run(["cp", "-a", str(self.root), str(to / "image")], check=True)
        return Image(to / "image", to / "scratch", self.wheels)

    def read(self, path: str) -> str:
        return (self.root / path).read_text("utf-8")

    def current(self) -> str:
        """Name of the release that people's commands use."""
        return (self.root / "opt/sereno/current").readlink().name

    def listing(self, *, code: bool = True) -> dict[str, str]:
        """Every path with its type, mode and content (hashed).

        Args:
            code: False: without byte code and what user management leaves beside its files.
        """
        found = {}
        for directory, names, files in os.walk(self.root):
            for name in (*names, *files):
                path = Path(directory, name)
                relative = str(path.relative_to(self.root))
                if code or not relative.endswith((".pyc", "-", ".pwd.lock")):
                    found[relative] = _describe(path)
        return found


def _describe(path: Path) -> str:
    status = path.lstat()
    mode = f"{stat.filemode(status.st_mode)}"
    if path.is_symlink():
        return f"{mode} -> {path.readlink()}"
    if path.is_dir():
        return mode
    return f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
