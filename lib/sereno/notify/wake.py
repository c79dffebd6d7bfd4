"""What a successful run does when it has something to tell: one datagram to sereno-notify.socket.

The datagram only names the run and its alerts; what happened is read from the journal by whoever gets it. Nothing waits
for an answer.
"""

from __future__ import annotations

import json
import os
from _socket import MSG_DONTWAIT, socket
from collections.abc import Sequence

from sereno.records import journal, messages, sending
from sereno.records.log import Logger
from sereno.setting_names import NOTIFY_CONFIG, NOTIFY_SOCKET

SUCCEEDED, TRIED, LOST = "succeeded", "test", "lost"
# A datagram of unix(7) holds twice as much, and a thousand messages would help nobody.
MOST_BYTES = 64 << 10
_logger = Logger("sereno.runner")


def wake(job_id: str, run_id: str, what: str = SUCCEEDED) -> None:
    """Tell that a run succeeded, or that it found another to be lost, unless nobody wants to be told.

    Never raises for a socket that does not take it.
    """
    address = os.environ.get(NOTIFY_SOCKET)
    if not address or not os.path.exists(os.environ.get(NOTIFY_CONFIG, "")):
        return
    try:
        send(address, what, job_id, run_id, sorted(journal.alerts))
    except OSError as error:
        _logger.warning(messages.NOT_ASKED_FOR, job_id, address, error)


def send(
    address: str,
    what: str,
    job_id: str,
    run_id: str,
    alerts: Sequence[str] = (),
    by: socket | None = None,
) -> None:
    """Send the datagram, with the names of as many alerts as it holds, from the socket `by` if an answer is wanted.

    Raises:
        OSError: the socket is not there, not for this user, or full.
    """
    data = json.dumps([what, job_id, run_id])
    for alert in alerts:
        longer = f"{data[:-1]}, {json.dumps(alert)}]"
        if len(longer) <= MOST_BYTES:
            data = longer
    if by is None:
        sending.datagram(data.encode(), address, wait_s=0.0)
    else:
        by.sendto(data.encode(), MSG_DONTWAIT, address)
