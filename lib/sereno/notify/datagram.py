"""What comes out of sereno-notify.socket: the other end of `wake`. Whoever is in the group may write anything to it."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, islice, zip_longest
from pathlib import Path
from struct import unpack
from typing import NamedTuple

from sereno.notify import wake
from sereno.records.files import MOST_BYTES, content

# It becomes a file name; `sereno.declare.job` has the same rule.
_JOB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_RUN_ID = re.compile(r"[0-9a-f]{32}")
MOST_OF_SENDER, MOST_ALERTS = 1000, 1000
"""Runs that wait for one sender; alerts of one run."""


class Datagram(NamedTuple):
    """What `wake` sent, and the user id of its sender; `alerts` are the names of those that the run raised.

    `heard_s` is when it came, by time.monotonic; `address` is the sender's own, if it has one.
    """

    what: str
    job_id: str
    run_id: str
    uid: int
    alerts: tuple[str, ...] = ()
    heard_s: float = 0.0
    address: str | bytes | None = None


def receive(receiver: socket.socket) -> list[Datagram]:
    """What waits in the socket, as far as `wake` may have written it; the rest may come the next time."""
    receiver.setblocking(False)
    found = []
    for _ in range(MOST_OF_SENDER):
        try:
            data, uid, address = take(receiver)
        except BlockingIOError:
            break
        found += [one._replace(address=address) for one in _parsed(data, uid)]
    return found


def take(receiver: socket.socket) -> tuple[bytes, int, str | bytes | None]:
    """What comes next, the user id of its sender, and the sender's address; the id is -1 where the kernel has none."""
    data, ancillary, _, address = receiver.recvmsg(wake.MOST_BYTES, socket.CMSG_SPACE(12))
    for level, kind, credentials in ancillary:
        # unix(7): the kernel vouches for pid, uid and gid of the sender.
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return data, unpack("3i", credentials[:12])[1], address
    return data, -1, address


def answer(address: str | bytes | None, words: Sequence[str | None]) -> None:
    """Send who asked for a test how a handler did: the journal may keep nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(OSError):
        if address:
            sender.sendmsg([json.dumps(words).encode()], (), socket.MSG_DONTWAIT, address)


def _parsed(data: bytes, uid: int | bytes) -> list[Datagram]:
    """The datagram in `data`; none if `wake` cannot have written it."""
    with suppress(TypeError, ValueError, RecursionError):
        what, job_id, run_id, *alerts = json.loads(data)
        if (
            all(isinstance(text, str) for text in (what, job_id, run_id, *alerts))
            and _JOB_ID.fullmatch(job_id)
            and _RUN_ID.fullmatch(run_id)
        ):
            kept = tuple(alerts[:MOST_ALERTS])
            return [Datagram(what, job_id, run_id, int(uid), kept, time.monotonic())]
    return []


def fair(heard: Iterable[Datagram]) -> list[Datagram]:
    """Each run once, the senders in turn: a flood of one of them does not keep another waiting."""
    senders: dict[int, dict[tuple[str, ...], Datagram]] = {}
    for one in heard:
        key, of_sender = (one.what, one.job_id, one.run_id), senders.setdefault(one.uid, {})
        before = of_sender.get(key, one)
        alerts = dict.fromkeys((*before.alerts, *one.alerts))
        of_sender[key] = before._replace(alerts=tuple(islice(alerts, MOST_ALERTS)))
    kept = [list(of_sender.values())[:MOST_OF_SENDER] for of_sender in senders.values()]
    return [one for one in chain(*zip_longest(*kept)) if one is not None]


class Heard:
    """A file with the alerts that were taken out of the socket, until all of them are told.

    A process that is killed loses none: the next start has them. A recovery needs no file, for the job's next success
    tells it. What the disk does not take is told all the same, unless the process is killed.
    """

    def __init__(self, directory: str) -> None:
        self._path = Path(directory, ".heard")

    def read(self) -> list[Datagram]:
        rows = []
        with suppress(OSError):
            rows = [line.partition(b" ") for line in content(self._path).splitlines()]
        return [one for uid, _, data in rows for one in _parsed(data, uid)]

    def add(self, heard: Iterable[Datagram]) -> None:
        if not (alerts := [one for one in heard if one.alerts]):
            return
        with suppress(OSError), self._path.open("ab") as file:
            for one in alerts:
                row = f"\n{one.uid} {json.dumps([one.what, one.job_id, one.run_id, *one.alerts])}"
                # Of a flood no more is kept.
                if file.tell() + len(row) <= MOST_BYTES:
                    file.write(row.encode())

    def keep_only(self, heard: Iterable[Datagram]) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self.add(heard)
