"""One function for each type of handler: it sends a message, or raises `DeliveryError` with the reason in one line."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from email.message import EmailMessage
from email.utils import formatdate
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sereno.notify.config import Handler
from sereno.notify.message import Message, safe_line
from sereno.post import PostError, post

# Before the second, third, … try of a webhook, in seconds.
BACKOFF_S = (1, 3, 9, 27, 60, 60)


Result = TypeVar("Result")


class DeliveryError(Exception):
    """A message did not leave by a handler; `str()` says why and names no secret."""


def send(handler: Handler, message: Message, *, pause: Callable[[float], Any] = time.sleep) -> None:
    """Send `message` by `handler`.

    Args:
        pause: waits so many seconds between two tries.

    Raises:
        DeliveryError: it was not taken.
    """
    if handler.type == "command":
        _command(handler, message)
    elif handler.type == "mail":
        _mail(handler, message)
    elif handler.type == "webhook":
        _webhook(handler, message, pause)
    else:
        _apprise(handler, message)


def environment(message: Message) -> dict[str, str]:
    """What a command finds in its environment: the payload's one-line values as SERENO_<KEY>."""
    return {
        f"SERENO_{key.upper()}": safe_line(str(value), 1000)
        for key, value in message.payload.items()
        if isinstance(value, (str, int, float)) and key != "text"
    }


def _command(handler: Handler, message: Message) -> None:
    words = handler.settings["command"]
    _run(words, json.dumps(message.payload).encode(), handler.timeout_s, environment(message))


def _mail(handler: Handler, message: Message) -> None:
    program = handler.settings["sendmail"]
    mail = compose_mail(handler, message)
    # -i: a line with a single dot does not end the message.
    _run([program, "-t", "-i"], mail.as_bytes(), handler.timeout_s, {})


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


def _run(words: list[str], data: bytes, timeout_s: float, extra: dict[str, str]) -> None:
    from os import environ

    # A file and not a pipe: what the program leaves in the background may keep it open.
    with tempfile.TemporaryFile() as complaints:
        try:
            done = subprocess.run(
                words, input=data, stdout=complaints, stderr=complaints, timeout=timeout_s,
                env={**_inherited(environ), **extra}, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise DeliveryError(f"{words[0]}: did not end within {timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            raise DeliveryError(f"{words[0]}: {error}") from None
        if done.returncode:
            complaints.seek(0)
            lines = complaints.read(100_000).decode("utf-8", "replace").strip().splitlines()
            said = f": {safe_line(lines[-1], 300)}" if lines else ""
            raise DeliveryError(f"{words[0]}: exit status {done.returncode}{said}")


def _inherited(environ: Any) -> dict[str, str]:
    """The environment of a program: not what systemd told this process about itself and its secrets."""
    private = ("CREDENTIALS_DIRECTORY", "LISTEN_", "MONITOR_", "NOTIFY_SOCKET", "SERENO_")
    return {name: value for name, value in environ.items() if not name.startswith(private)}


def _webhook(handler: Handler, message: Message, pause: Callable[[float], Any]) -> None:
    settings = handler.settings
    body = json.dumps(message.payload).encode()
    headers = {"Content-Type": "application/json", **settings["headers"]}
    for number in range(settings["retries"] + 1):
        try:
            _post(settings["url"], body, headers, handler.timeout_s)
            return
        except PostError as error:
            if not error.passing or number == settings["retries"]:
                tries = "" if number == 0 else f" (after {number + 1} tries)"
                raise DeliveryError(f"{error}{tries}") from None
        pause(BACKOFF_S[number])


def _post(url: str, body: bytes, headers: dict[str, str], limit_s: float) -> None:
    try:
        _within(limit_s, lambda: post(url, body, headers, timeout_s=limit_s))
    except TimeoutError:
        error = f"{urlsplit(url).hostname}: timed out: {limit_s:g} s in all"
        raise PostError(error, passing=True) from None


def _within(limit_s: float, action: Callable[[], Result]) -> Result:
    """What `action` returns or raises.

    Raises:
        TimeoutError: it takes longer, and is left to itself: a server may answer one character at a time, and what
            looks its name up has a limit of its own.
    """
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(action())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=work, daemon=True).start()
    return future.result(limit_s)


def _apprise(handler: Handler, message: Message) -> None:
    from importlib import import_module

    try:
        apprise: Any = import_module("apprise")
    except ImportError:
        raise DeliveryError(
            "apprise: this Python has no such module (apt install apprise, or pip install apprise)"
        ) from None
    service = apprise.Apprise()
    for number, url in enumerate(handler.settings["urls"], 1):
        if not service.add(url):
            raise DeliveryError(f"apprise: URL {number} of urls is none that Apprise knows")
    kind = "failure" if message.payload["event"] == "failure" else "info"
    try:
        taken = _within(
            handler.timeout_s,
            lambda: service.notify(title=message.subject, body=message.body, notify_type=kind),
        )
    except TimeoutError:
        raise DeliveryError(f"apprise: did not end within {handler.timeout_s:g} s") from None
    if not taken:
        raise DeliveryError("apprise: not all services took the message; its own records say which")
