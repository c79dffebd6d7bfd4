"""What the processes of a cache on a server have counted: each tells the server its own, at most once a second."""

from __future__ import annotations

import time
from _thread import allocate_lock

from sereno.cache.board import COUNTERS, EVICTIONS, EXPIRED_REMOVALS
from sereno.cache.fleet.layout import MARK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sereno.cache.fleet.connection import Connection
    from sereno.cache.fleet.wire import Command

_EVERY_S = 1.0


class Counters:
    """`line` is where this process counts, in the order of `board.COUNTERS`; `key`, where the server has the sums."""

    def __init__(self, connection: Connection, key: bytes, line: memoryview[int]) -> None:
        self._connection, self.key, self.line = connection, key, line
        self._sent = [0] * (len(COUNTERS) + 1)
        self._send_at_s, self._sending = 0.0, allocate_lock()

    def ask(self, commands: Any, *, again: bool) -> list[Any]:
        """`Connection.ask`; what is to be told goes along."""
        if time.monotonic() < self._send_at_s or not self._sending.acquire(blocking=False):
            return self._connection.ask(commands, again=again)
        try:
            self._send_at_s = time.monotonic() + _EVERY_S
            line = self.line.tolist()[: len(self._sent)]
            told = self._untold(line)
            try:
                return self._connection.ask(commands, again=again, told=told)
            finally:
                if not told:
                    self._sent = line
        finally:
            self._sending.release()

    def _untold(self, line: list[int]) -> list[Command]:
        return [
            (b"HINCRBY", self.key, name.encode(), line[at] - self._sent[at])
            for at, name in enumerate(COUNTERS, 1)
            if line[at] != self._sent[at] and at not in (EVICTIONS, EXPIRED_REMOVALS)
        ]

    def tell_at_once(self) -> None:
        """With the next question, however short ago the last time was."""
        self._send_at_s = 0.0

    def leave_to_parent(self) -> None:
        """In a forked process: what the parent has counted, the parent tells."""
        self._sent, self._sending = self.line.tolist()[: len(self._sent)], allocate_lock()

    def mark(self, name: str, info: dict[str, str]) -> Command:
        """Keeps the sums of now under `name`; the reply has all that is kept."""
        pairs = [each for name, value in _of_the_server(info) for each in (name.encode(), value)]
        return MARK.command(self.key, name.encode(), *pairs)

    def since(self, name: str, kept: Any, info: dict[str, str]) -> dict[str, int]:
        """What was counted since `name` was marked; kept: the reply of the server to HGETALL, or to `mark`."""
        pairs = kept.items() if isinstance(kept, dict) else zip(kept[::2], kept[1::2], strict=True)
        sums = {each.decode(): int(value) for each, value in pairs} | dict(_of_the_server(info))
        return {
            each: max(0, sums.get(each, 0) - sums.get(f"{name}:{each}", 0)) for each in COUNTERS
        }


def _of_the_server(info: dict[str, str]) -> list[tuple[str, int]]:
    return [
        ("evictions", int(info["evicted_keys"])),
        ("expired_removals", int(info["expired_keys"])),
    ]
