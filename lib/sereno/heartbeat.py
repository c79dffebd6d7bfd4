"""Heartbeats: a run tells a monitor that it starts, and how it ended, as healthchecks.io defines it.

    POST URL/start      the run starts
    POST URL            it succeeded
    POST URL/fail       it failed
    POST URL/log        it was stopped: the monitor keeps its own opinion

each with `?rid=` and a UUID of the run, so that overlapping reports are told apart, and the run's closing line as body
(https://healthchecks.io/docs/http_api/). Loaded only by a run whose job has a `ping_url`.

A dead monitor must not harm the job: the calls are made by a thread of their own, the job does not wait for the first,
and the process ends at most `WAIT_S` after the job. A thread and not a timeout alone, because nothing bounds the time
of a look-up of a name. What could not be told is recorded.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit, urlunsplit

from sereno import journal, messages
from sereno.url import is_http_url

# The generated drop-in's settings of the run (sereno.units writes them).
URL, URL_FILE = "SERENO_PING_URL", "SERENO_PING_URL_FILE"
# One wait for the network; the whole of it after the job's end. Two calls that both hang fit, and so does the whole in
# the template's TimeoutStopSec=, which a run has that was stopped.
TIMEOUT_S, WAIT_S = 4.0, 8.0
# The start's loss is made up for by the end, whose loss would be a false alarm.
_TRIES, _PAUSE_S = 3, 0.5
_ENDINGS = {"success": "", "interrupted": "/log"}
_logger = logging.getLogger("sereno.runner")


class Call(NamedTuple):
    """One call: what it adds to the URL's path, its body, and how often it is tried."""

    suffix: str
    body: str
    tries: int


def address(url: str, suffix: str, run_id: str) -> str:
    """The URL of a call; a query that is there (`?create=1`) stays."""
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, urlencode({"rid": run_id}))))
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + suffix, query=query))


class Heartbeat(logging.Handler):
    """Watches the records of the run for its start and its end, and tells the monitor.

    As a handler of the log it learns what every other reader of the journal learns, and needs no part in the run.

    Args:
        url: of the monitor's check.
        run_id: systemd's invocation id, or any UUID.
        post: sends one call.
    """

    def __init__(
        self, job_id: str, url: str, run_id: str, post: Callable[[str, bytes], None] | None = None
    ) -> None:
        super().__init__()
        self._job_id, self._url = job_id, url
        # The canonical form of a UUID is asked for.
        self._run_id = str(uuid.UUID(run_id))
        self._post = post or _post
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._failures: list[str] = []
        self._thread = threading.Thread(target=self._work, name="heartbeat", daemon=True)
        self._closing: tuple[str, str] | None = None
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of the run's first and last record."""
        if getattr(record, "MESSAGE_ID", None) == journal.STARTED:
            self._calls.put(Call("/start", "", 1))
        elif (status := getattr(record, "SERENO_STATUS", None)) is not None:
            self._closing = (status, record.getMessage())

    def finish(self) -> None:
        """Tell how the run ended, wait for it within bounds, and record what the monitor was not told."""
        status, message = self._closing or ("failed", "")
        _extend_timeout(WAIT_S + 2)
        self._calls.put(Call(_ENDINGS.get(status, "/fail"), message, _TRIES))
        self._calls.put(None)
        self._thread.join(WAIT_S)
        failures = [*self._failures]
        if self._thread.is_alive():
            failures.append(f"{urlsplit(self._url).hostname}: no answer within {WAIT_S:g} s")
        for failure in failures:
            _logger.warning(
                messages.PING_FAILED,
                self._job_id,
                failure,
                extra={"MESSAGE_ID": journal.PING_FAILED, "SERENO_ERROR": failure},
            )

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            error = self._try(call)
            if error is not None:
                self._failures.append(f"{call.suffix or '/'}: {error}")

    def _try(self, call: Call) -> str | None:
        """Make a call, again when that may help; return why it failed, or None."""
        url, body = (
            address(self._url, call.suffix, self._run_id),
            call.body.encode("utf-8", "replace"),
        )
        error = ""
        for number in range(call.tries):
            if number:
                time.sleep(_PAUSE_S)
            try:
                self._post(url, body)
                return None
            except Exception as failure:
                error = str(failure)
                if not getattr(failure, "passing", False):
                    break
        return error


def _post(url: str, body: bytes) -> None:
    # In the thread: it is the greater part of what a heartbeat costs, and the job need not wait for it.
    from sereno.post import post

    post(url, body, {"Content-Type": "text/plain; charset=utf-8"}, timeout_s=TIMEOUT_S)


def _extend_timeout(seconds: float) -> None:
    """Let the job's TimeoutStartSec= not end a run whose job is done (sd_notify(3); needs NotifyAccess=main)."""
    target = os.environ.get("NOTIFY_SOCKET", "")
    if not target:
        return
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.connect("\0" + target[1:] if target[0] == "@" else target)
            sender.send(f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}".encode())
        except OSError as error:
            _logger.warning("NOTIFY_SOCKET: %s", error)


def of_this_run(job_id: str, run_id: str, environ: Mapping[str, str]) -> Heartbeat | None:
    """The heartbeat of this process's run, attached to its log; None, and a record, if its URL cannot be read."""
    try:
        url = _url(environ)
        heartbeat = Heartbeat(job_id, url, run_id)
    except (OSError, ValueError) as error:
        _logger.warning(
            messages.NO_HEARTBEATS,
            job_id,
            error,
            extra={"MESSAGE_ID": journal.PING_FAILED, "SERENO_ERROR": str(error)},
        )
        return None
    logging.getLogger().addHandler(heartbeat)
    return heartbeat


def _url(environ: Mapping[str, str]) -> str:
    """The monitor's URL. An error does not show it: it may be a secret."""
    url, where = environ.get(URL), URL
    if not url:
        path = environ[URL_FILE]
        with open(path, encoding="ascii") as file:
            url, where = file.readline().strip(), f"{path}: its first line"
    if not is_http_url(url):
        raise ValueError(f"{where} is no http or https URL")
    return url
