"""A message to all handlers that want it, at once, with a record in the journal for each: it left, or why not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sereno import journal, messages
from sereno.notify.config import Handler
from sereno.notify.event import Event
from sereno.notify.message import Message, compose
from sereno.notify.senders import DeliveryError, send

Send = Callable[[Handler, Message], None]
_logger = logging.getLogger("sereno.notify")


class Delivery(NamedTuple):
    """How one handler did: `error` is None when it took the message."""

    handler: str
    error: str | None


def deliver(event: Event, handlers: Iterable[Handler], *, send: Send = send) -> list[Delivery]:
    """Tell `event` by every handler that wants it; none waits for another, and none's failure stops another."""
    message = compose(event)
    deliveries: list[Delivery] = []

    def attempt(handler: Handler) -> None:
        try:
            send(handler, message)
            error = None
        except DeliveryError as failure:
            error = str(failure)
        except Exception as failure:
            _logger.exception(messages.HANDLER_BROKE, handler.name)
            error = f"{type(failure).__name__}: {failure}"
        _record(event, message, handler.name, error)
        deliveries.append(Delivery(handler.name, error))

    threads = [
        threading.Thread(target=attempt, args=[handler])
        for handler in handlers
        if handler.wants(event.kind, event.job)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return deliveries


def _record(event: Event, message: Message, handler: str, error: str | None) -> None:
    fields = {**fields_of(event), "SERENO_HANDLER": handler}
    if error is None:
        _logger.info(
            messages.DELIVERED,
            handler,
            message.subject,
            extra={"MESSAGE_ID": journal.DELIVERED, **fields},
        )
    else:
        _logger.error(
            messages.NOT_DELIVERED,
            handler,
            error,
            message.subject,
            extra={"MESSAGE_ID": journal.NOT_DELIVERED, "SERENO_ERROR": error, **fields},
        )


def fields_of(event: Event) -> dict[str, str]:
    """The journal's fields of whatever is recorded about an event."""
    return {"SERENO_JOB": event.job, "SERENO_RUN": event.run, "SERENO_EVENT": event.kind}
