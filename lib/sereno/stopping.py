"""SIGTERM during a run: an async function is cancelled, a plain one gets `RunInterrupted` at its next chance.

So `finally` blocks run and the run can leave its record. systemd sends SIGTERM when an administrator stops the service,
when the machine goes down, and when the run exceeds its time limit; `TimeoutStopSec=` later it kills.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence

from sereno.errors import RunInterrupted as RunInterrupted
from sereno.errors import SerenoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Why a run was stopped, as the manager knows it.
BY_MANAGER, BY_TIMEOUT, BY_OTHERS = "manager", "timeout", "others"
# The record must be written before TimeoutStopSec= is over, also while the machine goes down and nobody answers.
_DEADLINE_S = 2.0


class Stop:
    """The request to stop, of this process; `with stop:` is the part that it ends.

    Attributes:
        requested: a SIGTERM came, at any time.
        delivered: it has reached the function.
    """

    def __init__(self) -> None:
        self.requested = False
        self.delivered = False
        self._armed = False
        self._deliver: Callable[[], object] = _raise
        signal.signal(signal.SIGTERM, self._on_signal)
        # A worker process that the job forks is ended by SIGTERM as always, such as those of a multiprocessing.Pool.
        os.register_at_fork(after_in_child=_die)

    def _on_signal(self, *_: object) -> None:
        self.requested = True
        # A second one changes nothing: the first `finally` block must not be torn by it.
        if self._armed and not self.delivered:
            self.delivered = True
            self._deliver()

    def __enter__(self) -> None:
        self._armed = True
        if self.requested:
            self.delivered = True
            raise RunInterrupted

    def __exit__(self, *_: object) -> None:
        self._armed = False

    def end_with(self, status: int) -> None:
        """The record is sent: from now on SIGTERM ends the process at once, and with the run's own status.

        Such as one that a thread of the job keeps alive, or that waits for a dead monitor.
        """
        signal.signal(signal.SIGTERM, lambda *_: os._exit(status))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """`asyncio.run`, with its task cancelled by the request."""
        try:
            # asyncio costs more than the rest of the start-up together: only a coroutine pays for it.
            import asyncio

            async def cancellable() -> Any:
                loop, task = asyncio.get_running_loop(), asyncio.current_task()
                assert task is not None
                # The loop may be asleep in its selector: this wakes it.
                self._deliver = lambda: loop.call_soon_threadsafe(task.cancel)
                return await coroutine

            return asyncio.run(cancellable())
        finally:
            self._deliver = _raise
            coroutine.close()


# In a traceback, what follows is no longer the job.
HANDLER = Stop._on_signal.__code__


def _die() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise() -> None:
    raise RunInterrupted


def reason(job_id: str) -> str | None:
    """Why this run was stopped: one of the constants above, or None if nobody can tell."""
    if "INVOCATION_ID" not in os.environ:
        return None
    import subprocess

    from sereno.systemctl import Systemctl

    def call(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        done = None
        # The manager signals the processes of a run one by one until it finds no new one: it may hit systemctl as well.
        while done is None or done.returncode < 0:
            done = subprocess.run(
                argv, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                timeout=give_up - time.monotonic(),
            )  # fmt: skip
        return done

    give_up = time.monotonic() + _DEADLINE_S
    # systemd.exec(5): $MANAGERPID is set by a user's manager only.
    manager = Systemctl(user="MANAGERPID" in os.environ, call=call)
    try:
        shown = manager.show(f"sereno@{job_id}.service", "ActiveState", "Result")
    except (SerenoError, OSError, subprocess.SubprocessError):
        return None
    if shown.get("Result") == "timeout":
        return BY_TIMEOUT
    return BY_MANAGER if shown.get("ActiveState") == "deactivating" else BY_OTHERS
