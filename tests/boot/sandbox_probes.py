"""What a process finds around it, a function for each row of the table in docs/sandbox.md.

Runs inside the machine: as a job of its name, and outside of any sandbox as `python3 sandbox_probes.py NAME…`.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
ADDR_NO_RANDOMIZE, UNKNOWN_PERSONALITY = 0x0040000, 0xFFFFFFFF
IPC_KEY = 4711
ORIGIN = 0x08048000


def said(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns, "done" for nothing, or the name of its error."""
    try:
        found = function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done" if found is None else found


def called(name: str, *arguments: int) -> str:
    return "done" if getattr(LIBC, name)(*arguments) != -1 else errno.errorcode[ctypes.get_errno()]


def network() -> list[str]:
    """Services of this machine: by TCP, and by Unix sockets with a path and without."""
    return [
        said(_connect, socket.AF_INET, ("127.0.0.1", 4711)),
        said(_connect, socket.AF_UNIX, "/srv/unix"),
        said(_connect, socket.AF_UNIX, "\0of-a-test"),
    ]


def _connect(family: int, address: Any) -> None:
    with socket.socket(family) as connection:
        connection.connect(address)


def _write(path: str) -> None:
    Path(path).expanduser().write_text("x")


def homes() -> Any:
    """As a user with a home."""
    return [said(os.listdir, "/home"), said(_write, "~/state")]


def writing() -> Any:
    return said(_write, "/srv/open/out")


def moving() -> Any:
    """Between two directories, and in place of a file that is named itself."""
    for path in ("/srv/writable/one", "/srv/writable/two"):
        _write(path)
    return [
        said(os.rename, "/srv/writable/one", "/srv/setgid/one"),
        said(os.replace, "/srv/writable/two", "/srv/setgid/named"),
    ]


def temporary() -> Any:
    return [sorted({*os.listdir("/tmp")} & {"of-others"}), said(_write, "/var/tmp/mine")]


def shared_memory() -> Any:
    return sorted({*os.listdir("/dev/shm")} & {"of-others"})


def queues() -> str:
    return called("msgget", IPC_KEY, 0)


def processes() -> Any:
    """Process 1 is root's."""
    return [os.path.exists("/proc/1"), said(os.kill, 1, 0)]


def owners() -> Any:
    """/srv/open is the user games'."""
    return os.stat("/srv/open").st_uid


def setgid() -> Any:
    """A setgid directory, made by its mode and below another one."""
    made = Path("/srv/setgid/made")
    made.mkdir(exist_ok=True)
    inherited = bool(made.stat().st_mode & 0o2000)
    return [said(os.chmod, "/srv/writable", 0o2770), inherited]


def chown() -> Any:
    """To itself, which changes nothing."""
    return said(os.chown, "/srv/writable", os.getuid(), os.getgid())


def set_user_id() -> str:
    """/srv/setuid-id is id(1), set-user-ID root."""
    done = subprocess.run(["/srv/setuid-id", "-u"], capture_output=True, check=True)
    return "root" if int(done.stdout) == 0 else "itself"


def umask() -> str:
    mask = os.umask(0o022)
    os.umask(mask)
    return f"{mask:04o}"


def directory() -> str:
    return os.getcwd()


def devices() -> bool:
    return os.path.exists("/dev/net")


def debugging() -> str:
    """Asks to be traced by its parent, in a child that may end as such."""
    child = os.fork()
    if not child:
        os._exit(LIBC.ptrace(0, 0, 0, 0) != 0)
    return "done" if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else "EPERM"


def namespaces() -> str:
    child = os.fork()
    if not child:
        os._exit(LIBC.unshare(0x10000000) != 0)
    return "done" if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else "EPERM"


def other_architecture() -> str:
    """A program of x86's 32 bits that does nothing but end."""
    program = Path("/tmp/ends")
    header = b"\x7fELF\1\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIIIIIHHHHHH", 2, 3, 1, ORIGIN + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0
    )
    segment = struct.pack("<8I", 1, 0, ORIGIN, ORIGIN, 96, 96, 5, 4096)
    program.write_bytes(header + segment + bytes.fromhex("b801000000bb00000000cd80"))
    program.chmod(0o700)
    ended = subprocess.run([program]).returncode
    program.unlink()
    return signal.Signals(-ended).name if ended < 0 else "done"


def personality() -> str:
    before = LIBC.personality(UNKNOWN_PERSONALITY)
    return called("personality", before ^ ADDR_NO_RANDOMIZE)


def left_behind() -> int:
    """Starts a process that is to outlast this one; the test looks for it."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(["sleep", "600"], start_new_session=True, **quiet).pid


def kernel_settings() -> Any:
    """As root."""
    return said(_open_to_write, "/proc/sys/net/ipv4/ip_forward")


def _open_to_write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def rights_of_root() -> Any:
    """As root: another user's file that is closed to all others."""
    return said(Path("/srv/of-games").read_text)


