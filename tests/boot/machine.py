"""A Debian whose systemd is really booted, in a container, for tests of what only a real systemd does.

In a test, take one of the fixtures of conftest.py:

    machine          sereno installed by install.sh; shared by the tests of a module, which clean up after themselves
    blank_machine    python3-venv and python3-systemd are there, sereno is not; of the test's own
    fresh_machine    a new server: install.sh has to bring these two from the package cache; of the test's own

    def test_a_started_job_leaves_a_record(machine):
        machine.run("systemctl", "start", "sereno@cache_cleanup_hourly.service")
        machine.wait_for(lambda: machine.journal("SERENO_JOB=cache_cleanup_hourly"), what="a record of the run")

The checkout (shipped.py) is at /src, the wheels of lib/requirements*.txt are at /wheels, both read-only. There is no
network.
`run` enters the container's namespaces (3 ms) but not its cgroups: use `run_unit` (17 ms) for anything that asks
systemd who it is, for limits and for sandboxes. MemoryMax=, TasksMax= and CPUQuota= are accepted but not enforced where
the host's controllers are on cgroup v1. A boot takes 0.3 to 1 s. Never sleep: `wait_for` polls and, when it gives up,
raises with the end of the journal.

The disk is an overlay on a tmpfs above the layers given, so a machine costs nothing to make and cannot spoil the image.
`reboot` keeps it. All mounts are made in a mount namespace of the test process and are gone with it, however it ends.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import warm
from warm import Warm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Found = TypeVar("Found")

PREFIX = "sereno-test-"
# What ends in a second takes half a minute on a slow machine that does much else.
BOOT_DEADLINE_S = 120.0
STOP_DEADLINE_S = 60.0
CALL_DEADLINE_S = 120.0
WAIT_DEADLINE_S = 60.0
POLL_S = 0.05
LONGEST_POLL_S = 0.5
LEFTOVER_S = 3600.0
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "SYSTEMD_PAGER": "",
    "HOME": "/root",
}
# The root too: started in a chroot, nspawn's container has another than its mount namespace.
NAMESPACES = ("-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w")
CLONE_NEWNS = 0x00020000
# Starts a machine and ends with its status. It outlives the test process, even one ended by SIGKILL, by the time that
# it takes to stop the machine and to remove what else would stay: cgroups, and directories whose mounts are gone.
# Nobody is told of a death before he asked for it: so a parent that is another one by then has died.
# $1: the test process; $2: the machine's directory; $3: its cgroups; $4: the signal that stops it; then its command.
KEEPER = r"""
parent=$1 home=$2 cgroups=$3 signal=$4 child='' told='' status=0
shift 4
trap 'told=1; [ -z "$child" ] || kill -s "$signal" "$child"' TERM
if [ "$PPID" = "$parent" ]; then
    (
        for cgroup in $cgroups; do echo 0 >"$cgroup/cgroup.procs"; done
        exec setpriv --pdeathsig "$signal" -- sh -c '[ "$PPID" = "$0" ] && exec "$@"' $$ "$@"
    ) &
    child=$!
    [ -z "$told" ] || kill -s "$signal" "$child"
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        status=$?
    done
fi
if ! grep -q "^PPid:[[:space:]]*$parent\$" "/proc/$$/status"; then
    umount --lazy "$home/root" "$home"
    rmdir "$home"
    for cgroup in $cgroups; do find "$cgroup" -depth -type d -exec rmdir {} +; done
