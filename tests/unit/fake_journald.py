"""A journal of the tests' own: the other end of systemd's native protocol, and runs that systemd seems to start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIBRARY = HERE.parents[1] / "lib"
RUN_ID = "0123456789abcdef0123456789abcdef"
# A process as systemd starts one, whose journal is elsewhere.
PROCESS = """
{first}
import os, sys
os.environ["SYSTEMD_EXEC_PID"] = str(os.getpid())
sys.path[:0] = {path!r}
from sereno import runner; from sereno.records import sending
sending.SOCKET = {socket!r}
{last}
"""
Ran = tuple[subprocess.CompletedProcess[str], list[dict[str, str]]]
LAST = "sys.exit(runner.main('a_job', {function!r}))"


def decoded(datagram: bytes) -> dict[str, str]:
    """The fields of a datagram, as journald reads it."""
    fields = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert rest.startswith(b"\n")
            rest = rest[1:]
        fields[name.decode("ascii")] = value.decode()
        datagram = rest
    return fields


class Journald:
    """Takes what processes send to `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def __enter__(self) -> Journald:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def records(self) -> list[dict[str, str]]:
        """What has come since the call before."""
        found = []
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 20, 1)
            except BlockingIOError:
                return found
            for descriptor in descriptors:
                with open(descriptor, "rb") as file:
                    file.seek(0)
                    data = file.read()
            found.append(decoded(data))

    def start(
        self, function: str, *, first: str = "", last: str = LAST, path: Path | None = None, **environment: str
    ) -> subprocess.Popen[str]:  # fmt: skip
        """Start a run of "module:name"; the module is looked for in `path`, else in tests/unit."""
        code = PROCESS.format(
            first=first,
            path=[str(LIBRARY), str(path or HERE), sysconfig.get_paths()["purelib"]],
            socket=str(self.path),
            last=last.format(function=function),
        )
        return subprocess.Popen(
            # Without what files of this installation load at each start: a run may count on none of it.
            [sys.executable, "-I", "-S", "-c", code],
            env={"PATH": os.environ["PATH"], "INVOCATION_ID": RUN_ID, **environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, function: str, **how: Any) -> Ran:
        """The process of a run that has ended, and the records that came."""
        with self.start(function, **how) as process:
            out, err = process.communicate(timeout=60)
        done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
        return done, self.records()

    def job(self, tmp_path: Path, code: str, **how: Any) -> Ran:
        """Run the function `f` of a module with this text."""
        (tmp_path / "a_module.py").write_text(code)
        return self.run("a_module:f", path=tmp_path, **how)


def texts(records: list[Mapping[str, str]]) -> list[str]:
    """The messages, without what varies behind them."""
    return [record["MESSAGE"].partition(" en ")[0].partition(" tras ")[0] for record in records]
