"""One function for each type of handler: it sends a message, or raises `DeliveryError` with the reason in one line."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate
from functools import partial
from math import inf
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sereno.notify.config import Handler
from sereno.notify.message import LINE_LENGTH, Message
from sereno.records.post import PostError, post
from sereno.records.printable import printable
from sereno.records.url import secrets_of, without

# Before the second, third, … try of a webhook, in seconds.
BACKOFF_S = (1, 3, 9, 27, 60, 60)
# Of a program's output: the last line is what is shown of it.
_MOST_OUTPUT_BYTES = 1 << 20
_POLL_S = 0.05
# What systemd told this process about itself and its secrets, and a program does not inherit.
_PRIVATE = ("CREDENTIALS_DIRECTORY", "LISTEN_", "MONITOR_", "NOTIFY_SOCKET", "SERENO_")
Result = TypeVar("Result")


class DeliveryError(Exception):
    """A message did not leave by a handler; `str()` says why and names no secret."""


def send(
    handler: Handler,
    message: Message,
    *,
    pause: Callable[[float], Any] = time.sleep,
    left_s: Callable[[], float] = lambda: inf,
) -> None:
    """Send `message` by `handler`.

    Args:
        pause: waits so many seconds between two tries; may raise DeliveryError to end them.
        left_s: how long sending may take from now on; a try has the handler's `timeout_s` at most.

    Raises:
        DeliveryError: it was not taken.
    """
    limit_s = min(handler.timeout_s, left_s())
    if handler.type == "command":
        words = handler.settings["command"]
        _run(words, json.dumps(message.payload).encode(), limit_s, environment(message))
    elif handler.type == "mail":
        # -i: a line with a single dot does not end the message.
        words = [handler.settings["sendmail"], "-t", "-i"]
        _run(words, compose_mail(handler, message).as_bytes(), limit_s, {})
    elif handler.type == "webhook":
        _webhook(handler, message, pause, left_s)
    else:
        _apprise(handler, message, limit_s)


def environment(message: Message) -> dict[str, str]:
    """What a command finds in its environment: the payload's one-line values as SERENO_<KEY>."""
    return {
        f"SERENO_{key.upper()}": printable(str(value), LINE_LENGTH)
        for key, value in message.payload.items()
        if isinstance(value, (str, int, float)) and key != "text"
    }


def compose_mail(handler: Handler, message: Message) -> EmailMessage:
    """The mail as sendmail(8) gets it. Without `from`, sendmail names the sender."""
    mail = EmailMessage()
    mail["To"] = ", ".join(handler.settings["to"])
    if handler.settings["from"] is not None:
        mail["From"] = handler.settings["from"]
    mail["Subject"] = message.subject
    mail["Date"] = formatdate(localtime=True)
    # RFC 3834: no out-of-office replies to this.
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Sereno-Job"] = message.payload["job"]
    mail["X-Sereno-Event"] = message.payload["event"]
    mail.set_content(message.body, charset="utf-8")
    return mail


def _run(words: list[str], data: bytes, limit_s: float, extra: dict[str, str]) -> None:
    # Files and not pipes: what the program leaves in the background may keep them open. In memory, for a full disk is
    # what jobs fail of.
    with (
        open(os.memfd_create("message"), "w+b") as given,
        open(os.memfd_create("output"), "w+b") as output,
    ):
        given.write(data)
        given.seek(0)
        # So that it can be cut while it is written.
        fcntl.fcntl(output, fcntl.F_SETFL, os.O_APPEND)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_PRIVATE)}
        try:
            program = subprocess.Popen(
                words, stdin=given, stdout=output, stderr=output, process_group=0,
                env={**inherited, **extra},
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise DeliveryError(f"{words[0]}: {error}") from None
        if not _has_ended(program, limit_s, output.fileno()):
            raise DeliveryError(f"{words[0]}: did not end within {limit_s:g} s")
        if program.returncode:
            output.seek(max(os.fstat(output.fileno()).st_size - 10_000, 0))
            lines = output.read().decode("utf-8", "replace").strip().splitlines()
            said = f": {without(lines[-1], words[1:], 300)}" if lines else ""
            raise DeliveryError(f"{words[0]}: exit status {program.returncode}{said}")


def _has_ended(program: subprocess.Popen[bytes], limit_s: float, output: int) -> bool:
    """Wait for a program; at the limit kill it, and what it has started."""
    give_up = time.monotonic() + limit_s
    while (left_s := give_up - time.monotonic()) > 0:
        with suppress(subprocess.TimeoutExpired):
            program.wait(min(_POLL_S, left_s))
            return True
        if os.fstat(output).st_size > _MOST_OUTPUT_BYTES:
            os.ftruncate(output, 0)
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    # One in uninterruptible sleep is gone when it can be.
    with suppress(subprocess.TimeoutExpired):
        program.wait(1)
    return False


def _webhook(
    handler: Handler, message: Message, pause: Callable[[float], Any], left_s: Callable[[], float]
) -> None:
    url, retries = handler.settings["url"], handler.settings["retries"]
    body = json.dumps(message.payload).encode()
    headers = {"Content-Type": "application/json", **handler.settings["headers"]}
    for number in range(retries + 1):
        limit_s = min(handler.timeout_s, left_s())
        late = f"{urlsplit(url).hostname}: timed out: {limit_s:g} s in all"
        once = partial(post, url, body, headers, timeout_s=max(limit_s, 0.1))
        try:
            _within(limit_s, once, late)
            return
        except (PostError, DeliveryError) as error:
            may_pass = isinstance(error, DeliveryError) or error.passing
            if not may_pass or number == retries or left_s() == 0:
                tries = "" if number == 0 else f" (after {number + 1} tries)"
                raise DeliveryError(f"{error}{tries}") from None
        pause(BACKOFF_S[number])


def _within(limit_s: float, action: Callable[[], Result], late: str) -> Result:
    """What `action` returns or raises.

    Raises:
        DeliveryError: it takes longer, as `late` says, and is left to itself: a server may answer one character at a
            time, and what looks its name up has a limit of its own.
    """
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(action())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=work, daemon=True).start()
    try:
        return future.result(limit_s)
    except TimeoutError:
        raise DeliveryError(late) from None


class _Redacted(logging.Filter):
    """Takes the words of handlers' URLs out of what Apprise logs: of one that it cannot read it shows everything."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = without(record.getMessage(), self.secrets, 500), ()
        record.exc_info = record.exc_text = None
        return True


_redacted = _Redacted()


def _apprise(handler: Handler, message: Message, limit_s: float) -> None:
    from importlib import import_module

    try:
        apprise: Any = import_module("apprise")
    except ImportError:
        raise DeliveryError(
            "apprise: this Python has no such module (apt install apprise, or pip install apprise)"
        ) from None
    urls = handler.settings["urls"]
    _redacted.secrets.update(word for url in urls for word in secrets_of(url))
    logging.getLogger("apprise").addFilter(_redacted)
    service = apprise.Apprise()
    for number, url in enumerate(urls, 1):
        if not service.add(url):
            raise DeliveryError(f"apprise: urls: Apprise does not know URL {number}")
    kind = "failure" if message.payload["event"] == "failure" else "info"
    tell = partial(service.notify, title=message.subject, body=message.body, notify_type=kind)
    if not _within(limit_s, tell, f"apprise: did not end within {limit_s:g} s"):
        raise DeliveryError("apprise: not all services took the message; its own records say which")
