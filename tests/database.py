"""A PostgreSQL of the tests' own: Debian's server, started as an ordinary user on a unix socket in a directory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

# As root the server refuses to start.
NOBODY = 65534
START_DEADLINE_S = 60.0
SCHEMA = Path(__file__).resolve().parents[1] / "lib/sereno/fleet/schema.sql"


def programs() -> Path | None:
    """Where Debian has the server's programs, of the newest version that is installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: int(path.parts[4])
    )
    return found[-1] if found else None


def why_not() -> str | None:
    """Why no server can be started here; None when one can."""
    if programs() is None:
        return "claims need a PostgreSQL (package postgresql)"
    if not any(map(find_spec, ("psycopg2", "psycopg"))):
        return "claims need a driver (package python3-psycopg2)"
    return None


def _holds_memory(pid: str) -> bool:
    """Whether the process is there, and not only its status that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Database:
    """A server with the tables of sereno, which everybody on this machine may use.

    Attributes:
        place: the directory of its socket, for machines to bind.
    """

    def __init__(self) -> None:
        reason = why_not()
        if reason is not None:
            pytest.skip(reason)
        self.home = Path(tempfile.mkdtemp(prefix="sereno-database-"))
        self.place = self.home / "socket"
        self.place.mkdir()
        if os.geteuid() == 0:
            for path in (self.home, self.place):
                os.chown(path, NOBODY, NOBODY)
        self.home.chmod(0o755)
        self._call(
            "initdb", "--pgdata", self._data, "--auth=trust", "--username=sereno", "--no-sync",
            "--encoding=UTF8", "--locale=C.UTF-8",
        )  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self.start()
        self.sql(SCHEMA.read_text())

    @property
    def _data(self) -> str:
        return str(self.home / "data")

    @property
    def url(self) -> str:
        return f"postgresql://sereno@/postgres?host={self.place}"

    def _words(self, program: str, *words: str) -> list[str]:
        found = programs()
        assert found is not None
        as_nobody = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        user = as_nobody if os.geteuid() == 0 else []
        # A test process that is killed leaves no server.
        return ["setpriv", *user, "--pdeathsig=KILL", "--", str(found / program), *words]

    def _call(self, program: str, *words: str) -> None:
        subprocess.run(self._words(program, *words), check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.place),
            "shared_buffers": "16MB",
            "autovacuum": "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._words("postgres", "-D", self._data, *words),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_DEADLINE_S
        while not self._answers():
            is_over = self.process.poll() is not None or time.monotonic() > deadline
            assert not is_over, (self.home / "log").read_text()[-2000:]
            time.sleep(0.005)

    def _answers(self) -> bool:
        """By the file in which the server itself says so; the one of a killed server names another process."""
        try:
            lines = (self.home / "data/postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        assert self.process is not None
        return lines[0] == str(self.process.pid) and lines[7:8] == ["ready   "]

    def kill(self) -> None:
        """SIGKILL to all of its processes; returns when they are gone: before that no other server starts."""
        assert self.process is not None
        pid = self.process.pid
        # It starts no other while the others are counted, each of which is in a session of its own.
        os.kill(pid, signal.SIGSTOP)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self.process.wait()
        while any(_holds_memory(child) for child in children):
            time.sleep(0.005)

    def freeze(self, *, thaw: bool = False) -> None:
        """Have all of its processes stand still: connections are taken by the kernel, and nobody answers."""
        assert self.process is not None
        pid, number = self.process.pid, signal.SIGCONT if thaw else signal.SIGSTOP
        # The first one first: it starts the others.
        os.kill(pid, number)
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), number)

    def sql(self, text: str) -> list[list[str]]:
        """The rows that statements give."""
        words = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--field-separator=\t"]
        words += [
            "--set=ON_ERROR_STOP=1",
            "--host",
            str(self.place),
            "--username=sereno",
            "--dbname=postgres",
        ]
        done = subprocess.run(
            self._words("psql", *words),
            input=text,
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
        )
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.freeze(thaw=True)
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
        shutil.rmtree(self.home)
