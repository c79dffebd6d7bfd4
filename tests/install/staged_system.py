"""A system image in a directory, and install.sh run on it: whole, or cut off at a chosen call."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RELEASES = "opt/sereno/releases"
ENVIRONMENTS = "opt/sereno/environments"
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
# has begun. In Python the hook below does so, at each system call that changes a path of the image.
CHANGING = (
    "chmod cp find groupdel ln mkdir sed systemctl systemd-sysusers systemd-tmpfiles userdel xargs"
).split()
HOOK = """
import errno, os, signal, sys

def hook(event, arguments):
    if event == "open":
        changes = isinstance(arguments[1], str) and set(arguments[1]) & set("wax")
    else:
        changes = event in (
            "os.mkdir os.remove os.rename os.rmdir os.symlink os.utime shutil.rmtree".split()
        )
    path = arguments[event == "os.symlink"] if changes else ""
    if not str(path).startswith(os.environ["TEST_IMAGE"] + "/"):
        return
    with open(os.environ["TEST_CALLS"], "a+") as calls:
        calls.write(f"{event} {path}\\n")
        calls.seek(0)
        if len(calls.readlines()) != int(os.environ["TEST_STOP_AT"]):
            return
    stop = os.environ["TEST_STOP"]
    if stop != "fail":
        os.killpg(0, signal.SIGKILL if stop == "kill" else signal.SIGINT)
    raise OSError(errno.EIO, os.strerror(errno.EIO), path)

sys.addaudithook(hook)
"""


def let_stop(checkout: Path) -> Path:
    """Let the Python part of a checkout's install.sh obey TEST_STOP_AT as the wrappers do."""
    main = checkout / "lib/sereno/install/__main__.py"
    load = 'import os\nif "TEST_HOOK" in os.environ:\n    exec(os.environ["TEST_HOOK"])\n'
    main.write_text(main.read_text().replace("import os\n", load, 1))
    return checkout


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


def make_light(checkout: Path) -> Path:
    """Leave one dependency: what there are more of costs each environment seconds and proves nothing more."""
    for path in (checkout / "lib").glob("requirements*.txt"):
        text = re.sub(
            r"^(?!cachetools)[a-z-]+==.*(?:\n .*)+\n", "", path.read_text(), flags=re.MULTILINE
        )
        path.write_text(text)
    return checkout


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
        if self.wheels is not None and "--uninstall" not in arguments:
            arguments = ("--wheels", str(self.wheels), *arguments)
        words = [shell, str(checkout / "install.sh"), "--root", str(self.root), *arguments]
        environment = self._environment(stop_at, stop)
        if path is not None:
            environment["PATH"] = f"{path}:{environment['PATH']}"
        environment |= env or {}
        return self._call(words, environment, umask=umask, check=check)

    def commit(
        self, release: str, *, stop_at: int = 0, stop: str = "kill", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """What install.sh does last, once `release` is complete; see `install`."""
        main = self.root / RELEASES / release / "lib/sereno/install/__main__.py"
        told = {
            "root": self.root,
            "prefix": "/opt/sereno",
            "tmp": self.scratch / "tmp",
            "manager": "staged",
            "start": "yes",
            "release": release,
        }
        words = ["/usr/bin/python3", "-I", "-B", str(main), "commit"]
        words += [f"{name}={value}" for name, value in told.items()]
        return self._call(words, self._environment(stop_at, stop), check=check)

    def _environment(self, stop_at: int | None, stop: str) -> dict[str, str]:
        temporary = self.scratch / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "TMPDIR": str(temporary), "LC_ALL": "C.UTF-8"}
        (self.scratch / "calls").write_text("")
        if stop_at is not None:
            environment |= {
                "TEST_HOOK": HOOK,
                "TEST_IMAGE": str(self.root),
                "TEST_CALLS": str(self.scratch / "calls"),
                "TEST_STOP_AT": str(stop_at),
                "TEST_STOP": stop,
                "PATH": f"{self._wrappers()}:{environment['PATH']}",
            }
        return environment

    def _call(
        self, words: list[str], environment: Mapping[str, str], *, umask: int = 0o022, check: bool
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            env={name: value for name, value in environment.items() if value},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            umask=umask,
            timeout=300,
            check=False,
        )
        self.calls = (self.scratch / "calls").read_text().splitlines()
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

    def copy(self, to: Path, *, linked: bool = False) -> Image:
        """The same image in another place; `linked`: the same files too, for whom writes none in place."""
        to.mkdir(exist_ok=True)
        if self.root.exists():
            how = "-al" if linked else "-a"
            subprocess.run(["cp", how, str(self.root), str(to / "image")], check=True)
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


def is_whole(directory: Path) -> bool:
    """Whether a release or an environment is complete, and as it was then."""
    lines = (directory / "MANIFEST").read_text().splitlines()
    return bool(lines) and all(
        hashlib.sha256((directory / line[66:]).read_bytes()).hexdigest() == line[:64]
        for line in lines
    )


def _describe(path: Path) -> str:
    status = path.lstat()
    mode = f"{stat.filemode(status.st_mode)}"
    if path.is_symlink():
        return f"{mode} -> {path.readlink()}"
    if path.is_dir():
        return mode
    return f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