fi
exit "$status"
"""

_numbers = itertools.count(1)


class BootError(Exception):
    """The container did not come up, or did not go down, in time; the text holds the end of its console."""


class Machine:
    """One container: `start` it, use it, `stop` it (the disk stays), `close` it (the disk goes)."""

    def __init__(self, layers: Sequence[Path], *, binds: Mapping[str, Path] | None = None) -> None:
        """layers: directories that make the disk, the uppermost first; binds: path inside → read-only path outside."""
        self.name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        self._layers = tuple(layers)
        self._binds = dict(binds or {})
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._warm: dict[str, Warm] = {}
        self._making_warm = threading.RLock()
        # Whether calls may be answered by processes that have loaded sereno before; see warm.py.
        self.keeps_warm = True
        self._leader_pid = 0
        self._cgroups = [_cgroup_of(hierarchy, self.name) for hierarchy in cgroup_hierarchies()]
        _own_mount_namespace()
        _sweep()
        self._home = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        atexit.register(self.close)
        _call("mount", "-t", "tmpfs", "-o", "mode=0755", self.name, self._home)
        # What this machine has changed; after `stop`, a layer for other machines.
        self.upper = self._home / "upper"
        self._root = self._home / "root"
        self._console = self._home / "console.log"
        for directory in (self.upper, self._home / "work", self._root):
            directory.mkdir(mode=0o755)
        lower = ":".join(str(layer) for layer in self._layers)
        options = f"lowerdir={lower},upperdir={self.upper},workdir={self._home / 'work'}"
        _call("mount", "-t", "overlay", "-o", options, "overlay", self._root)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> Machine:
        """Boot, and wait until the boot is done (the system is running or degraded). Raises BootError."""
        for cgroup in self._cgroups:
            cgroup.mkdir(exist_ok=True)
        address = self._home / "notify"
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
            self._console.open("ab") as console,
        ):
            notify.bind(str(address))
            self._nspawn = subprocess.Popen(
                self._argv(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={
                    "PATH": ENVIRONMENT["PATH"],
                    "NOTIFY_SOCKET": str(address),
                    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                },
                start_new_session=True,
            )
            try:
                self._await_ready(notify)
            except BaseException:
                self.stop()
                raise
            finally:
                # Left open and unread, its queue fills, and PID 1 stands still in its next notification.
                address.unlink()
        return self

    def _argv(self) -> list[str]:
        binds = [
            f"--bind-ro={_escaped(outside)}:{inside}" for inside, outside in self._binds.items()
        ]
        cgroups = " ".join(str(cgroup) for cgroup in self._cgroups)
        return [
            *keeper(self._home, cgroups, "TERM"),
            *(
                "systemd-nspawn",
                "--quiet",
                "--register=no",
                "--keep-unit",
                f"--directory={self._root}",
                f"--machine={self.name}",
            ),
            *("--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no"),
            *("--console=pipe", "--kill-signal=SIGRTMIN+4", "--notify-ready=yes", *binds, "--boot"),
        ]

    def _await_ready(self, notify: socket.socket) -> None:
        assert self._nspawn
        deadline = time.monotonic() + BOOT_DEADLINE_S
        notify.settimeout(0.2)
        while True:
            try:
                message = notify.recv(4096).decode()
            except TimeoutError:
                message = ""
            for line in message.splitlines():
                if line.startswith("X_NSPAWN_LEADER_PID="):
                    self._leader_pid = int(line.partition("=")[2])
                if line == "READY=1":
                    return
            if self._nspawn.poll() is not None:
                raise BootError(
                    f"systemd-nspawn ended with {self._nspawn.returncode}\n{self.console()}"
                )
            if time.monotonic() > deadline:
                raise BootError(f"no READY=1 within {BOOT_DEADLINE_S:g} s\n{self.console()}")

    def stop(self) -> None:
        """Power off as an administrator would; harmless when stopped. The disk stays, for `start` or as a layer."""
        if self._nspawn is None:
            return
        nspawn, self._nspawn = self._nspawn, None
        self._let_cool()
        try:
            nspawn.terminate()
            nspawn.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise BootError(f"not down within {STOP_DEADLINE_S:g} s\n{self.console()}") from None
        finally:
            self._end(nspawn)

    def crash(self) -> None:
        """Power failure: every process is gone at once, nothing is told; the disk stays as it is at this moment."""
        assert self._nspawn, "not started"
        nspawn, self._nspawn = self._nspawn, None
        os.kill(self._leader_pid, signal.SIGKILL)
        self._let_cool()
        self._end(nspawn)

    def reboot(self) -> None:
        """Power off and boot again on the same disk. As with a real machine the boot id is a new one."""
        self.stop()
        self.start()

    def _end(self, nspawn: subprocess.Popen[bytes]) -> None:
        try:
            nspawn.wait(5)
        except subprocess.TimeoutExpired:
            # Killing nspawn alone would leave the container running.
            if self._leader_pid:
                _kill(self._leader_pid)
            nspawn.kill()
            nspawn.wait()
        self._leader_pid = 0
        for cgroup in self._cgroups:
            _remove_cgroup(cgroup)

    def close(self) -> None:
        """Stop, and give the disk up. Harmless when called again."""
        atexit.unregister(self.close)
        if not self._home.exists():
            return
        try:
            self.stop()
        finally:
            for mounted in (self._root, self._home):
                subprocess.run(["umount", "--lazy", str(mounted)], check=False, capture_output=True)
            self._home.rmdir()

    # --- use ----------------------------------------------------------------------------------------------------------

    def run(
        self,
        *argv: str,
        check: bool = True,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = CALL_DEADLINE_S,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root or as `user` (with that user's HOME and runtime directory); env is added.

        `sereno` as root answers from a process that has loaded it before: see warm.py.

        Raises AssertionError with both outputs when the command fails and `check` is set; subprocess.TimeoutExpired.
        """
        if argv[0] == "sereno" and not (user or env):
            script = "/usr/local/bin/sereno"
            done = self._ask_warm(script, [script, *argv[1:]], None, {}, timeout, input)
            if done:
                return _checked(done, check)
        words, environment = self.command(*argv, user=user, env=env)
        return self._call(words, environment, argv, check, timeout, input)

    def run_python(
        self, interpreter: str, imports: str, code: str, *, env: Mapping[str, str], check: bool
    ) -> subprocess.CompletedProcess[str]:
        """As `run` does `interpreter -c code`; imports: a file of the library that such code loads."""
        done = self._ask_warm(imports, ["-c"], code, env, CALL_DEADLINE_S, None, interpreter)
        return (
            _checked(done, check)
            if done
            else self.run(interpreter, "-c", code, env=env, check=check)
        )

    def _ask_warm(
        self,
        script: str,
        argv: Sequence[str],
        code: str | None,
        env: Mapping[str, str],
        timeout: float,
        input: str | None,
        interpreter: str = "",
    ) -> subprocess.CompletedProcess[str] | None:
        """None: it was not run, and is to be started anew."""
        if not (self.keeps_warm and warm.IS_USED):
            return None
        # Of several threads that call at one time one makes it.
        with self._making_warm:
            if script in self._warm and not self._warm[script].is_ready:
                self._warm.pop(script).close(_kill_below)
            if script not in self._warm:
                words = [interpreter]
                if not interpreter:
                    first = self.run("head", "-n", "1", script, check=False).stdout
                    words = first.removeprefix("#!").split()
                if not words:
                    return None
                argument_vector, environment = self.command(*words, env=env)
                self._warm[script] = Warm(argument_vector, environment, script)
            answering = self._warm[script]
        return answering.call(argv, code, input, timeout)

    def _let_cool(self) -> None:
        while self._warm:
            self._warm.popitem()[1].close(_kill_below)

    def command(
        self, *argv: str, user: str | None = None, env: Mapping[str, str] | None = None
    ) -> tuple[list[str], dict[str, str]]:
        """The argument vector and the environment that run a command inside, for whoever starts it otherwise."""
        assert self._leader_pid, f"{self.name} is not running"
        environment = {**ENVIRONMENT, **(self._environment_of(user) if user else {}), **(env or {})}
        words = ["nsenter", f"--target={self._leader_pid}", *NAMESPACES, "--"]
        if user:
            words += ["runuser", "-u", user, "--"]
        return [*words, *argv], environment

    def run_unit(
        self,
        *argv: str,
        check: bool = True,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        properties: Sequence[str] = (),
        timeout: float = CALL_DEADLINE_S,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Like `run`, but as a transient service in a cgroup of its own, with properties such as "PrivateTmp=yes"."""
        words = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect"]
        words += [f"--uid={user}"] if user else []
        words += [f"--setenv={name}={value}" for name, value in (env or {}).items()]
        words += [f"--property={line}" for line in properties]
        return self.run(*words, "--", *argv, check=check, timeout=timeout, input=input)

    def _call(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        argv: Sequence[str],
        check: bool,
        timeout: float,
        input: str | None,
    ) -> subprocess.CompletedProcess[str]:
        assert self._leader_pid, f"{self.name} is not running"
        with subprocess.Popen(
            words,
            env=dict(environment),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                stdout, stderr = process.communicate(input, timeout)
            except BaseException:
                _kill_below(process)
                raise
        return _checked(
            subprocess.CompletedProcess(argv, process.returncode, stdout, stderr), check
        )

    def _environment_of(self, user: str) -> dict[str, str]:
        for line in self.read("/etc/passwd").splitlines():
            name, _, uid, _, _, home, _ = line.split(":")
            if name == user:
                return {
                    "HOME": home,
                    "USER": user,
                    "LOGNAME": user,
                    "XDG_RUNTIME_DIR": f"/run/user/{uid}",
                }
        raise ValueError(f"{self.name} has no user {user!r}")

    def add_lingering_user(self, name: str) -> None:
        """A user with a home and a manager that is running, as `loginctl enable-linger` leaves it."""
        self.run("useradd", "--create-home", name)
        # As a unit: logind from systemd 257 on refuses callers whose cgroup is not the container's ("Protocol driver
        # not attached").
        self.run_unit("loginctl", "enable-linger", name)
        self.wait_for_manager_of(name)

    def wait_for_manager_of(self, user: str) -> None:
        """Until the user's own manager has started its timers."""
        words = ("systemctl", "--user", "is-active", "timers.target")
        self.wait_for(
            lambda: self.run(*words, user=user, check=False).stdout == "active\n",
            what=f"the manager of {user}",
        )

    # Files go through commands inside: by way of /proc/PID/root an absolute symbolic link would lead to the host's.

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, owned by root, with missing directories above it."""
        self.run("install", "-D", f"--mode={mode:o}", "/dev/stdin", path, input=text)

    def read(self, path: str) -> str:
        """A file's text. Raises AssertionError when it can't be read."""
        return self.run("cat", "--", path).stdout

    def exists(self, path: str) -> bool:
        """Whether there is something at the path, be it a dangling link."""
        return self.run("test", "-e", path, "-o", "-L", path, check=False).returncode == 0

    # --- what administrators do to a machine --------------------------------------------------------------------------

    def put_on_a_mount(self, path: str, *, options: str = "", late_s: float = 0) -> None:
        """From the next boot on, what is at `path` is on a file system of its own, which is mounted there.

        Args:
            options: of fstab, such as "nofail"; without it everything of the boot waits for local file systems.
            late_s: how much later it comes; then nothing waits for it by itself, as with "nofail".
        """
        stored = f"/data{path}"
        self.run("mkdir", "--parents", stored)
        self.run("sh", "-c", f"cp -a {path}/. {stored} && rm -rf {path}/*")
        unit = self.run("systemd-escape", "--path", "--suffix=mount", path).stdout.strip()
        if not late_s:
            fstab = self.read("/etc/fstab") if self.exists("/etc/fstab") else ""
            chosen = ",".join(["bind", *([options] if options else [])])
            self.write("/etc/fstab", f"{fstab}{stored} {path} none {chosen} 0 0\n")
            return
        self.write(
            "/etc/systemd/system/late-disk.service",
            "[Unit]\nDefaultDependencies=no\n"
            f"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep {late_s}\n",
        )
        self.write(
            f"/etc/systemd/system/{unit}",
            "[Unit]\nDefaultDependencies=no\nRequires=late-disk.service\nAfter=late-disk.service\n"
            f"[Mount]\nWhat={stored}\nWhere={path}\nType=none\nOptions=bind\n"
            "[Install]\nWantedBy=multi-user.target\n",
        )
        self.run("systemctl", "enable", unit)

    def boot_first(self, machine_id: str | None = None) -> None:
        """Power off, and boot as a clone of this disk does: with this text in /etc/machine-id; None: without it."""
        self.run("rm", "--force", "/etc/machine-id", "/var/lib/dbus/machine-id")
        if machine_id is not None:
            self.write("/etc/machine-id", machine_id)
        self.reboot()

    # --- systemd ------------------------------------------------------------------------------------------------------

    def journal(self, *matches: str, unit: str | None = None) -> list[dict[str, Any]]:
        """The records of all boots that match (`FIELD=value`), oldest first, each with all of its fields."""
        self.run("journalctl", "--sync")
        chosen = [*([f"--unit={unit}"] if unit else []), *matches]
        text = self.run("journalctl", "--output=json", "--all", "--no-pager", *chosen).stdout
        return [json.loads(line) for line in text.splitlines()]

    def journal_text(self, *arguments: str, lines: int = 40) -> str:
        """The end of the journal as people read it, for messages of failed tests."""
        self.run("journalctl", "--sync", check=False)
        words = (
            "journalctl",
            "--no-pager",
            "--output=short-precise",
            f"--lines={lines}",
            *arguments,
        )
        return self.run(*words, check=False).stdout

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """`systemctl show`: the properties named, or all."""
        chosen = [f"--property={','.join(properties)}"] if properties else []
        text = self.run("systemctl", "show", *chosen, "--", unit).stdout
        pairs = (line.partition("=") for line in text.splitlines())
        return {name: value for name, _, value in pairs}

    def list_timers(self) -> list[dict[str, Any]]:
        """`systemctl list-timers --all`; `next` and `last` are microseconds of the wall clock, or None."""
        timers: list[dict[str, Any]] = json.loads(
            self.run("systemctl", "list-timers", "--all", "--output=json").stdout
        )
        return timers

    def wait_for(
        self, predicate: Callable[[], Found], *, deadline_s: float = WAIT_DEADLINE_S, what: str
    ) -> Found:
        """The first true value of `predicate`. At the deadline: AssertionError with `what` and the journal's end."""
        begin = time.monotonic()
        while True:
            found = predicate()
            if found:
                return found
            waited_s = time.monotonic() - begin
            if waited_s > deadline_s:
                raise AssertionError(f"not within {deadline_s:g} s: {what}\n{self.journal_text()}")
            # A question costs some 20 ms of CPU. What takes long is asked for less often.
            time.sleep(min(POLL_S + waited_s / 10, LONGEST_POLL_S))

    def console(self, lines: int = 60) -> str:
        """The end of what the machine wrote on its console since it was made."""
        text = self._console.read_text(errors="replace") if self._console.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    @property
    def running(self) -> bool:
        """Started, and not yet stopped."""
        return self._leader_pid != 0


def _checked(
    done: subprocess.CompletedProcess[str], check: bool
) -> subprocess.CompletedProcess[str]:
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(done.args)} ended with {done.returncode}\n"
            f"stdout: {done.stdout[-4000:]}\nstderr: {done.stderr[-4000:]}"
        )
    return done


