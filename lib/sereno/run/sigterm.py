"""SIGTERM during a run: an async function is cancelled, a plain one gets `RunInterrupted` at its next chance.

So `finally` blocks run and the run can leave its record. systemd sends SIGTERM when an administrator stops the service,
when the machine goes down, and when the run exceeds its time limit; `TimeoutStopSec=` later it kills. A function that
makes nothing of it, such as one whose threads go on, is left before that: a thread of the run's own sees to the record.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread
from time import monotonic, sleep

from sereno.errors import RunInterrupted as RunInterrupted
from sereno.errors import SerenoError
from sereno.manager.names import service_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from signal import SIG_DFL, SIGTERM, signal
    from typing import Any
else:
    # `signal` itself loads enum, and that takes as long as the rest of the start-up.
    from _signal import SIG_DFL, SIGTERM, signal

# Why a run was stopped, as the manager knows it.
BY_MANAGER, BY_TIMEOUT, BY_OTHERS = "manager", "timeout", "others"
# How long the manager is asked, also while the machine goes down and nobody answers.
_DEADLINE_S = 2.0
# What the record, and telling a monitor, have before TimeoutStopSec= is over.
MARGIN_S = 2.0
_TEMPLATES_STOP_S = 12.0


class Stop:
    """The request to stop, of this process; `with stop:` is the part that it ends.

    Args:
        job_id: of the run; "": nobody is asked for the reason, and nothing is done about a function that goes on.
        environ: what systemctl gets.
        overdue: closes the run and ends the process; called by a thread of its own when the time is nearly over.

    Attributes:
        requested: a SIGTERM came, at any time.
        delivered: it has reached the function.
    """

    def __init__(
        self,
        job_id: str = "",
        environ: Mapping[str, str] = os.environ,
        overdue: Callable[[], object] = lambda: None,
    ) -> None:
        self.requested = False
        self.delivered = False
        self._armed = False
        self._deliver: Callable[[], object] = _raise
        self._job_id, self._environ, self._overdue = job_id, environ, overdue
        self._reason: str | None = None
        self._answer = allocate_lock()
        signal(SIGTERM, self._on_signal)
        # A worker process that the job forks is ended by SIGTERM as always, such as those of a multiprocessing.Pool.
        os.register_at_fork(after_in_child=lambda: signal(SIGTERM, SIG_DFL))

    def _on_signal(self, *_: object) -> None:
        if not self.requested and self._job_id:
            self._answer.acquire()
            try:
                # Python takes the thread that loads this for the main one, and at its end waits for it.
                import threading  # noqa: F401

                start_new_thread(self._watch, ())
            except (ImportError, RuntimeError):
                # No room for another thread.
                self._answer.release()
        self.requested = True
        # A second one changes nothing: the first `finally` block must not be torn by it.
        if self._armed and not self.delivered:
            self.delivered = True
            self._deliver()

    def _watch(self) -> None:
        give_up, stop_s = monotonic(), _TEMPLATES_STOP_S
        try:
            # At once: whoever is asked later may have gone down too.
            self._reason, stop_s = _asked(self._job_id, self._environ)
        except Exception:
            # The job can have left a process in which not even a module can be imported.
            pass
        self._answer.release()
        give_up += stop_s - MARGIN_S
        while (left_s := give_up - monotonic()) > 0:
            sleep(min(left_s, 3_600.0))
        self._overdue()

    def reason(self) -> str | None:
        """Why this run was stopped: one of the constants above, or None if nobody can tell."""
        self._answer.acquire(timeout=_DEADLINE_S)
        return self._reason

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
        signal(SIGTERM, lambda *_: os._exit(status))

    def run(
        self,
        coroutine: Coroutine[Any, Any, Any],
        settle: Callable[[Any, BaseException | None], Any],
    ) -> None:
        """`asyncio.run`, with its task cancelled by the request; `settle` is given the result while the loop runs.

        The loop's end waits for threads, and for tasks that do not let themselves be cancelled.
        """
        try:
            # asyncio costs more than the rest of the start-up together: only a coroutine pays for it.
            import asyncio

            async def cancellable() -> None:
                loop, task = asyncio.get_running_loop(), asyncio.current_task()
                assert task is not None
                # The loop may be asleep in its selector: this wakes it.
                self._deliver = lambda: loop.call_soon_threadsafe(task.cancel)
                try:
                    result = await coroutine
                except BaseException as exception:
                    settle(None, exception)
                else:
                    settle(result, None)

            asyncio.run(cancellable())
        finally:
            self._deliver = _raise
            coroutine.close()


def _raise() -> None:
    raise RunInterrupted


def _asked(job_id: str, environ: Mapping[str, str]) -> tuple[str | None, float]:
    """Why the run is being stopped, and its TimeoutStopSec= in seconds; the template's where nobody can tell."""
    import subprocess

    from sereno.manager.systemctl import Systemctl

    def call(argv: Sequence[str], _: float | None) -> subprocess.CompletedProcess[str]:
        done = None
        # The manager signals the processes of a run one by one until it finds no new one: it may hit systemctl as well.
        while done is None or done.returncode < 0:
            done = subprocess.run(
                argv, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                timeout=give_up - monotonic(), env=environ,
            )  # fmt: skip
        return done

    give_up = monotonic() + _DEADLINE_S
    manager = Systemctl.of_this_process(environ, call)
    try:
        shown = manager.show(service_name(job_id), "ActiveState", "Result", "TimeoutStopUSec")
    except (SerenoError, OSError, subprocess.SubprocessError):
        return None, _TEMPLATES_STOP_S
    stop_s = seconds_of(shown.get("TimeoutStopUSec", ""))
    if shown.get("Result") == "timeout":
        return BY_TIMEOUT, stop_s
    return BY_MANAGER if shown.get("ActiveState") == "deactivating" else BY_OTHERS, stop_s


def seconds_of(span: str) -> float:
    """Seconds of a span as systemctl shows it, "1min 30s" or "infinity"; the template's for what is none."""
    from sereno.manager.systemctl import seconds

    return float("inf") if span == "infinity" else seconds(span) or _TEMPLATES_STOP_S