def unpacking() -> int:
    """As root: an archive with a file of the user games."""
    words = ["tar", "--extract", "--file=/srv/archive.tar", "--directory=/tmp"]
    return subprocess.run(words, capture_output=True).returncode


# --- what is true of all runs -----------------------------------------------------------------------------------------


def writable() -> list[str]:
    """What this process may open for writing of the kernel's own files; nothing is written."""
    found = []
    for top in ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi", "/sys"):
        for folder, _, names in os.walk(top):
            found += [
                path
                for path in (f"{folder}/{name}" for name in names)
                if not os.path.islink(path) and said(_open_to_write, path) == "done"
            ]
    return found


# Numbers of x86-64, or of the calls that came with one number for all architectures.
FORBIDDEN = {
    **{
        "mount": 165,
        "umount2": 166,
        "swapon": 167,
        "reboot": 169,
        "sethostname": 170,
        "init_module": 175,
    },
    **{
        "settimeofday": 164,
        "clock_settime": 227,
        "kexec_load": 246,
        "bpf": 321,
        "ptrace": 101,
        "iopl": 172,
    },
    **{"setns": 308, "chroot": 161, "pivot_root": 155, "add_key": 248, "syslog": 103, "acct": 163},
    **{"open_tree": 428, "fsopen": 430, "fsmount": 432, "move_mount": 429},
}


def forbidden() -> list[str]:
    """The calls that are not refused, of those that no job is to make."""
    return [
        name
        for name, number in FORBIDDEN.items()
        if LIBC.syscall(number, -1, 0, 0, 0, 0) != -1 or ctypes.get_errno() != errno.EPERM
    ]


def stepping_back() -> dict[str, Any]:
    """A process may leave others the way."""
    idle_io = 3 << 13
    return {
        "nice": said(os.setpriority, os.PRIO_PROCESS, 0, 10),
        "ionice": "done" if LIBC.syscall(251, 1, 0, idle_io) == 0 else "refused",
        "taskset": said(os.sched_setaffinity, 0, {min(os.sched_getaffinity(0))}),
        "chrt --batch": said(os.sched_setscheduler, 0, os.SCHED_BATCH, os.sched_param(0)),
        "chrt --rr": said(os.sched_setscheduler, 0, os.SCHED_RR, os.sched_param(1)),
        "before others": said(os.setpriority, os.PRIO_PROCESS, 0, -5),
    }


def account() -> dict[str, Any]:
    import grp
    import pwd

    made = Path("/srv/open/made")
    made.unlink(missing_ok=True)
    said(_write, str(made))
    found = made.stat()
    return {
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "group": grp.getgrgid(os.getgid()).gr_name,
        "made": [grp.getgrgid(found.st_gid).gr_name, f"{found.st_mode & 0o777:04o}"],
        "reads": said(Path("/srv/of-readers").read_text),
        "directory": os.getcwd(),
    }


def shares_the_cache() -> Any:
    """By the interpreter of sereno itself, which has what the cache needs."""
    code = (
        "import os\nfrom sereno import get_metadata_cache\ncache = get_metadata_cache()\n"
        "cache.set(f'of {os.getuid()}', 'well')\nprint(cache.path, cache.get('of 0'))"
    )
    words = ["/opt/sereno/current/venv/bin/python", "-c", code]
    return subprocess.run(words, capture_output=True, check=True, text=True).stdout


def writes(paths: list[str]) -> dict[str, Any]:
    """As a job."""
    return {f"number {number}": said(_write, path) for number, path in enumerate(paths)}


def shared_memory_bytes() -> list[int]:
    """Of the machine, and what may be written to /dev/shm."""
    there = os.statvfs("/dev/shm")
    return [
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        there.f_blocks * there.f_frsize,
    ]


def waits() -> None:
    Path("/tmp/secret").write_text("of the temporary files")
    (Path(os.environ["CREDENTIALS_DIRECTORY"]) / "token").read_text()
    signal.pause()


def attacks(pid: int, outside: int) -> dict[str, Any]:
    """What a run can do to another one, whose process is `pid`, and to a process of no run."""
    root = Path(f"/proc/{pid}/root")
    return {
        "environment": said(Path(f"/proc/{pid}/environ").read_text),
        "memory": said(Path(f"/proc/{pid}/mem").open),
        "memory of no run": said(Path(f"/proc/{outside}/mem").open),
        "files": said((root / "tmp/secret").read_text),
        "credential": said((root / "run/credentials/sereno@victim.service/token").read_text),
        "slowed": said(os.setpriority, os.PRIO_PROCESS, pid, 19),
        "ended": said(os.kill, pid, signal.SIGKILL),
        "ended, of no run": said(os.kill, outside, signal.SIGKILL),
    }


def main(names: list[str]) -> None:
    json.dump({name: globals()[name]() for name in names}, sys.stdout)


def all_of(names: list[str]) -> dict[str, Any]:
    """As a job."""
    return {name: globals()[name]() for name in names}


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main(sys.argv[1:])
