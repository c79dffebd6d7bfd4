"""What comes out of sereno-notify.socket: the other end of `wake`."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from struct import unpack
from typing import NamedTuple

from sereno.notify import wake


class Datagram(NamedTuple):
    """What `wake` sent, and the user id of its sender; `alerts` are the names of those that the run raised."""

    what: str
    job_id: str
    run_id: str
    uid: int
    alerts: tuple[str, ...] = ()


def datagrams(receiver: socket.socket) -> Iterator[Datagram]:
    """What waits in the socket; what `wake` did not write is left out."""
    receiver.setblocking(False)
    while True:
        try:
            data, ancillary, _, _ = receiver.recvmsg(wake.MOST_BYTES, socket.CMSG_SPACE(12))
        except BlockingIOError:
            return
        try:
            what, job_id, run_id, *alerts = json.loads(data)
        except (TypeError, ValueError):
            continue
        texts = (what, job_id, run_id, *alerts)
        if all(isinstance(text, str) for text in texts) and _is_name(job_id):
            yield Datagram(what, job_id, run_id, _uid(ancillary), tuple(alerts))


def _is_name(job_id: str) -> bool:
    # It becomes a file name; `sereno.job` has the whole rule.
    return "/" not in job_id and "\0" not in job_id and 0 < len(job_id) <= 200 and job_id[0] != "."


def _uid(ancillary: list[tuple[int, int, bytes]]) -> int:
    """unix(7): the kernel vouches for pid, uid and gid of the sender."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return int(unpack("3i", data[:12])[1])
    return -1
