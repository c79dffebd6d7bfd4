"""Messages on their way, by all handlers at once, with a record in the journal for each: it left, or why not.

No handler waits for another, and none's failure stops another. What waits for one is told in one message where it is
much of a kind. All of it has one deadline, for systemd kills what takes longer than its limit, and then nothing would
tell what did not leave.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import inf
from queue import SimpleQueue
from threading import Condition, Thread
from traceback import extract_tb
from typing import Any, NamedTuple

from sereno.notify.config import Handler
from sereno.notify.message import ALERT, FAILURE, LOST, RECOVERY, TEST, Event, compose, compose_all
from sereno.notify.senders import DeliveryError, send
from sereno.records import messages
from sereno.records.log import Logger

# A thousand jobs may fail of one cause, and have ten handlers.
_MOST_UNDER_WAY = 10_000
# So many events of a kind have a message each; more that wait for a handler share one.
MOST_ALONE = 3
_logger = Logger("sereno.notify")


class Delivery(NamedTuple):
    """How one handler did: `error` is None when it took the message."""

    handler: str
    error: str | None


class Task(NamedTuple):
    """An event for a handler.

    Attributes:
        due: gives the event as it is to be told when the handler gets to it, None: it is not to be told any more.
        done: is called with it when the handler has taken it, or does not want such events.
        answer: is called with what became of it.
    """

    handler: Handler
    event: Event
    due: Callable[[Event], Event | None] = lambda event: event
    done: Callable[[Event], Any] = lambda event: None
    answer: Callable[[Delivery], Any] = lambda delivery: None


# A task and its key.
Waiting = tuple[object, Task]


class Deliveries:
    """Events on their way; each handler tells them one after the other, or many at once.

    Args:
        deadline_s: what has not left by then (time.monotonic) never does.
        send: as `senders.send`; tests put their own here.
        gather_s: how long a handler waits for more of what comes first.
    """

    def __init__(
        self, deadline_s: float, send: Callable[..., None] = send, gather_s: float = 0.0
    ) -> None:
        self._deadline_s, self._send, self._gather_s = deadline_s, send, gather_s
        self._queues: dict[str, SimpleQueue[Waiting]] = {}
        self._under_way: dict[object, Task] = {}
        self._unsettled, self._one_is_over = set[object](), Condition()
        self.done: list[Delivery] = []

    def start(self, task: Task) -> bool:
        """Have it told when the handler gets to it; False: one of the same waits for that already."""
        event, name = task.event, task.handler.name
        key = name, event.kind, event.job, event.alert, event.run if event.kind == TEST else ""
        if key in self._under_way:
            return False
        self._under_way[key] = task
        self._unsettled.add(key)
        if len(self._under_way) > _MOST_UNDER_WAY:
            self._settle(key, task, event, "too many messages wait to leave")
            return True
        if name not in self._queues:
            self._queues[name] = SimpleQueue()
            Thread(target=self._tell_all, args=[self._queues[name]], daemon=True).start()
        self._queues[name].put((key, task))
        return True

    @property
    def are_over(self) -> bool:
        return not self._under_way

    def wait(self, limit_s: float = inf) -> bool:
        """Wait until all have left or failed to, or the deadline has come; False: `limit_s` was over before."""
        with self._one_is_over:
            self._one_is_over.wait_for(lambda: self.are_over, min(self._left_s(), limit_s))
        if not self._left_s():
            for key, task in list(self._under_way.items()):
                self._settle(key, task, task.event, "it did not leave in time")
        return self.are_over

    def _left_s(self) -> float:
        return max(self._deadline_s - time.monotonic(), 0.0)

    def _tell_all(self, queue: SimpleQueue[Waiting]) -> None:
        while True:
            waiting = [queue.get()]
            if waiting[0][1].event.kind != TEST:
                time.sleep(min(self._gather_s, self._left_s()))
            while not queue.empty():
                waiting.append(queue.get())
            for group in _groups(waiting):
                if self._left_s():
                    self._tell(group)

    def _tell(self, group: Sequence[Waiting]) -> None:
        handler, error = group[0][1].handler, None
        events: dict[object, Event | None] = {key: task.event for key, task in group}
        try:
            events = {key: task.due(task.event) for key, task in group}
            wanted = [one for one in events.values() if one and handler.wants(one.kind, one.job)]
            if wanted:
                pause = partial(self._pause, [task for _, task in group])
                self._send(handler, compose_all(wanted), pause=pause, left_s=self._left_s)
        except DeliveryError as failure:
            error = str(failure)
        except Exception as failure:
            # Its text may be a URL with its secrets.
            place = extract_tb(failure.__traceback__)[-1]
            error = f"{type(failure).__name__} ({place.filename}:{place.lineno})"
            _logger.error(messages.HANDLER_BROKE, handler.name)
        for key, task in group:
            if (event := events[key]) and error is None:
                task.done(event)
            self._settle(key, task, event, error)

    def _pause(self, tasks: Sequence[Task], seconds: float) -> None:
        time.sleep(min(seconds, self._left_s()))
        if all(task.due(task.event) is None for task in tasks):
            raise DeliveryError("a later event was told before it")

    def _settle(self, key: object, task: Task, event: Event | None, error: str | None) -> None:
        """Record what became of it, once."""
        try:
            self._unsettled.remove(key)
        except KeyError:
            return
        if event and task.handler.wants(event.kind, event.job):
            delivery = Delivery(task.handler.name, error)
            self.done.append(delivery)
            _record(event, delivery)
            task.answer(delivery)
        # Not before: what is under way is waited for.
        with self._one_is_over:
            del self._under_way[key]
            self._one_is_over.notify_all()


def _groups(waiting: Sequence[Waiting]) -> Iterator[Sequence[Waiting]]:
    """What a handler tells in one message each. Whether a recovery is due depends on the failures told before it."""
    for kind in (FAILURE, RECOVERY, ALERT, LOST, TEST):
        of_kind = [each for each in waiting if each[1].event.kind == kind]
        alone = kind == TEST or len(of_kind) <= MOST_ALONE
        yield from [[each] for each in of_kind] if alone else [of_kind]


def _record(event: Event, delivery: Delivery) -> None:
    (handler, error), subject = delivery, compose(event).subject
    fields = {**fields_of(event), "SERENO_HANDLER": handler}
    if error is None:
        _logger.info(messages.DELIVERED, handler, subject, extra=fields)
    else:
        fields["SERENO_ERROR"] = error
        _logger.error(messages.NOT_DELIVERED, handler, error, subject, extra=fields)


def fields_of(event: Event) -> dict[str, str]:
    """The journal's fields of whatever is recorded about an event."""
    return {"SERENO_JOB": event.job, "SERENO_RUN": event.run, "SERENO_EVENT": event.kind}
