"""A Redis or Valkey server of a test's own: an ordinary user's process in a temporary directory, on a unix socket.

Debian's redis-tools has the server's program without a service that starts: redis-check-rdb, by another name. So has
valkey-tools.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

LIB = Path(__file__).parents[2] / "lib"
# (program, the name that it goes by)
PROGRAMS = (
    *(("valkey-server", None), ("valkey-check-rdb", "valkey-server")),
    *(("redis-server", None), ("redis-check-rdb", "redis-server")),
)
DEADLINE_S = 30.0


def program() -> tuple[str, str]:
    """(file, name) of a server; skips the test where there is none."""
    for name, called in PROGRAMS:
        found = shutil.which(name)
        if found:
            return found, called or name
    pytest.skip("no valkey-server or redis-server here (apt install redis-tools)")


class Server:
    """Args: directory: of its socket and files; settings: lines of its configuration."""

    def __init__(self, directory: Path, *settings: str, number: int = 0) -> None:
        directory.mkdir(exist_ok=True)
        self.directory, self.number = directory, number
        self.socket = directory / f"s{number}"
        self.settings = [
            f"unixsocket {self.socket}",
            "unixsocketperm 777",
            "port 0",
            'save ""',
            f"dir {directory}",
            f"logfile {directory}/log{number}",
            f"pidfile {directory}/pid{number}",
            f"dbfilename dump{number}.rdb",
            *settings,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, *parameters: str, user: str = "") -> str:
        # Of a machine that is busy a test must not depend.
        asked = (
            ("timeout=10", *parameters)
            if not any("timeout" in p for p in parameters)
            else parameters
        )
        return f"unix://{user}{self.socket}?{'&'.join(asked)}"

    def start(self) -> Server:
        file, name = program()
        config = self.directory / f"conf{self.number}"
        config.write_text("\n".join(self.settings) + "\n")
        self.process = subprocess.Popen([name, str(config)], executable=file)
        self.wait()
        return self

    def wait(self) -> None:
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                if b"PONG" in (told := self.raw("PING")) or b"NOAUTH" in told:
                    return
            except OSError:
                pass
            assert self.process is not None
            assert self.process.poll() is None, (self.directory / f"log{self.number}").read_text()
            assert time.monotonic() < end
            time.sleep(0.01)

    def raw(self, *words: str) -> bytes:
        """The reply to a command, as it comes."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(DEADLINE_S)
            asked.connect(str(self.socket))
            packed = f"*{len(words)}\r\n".encode()
            for word in words:
                raw = word.encode()
                packed += b"$%d\r\n%b\r\n" % (len(raw), raw)
            asked.sendall(packed)
            return asked.recv(1 << 20)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, frozen or not."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def kill_clients(self) -> None:
        self.raw("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


def python(code: str, url: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    """A process that uses the cache."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": f"{LIB}:{Path(__file__).parent}", "SERENO_CACHE_URL": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def without_epoch() -> None:
    """Has this process take any server's keys for those of its cache, to see what happens then."""
    from sereno.cache.fleet import layout

    kept = "local kept = redis.call('GET', KEYS[1]) if kept then return kept end "
    off = layout.Script(kept + layout.EPOCH.text.decode())
    layout.EPOCH, layout.ALL = off, (*layout.ALL, off)


class Clock:
    """Time that only the test moves, in seconds."""

    moment_s = 0.001

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s

    def tick(self, seconds: float) -> None:
        self.now_s += seconds


class ServerClock(Clock):
    """Takes from the lifetime of all that the server has what the test says has passed."""

    AGE = """for _, key in ipairs(redis.call('KEYS', '*')) do
        local left = redis.call('PTTL', key)
        if left >= 0 then redis.call('PEXPIRE', key, left - ARGV[1]) end end"""

    moment_s = 5.0  # the server's own goes on

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    def tick(self, seconds: float) -> None:
        super().tick(seconds)
        assert b"ERR" not in self._server.raw("EVAL", self.AGE, "0", str(round(seconds * 1000)))
