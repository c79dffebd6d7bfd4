"""Messages on their way, by all handlers at once, with a record in the journal for each: it left, or why not.

No handler waits for another, and none's failure stops another. All of it has one deadline, for systemd kills what takes
longer than TimeoutStartSec=, and then nothing would tell what did not leave.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from math import inf
from threading import Lock, Thread
from traceback import extract_tb
from typing import Any, NamedTuple

from sereno import journal, messages
from sereno.notify.config import Handler
from sereno.notify.event import TEST, Event
from sereno.notify.message import Message, compose
from sereno.notify.senders import DeliveryError, send

_MOST_UNDER_WAY = 500
_logger = logging.getLogger("sereno.notify")


class Delivery(NamedTuple):
    """How one handler did: `error` is None when it took the message."""

    handler: str
    error: str | None


class Task(NamedTuple):
    """An event for a handler.

    Attributes:
        due: gives the event as it is to be told when its turn has come, None: it is not to be told any more.
        done: is called with it when the handler has taken it, or does not want such events.
        answer: is called with what became of it.
    """

    handler: Handler
    event: Event
    due: Callable[[Event], Event | None] = lambda event: event
    done: Callable[[Event], Any] = lambda event: None
    answer: Callable[[Delivery], Any] = lambda delivery: None


class Deliveries:
    """Events on their way; each handler tells them one after the other.

    Args:
        deadline_s: what has not left by then (time.monotonic) never does.
        send: as `senders.send`; tests put their own here.
    """

    def __init__(self, deadline_s: float, send: Callable[..., None] = send) -> None:
        self._deadline_s, self._send = deadline_s, send
        self._turns: defaultdict[str, Lock] = defaultdict(Lock)
        self._under_way: dict[object, tuple[Task, Lock, Thread]] = {}
        self.done: list[Delivery] = []

    def start(self, task: Task) -> bool:
        """Have it told when the handler has its turn; False: one of the same waits for that already."""
        event = task.event
        run = event.run if event.kind == TEST else ""
        key = task.handler.name, event.kind, event.job, event.alert, run
        if key in self._under_way:
            return False
        settled = Lock()
        thread = Thread(target=self._tell, args=[key, task, settled], daemon=True)
        self._under_way[key] = task, settled, thread
        if len(self._under_way) > _MOST_UNDER_WAY:
            self._settle(key, task, settled, event, "too many messages wait to leave")
        else:
            thread.start()
        return True

    @property
    def are_over(self) -> bool:
        return not self._under_way

    def wait(self, limit_s: float = inf) -> bool:
        """Wait until all have left or failed to, or the deadline has come; False: `limit_s` was over before."""
        give_up = time.monotonic() + limit_s
        for key, (task, settled, thread) in list(self._under_way.items()):
            thread.join(min(self._left_s(), max(give_up - time.monotonic(), 0.0)))
            if not self._left_s():
                self._settle(key, task, settled, task.event, "it did not leave in time")
        return self.are_over

    def _left_s(self) -> float:
        return max(self._deadline_s - time.monotonic(), 0.0)

    def _tell(self, key: object, task: Task, settled: Lock) -> None:
        with self._turns[task.handler.name]:
            if not self._left_s():
                return
            event, error = task.due(task.event), None
            try:
                if event and task.handler.wants(event.kind, event.job):
                    self._send(
                        task.handler, compose(event), pause=self._pause(task), left_s=self._left_s
                    )
            except DeliveryError as failure:
                error = str(failure)
            except Exception as failure:
                # Its text may be a URL with its secrets.
                place = extract_tb(failure.__traceback__)[-1]
                error = f"{type(failure).__name__} ({place.filename}:{place.lineno})"
                _logger.error(messages.HANDLER_BROKE, task.handler.name)
            if event and error is None:
                task.done(event)
        self._settle(key, task, settled, event, error)

    def _pause(self, task: Task) -> Callable[[float], None]:
        def pause(seconds: float) -> None:
            time.sleep(min(seconds, self._left_s()))
            if task.due(task.event) is None:
                raise DeliveryError("what came after it was told before")

        return pause

    def _settle(
        self, key: object, task: Task, settled: Lock, event: Event | None, error: str | None
    ) -> None:
        """Record what became of it, once."""
        if not settled.acquire(blocking=False):
            return
        if event and task.handler.wants(event.kind, event.job):
            self.done.append(Delivery(task.handler.name, error))
            _record(event, compose(event), task.handler.name, error)
            task.answer(Delivery(task.handler.name, error))
        # Not before: what is under way is waited for.
        del self._under_way[key]


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