def keeper(home: Path, cgroups: str, stop_signal: str) -> list[str]:
    """The words before the command of a machine; see KEEPER."""
    words = ["setpriv", "--pdeathsig", "TERM", "--", "/bin/sh", "-c", KEEPER, "sh"]
    return [*words, str(os.getpid()), str(home), cgroups, stop_signal]


def why_not() -> str | None:
    """Why no machine can be booted here, in words for the person who ran the tests; None when it can."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    if not _may_mount():
        return "booting a systemd needs the right to mount (CAP_SYS_ADMIN), which this container does not give"
    for command, package in (("systemd-nspawn", "systemd-container"), ("mmdebstrap", "mmdebstrap")):
        if not any((Path(place) / command).exists() for place in ENVIRONMENT["PATH"].split(":")):
            return f"booting a systemd needs {command} (package {package})"
    return None


def _may_mount() -> bool:
    capabilities = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff:")
    )
    return bool(int(capabilities.split()[1], 16) >> 21 & 1)


_has_own_mounts = False


def _own_mount_namespace() -> None:
    """Mounts of this process and its children vanish with the last of them; those of the host still show up here."""
    global _has_own_mounts
    if _has_own_mounts:
        return
    libc = ctypes.CDLL(None, use_errno=True)  # os.unshare exists from Python 3.12 on
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    _call("mount", "--make-rslave", "/")
    _has_own_mounts = True


def cgroup_hierarchies() -> list[Path]:
    """Those that a systemd uses for its units: two on a hybrid host, one otherwise."""
    top = Path("/sys/fs/cgroup")
    named = [
        top / name for name in ("systemd", "unified") if (top / name / "cgroup.procs").exists()
    ]
    return named or [top]


def _cgroup_of(hierarchy: Path, name: str) -> Path:
    # Machines that share a cgroup share its `payload` too: of seven second boots two never became ready.
    return hierarchy / name


def _remove_cgroup(top: Path) -> None:
    """The tree of an ended container; it stays busy for a moment."""
    deadline = time.monotonic() + 5
    while top.exists():
        try:
            for directory, _, _ in os.walk(top, topdown=False):
                os.rmdir(directory)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)


def _sweep() -> None:
    """Remove the empty directories that test processes left when they were killed; their mounts went with them.

    Only old ones: a process id that is not there may be that of a living process in another container.
    """
    for place in (*cgroup_hierarchies(), Path(tempfile.gettempdir())):
        for left in place.glob(f"{PREFIX}*"):
            pid = left.name.removeprefix(PREFIX).partition("-")[0]
            try:
                if (
                    left.stat().st_mtime < time.time() - LEFTOVER_S
                    and not Path("/proc", pid).exists()
                ):
                    for directory, _, _ in os.walk(left, topdown=False):
                        os.rmdir(directory)
            except OSError:
                pass  # in use after all, or removed by another test process at this moment


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _kill_below(nsenter: subprocess.Popen[Any]) -> None:
    """End what nsenter started, then what that left behind.

    Not nsenter first: its child would go on, or be a zombie that waits for the host's init, and a machine does not go
    down before every process in it is gone.
    """
    children = Path(f"/proc/{nsenter.pid}/task/{nsenter.pid}/children").read_text().split()
    for child in children:
        _kill(int(child))
    try:
        nsenter.wait(5)
        os.killpg(nsenter.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except subprocess.TimeoutExpired:
        nsenter.kill()


def _escaped(path: Path) -> str:
    return str(path.resolve()).replace("\\", "\\\\").replace(":", "\\:")


def _call(*argv: str | Path) -> None:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, argv))}: {done.stderr.strip()}")
