"""Heartbeats: a run tells a monitor that it starts, and how it ended, as healthchecks.io defines it.

    POST URL/start      the run starts
    POST URL            it succeeded
    POST URL/fail       it failed
    POST URL/log        it was stopped, or left out: the monitor keeps its own opinion

each with `?rid=` and a UUID of the run, so that overlapping reports are told apart, and the run's closing line as body
(https://healthchecks.io/docs/http_api/). Loaded only by a run whose job has a `ping_url`.

A dead monitor must not harm the job: the calls are made by a thread of their own, the job does not wait for the first,
and the process ends at most `WAIT_S` after the job. A thread and not a timeout alone, because nothing bounds the time
of a look-up of a name. What could not be told is recorded.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit

from sereno.records import messages
from sereno.records.log import Logger
from sereno.records.url import is_http_url
from sereno.setting_names import PING_URL, PING_URL_FILE

# One wait for the network; the whole of it after the job's end. Two calls that both hang fit, and so does the whole in
# the template's TimeoutStopSec=, which a run has that was stopped.
TIMEOUT_S, WAIT_S = 4.0, 8.0
# What the second of two that wait gives the first to record in.
_RECORDING_S = 0.5
# The start's loss is made up for by the end, whose loss would be a false alarm.
_TRIES, _PAUSE_S = 3, 0.5
_ENDINGS = {"success": "", "interrupted": "/log", "skipped": "/log"}
_logger = Logger("sereno.runner")


def address(url: str, suffix: str, run_id: str) -> str:
    """The URL of a call; a query that is there (`?create=1`) stays."""
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, urlencode({"rid": run_id}))))
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + suffix, query=query))


class Heartbeat:
    """Tells a monitor of one run, whose id is systemd's or any UUID.

    Attributes:
        MORE_TIME: asks the manager not to end a run whose job is done by its TimeoutStartSec= (sd_notify(3)).
    """

    MORE_TIME = f"EXTEND_TIMEOUT_USEC={(WAIT_S + 2) * 1e6:.0f}"

    def __init__(
        self, job_id: str, url: str, run_id: str, post: Callable[[str, bytes], None] | None = None
    ) -> None:
        self._job_id, self._url = job_id, url
        # The canonical form of a UUID is asked for.
        self._run_id = str(uuid.UUID(run_id))
        self._post = post or _post
        # What each adds to the URL's path, its body, and how often it is tried; None: there are no more.
        self._calls: queue.SimpleQueue[tuple[str, str, int] | None] = queue.SimpleQueue()
        self._failures: list[str] = []
        self._waiting, self._has_waited = threading.Lock(), False
        self._thread = threading.Thread(target=self._work, name="heartbeat", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Tell that the run starts; nothing is waited for."""
        self._calls.put(("/start", "", 1))

    def end(self, status: str, message: str) -> None:
        """Tell how it ended; nothing is waited for."""
        self._calls.put((_ENDINGS.get(status, "/fail"), message, _TRIES))
        self._calls.put(None)

    def wait(self, wait_s: float = WAIT_S) -> None:
        """Wait until the end is told, or no longer; record, once, what the monitor was not told.

        The run's own thread waits, and the one that ends its process: whoever comes second may end it only when the
        first has recorded.
        """
        if not self._waiting.acquire(timeout=wait_s + _RECORDING_S):
            return
        try:
            if self._has_waited:
                return
            self._has_waited = True
            self._thread.join(wait_s)
            failures = list(self._failures)
            if self._thread.is_alive():
                failures.append(f"{urlsplit(self._url).hostname}: no answer within {wait_s:g} s")
            for failure in failures:
                extra = {"SERENO_ERROR": failure}
                _logger.warning(messages.PING_FAILED, self._job_id, failure, extra=extra)
        finally:
            self._waiting.release()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            error = self._try(*call)
            if error is not None:
                self._failures.append(f"{call[0] or '/'}: {error}")

    def _try(self, suffix: str, body: str, tries: int) -> str | None:
        """Make a call, again when that may help; return why it failed, or None."""
        url, error = address(self._url, suffix, self._run_id), ""
        for number in range(tries):
            if number:
                time.sleep(_PAUSE_S)
            try:
                self._post(url, body.encode("utf-8", "replace"))
                return None
            except Exception as failure:
                error = str(failure)
                if not getattr(failure, "passing", False):
                    break
        return error


def _post(url: str, body: bytes) -> None:
    # In the thread: it is the greater part of what a heartbeat costs, and the job need not wait for it.
    from sereno.records.post import post

    post(url, body, {"Content-Type": "text/plain; charset=utf-8"}, timeout_s=TIMEOUT_S)


def of_this_run(job_id: str, run_id: str, environ: Mapping[str, str]) -> Heartbeat | None:
    """The heartbeat of this process's run; None, and a record, if its URL cannot be read."""
    try:
        return Heartbeat(job_id, _url(environ), run_id)
    except (OSError, ValueError) as error:
        extra = {"SERENO_ERROR": str(error)}
        _logger.warning(messages.NO_HEARTBEATS, job_id, error, extra=extra)
        return None


def _url(environ: Mapping[str, str]) -> str:
    """The monitor's URL. An error does not show it: it may be a secret."""
    url, where = environ.get(PING_URL), PING_URL
    if not url:
        path = environ[PING_URL_FILE]
        with open(path, encoding="ascii") as file:
            url, where = file.readline().strip(), f"{path}: its first line"
    if not is_http_url(url):
        raise ValueError(f"{where} is no http or https URL")
    return url
