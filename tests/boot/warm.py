"""A Python in a machine that has loaded what a call needs, and forks for each call in place of being started anew.

Of the CPU time of `sereno list`, two thirds are an interpreter's start and its imports, and the boot tests make a
thousand such calls. A call is a process of its own all the same: it runs the installed code, and ends as any other.
The forking process itself only imports: what the calls before have imported, those of earlier machines at its start, as
long as those files are what they were. Whatever is in doubt (another user, a variable, an interpreter that does not
start) is started anew by the caller; so is every call in the long run.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

IS_USED = os.environ.get("SERENO_TEST_LONG") != "1"
START_DEADLINE_S = 30.0
MOST_BYTES = 65_536
# Its standard input is a socket of packets. A call: {"argv", "code"} with standard input, output and error; the answer:
# [status, names of modules that it imported], or "stale". Its arguments: the script of all calls, whose modules are
# beside it, or what "-c" imports; then names of modules to begin with.
SERVER = r"""
import atexit, gc, importlib, json, os, socket, sys, time, types
import threading  # the end of each call looks for threads

def state(path):
    status = os.stat(path)
    return status.st_mtime_ns, status.st_ino, status.st_size

def loaded():
    files = {name: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())}
    return {name: file for name, file in files.items() if file.startswith(("/usr/", "/opt/sereno/"))}

def is_stale():
    try:
        return any(state(file) != was for file, was in known.items())
    except OSError:
        return True

def load(names):
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(script))) + "/lib")
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    sys.path[:] = path
    known.update((file, state(file)) for file in {*loaded().values()} - {*known})
    gc.freeze()

script = sys.argv[1]
path = [*sys.path]
# An environment whose packages come or go is another one.
known = {file: state(file) for file in (script, sys.prefix + "/lib")}
load(sys.argv[2:])
calls = socket.socket(fileno=os.dup(0))
os.dup2(os.open("/dev/null", os.O_RDWR), 0)
calls.send(b"ready")
while True:
    message, fds, _, _ = socket.recv_fds(calls, 65536, 3)
    if not message:
        os._exit(0)
    if is_stale():
        calls.send(b'"stale"')
        os._exit(0)
    learnt, tell = os.pipe()
    if not (pid := os.fork()):
        break
    for fd in (*fds, tell):
        os.close(fd)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    # Of a call that did not end as a Python does there is nothing to read, and a process that it left may hold the end.
    os.set_blocking(learnt, False)
    try:
        names = os.read(learnt, 65536).decode().split()
    except BlockingIOError:
        names = []
    os.close(learnt)
    calls.send(json.dumps([status, names]).encode())
    load(names)

calls.close()
for number, fd in enumerate(fds):
    os.dup2(fd, number)
    os.close(fd)
own_pid, before = os.getpid(), {*sys.modules}

@atexit.register
def tell_what_was_imported():
    if os.getpid() == own_pid:
        os.write(tell, " ".join(loaded().keys() - before).encode())

# As at a start: the machine's zone may be another one now.
time.tzset()
call = json.loads(message)
sys.argv[:] = call["argv"]
sys.modules["__main__"] = main = types.ModuleType("__main__")
if call["code"] is None:
    main.__file__ = sys.argv[0]
    with open(main.__file__, encoding="utf-8") as file:
        call["code"] = file.read()
exec(compile(call["code"], getattr(main, "__file__", "<string>"), "exec"), main.__dict__)
"""


class Warm:
    """One such process. A call that finds it busy, stale or gone has None for an answer, and did not take place."""

    # By script: what calls of this test process have imported, on whichever machine.
    _learnt: ClassVar[dict[str, dict[str, None]]] = {}

    def __init__(
        self, interpreter: Sequence[str], environment: Mapping[str, str], script: str
    ) -> None:
        """interpreter: the words that start it in the machine; script: see SERVER."""
        self._names = self._learnt.setdefault(script, {})
        self._own, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._process = subprocess.Popen(
                [*interpreter, "-c", SERVER, script, *self._names],
                env=dict(environment),
                stdin=its,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._own.settimeout(START_DEADLINE_S)
        self._free = threading.Lock()
        try:
            self.is_ready = self._own.recv(MOST_BYTES) == b"ready"
        except OSError:
            self.is_ready = False

    def call(
        self, argv: Sequence[str], code: str | None, input: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str] | None:
        """Run `code`, or the script argv[0], with these words. Raises subprocess.TimeoutExpired."""
        message = json.dumps({"argv": argv, "code": code}).encode()
        if not self.is_ready or len(message) > MOST_BYTES or not self._free.acquire(blocking=False):
            return None
        with contextlib.ExitStack() as stack:
            stack.callback(self._free.release)
            files = [
                stack.enter_context(os.fdopen(os.memfd_create(name), "w+b"))
                for name in ("stdin", "stdout", "stderr")
            ]
            files[0].write((input or "").encode())
            files[0].seek(0)
            self._own.settimeout(timeout)
            try:
                socket.send_fds(self._own, [message], [file.fileno() for file in files])
                answer = self._own.recv(MOST_BYTES)
            except TimeoutError:
                self.is_ready = False
                raise subprocess.TimeoutExpired([*argv], timeout) from None
            except OSError:
                answer = b""
            answered = json.loads(answer or b'"stale"')
            if answered == "stale":
                self.is_ready = False
                return None
            status, names = answered
            self._names |= dict.fromkeys(names)
            texts = []
            for file in files[1:]:
                file.seek(0)
                texts.append(file.read().decode())
            return subprocess.CompletedProcess(argv, status, *texts)

    def close(self, end: Callable[[subprocess.Popen[bytes]], object]) -> None:
        """end: ends the process and what is below it, where it does not end by itself."""
        self._own.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            end(self._process)
