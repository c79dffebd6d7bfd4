"""One run of a job: log, call, time, classify, exit status.

This is the whole of sereno that a run needs beside the job's own module, so it imports little, and late.
Exit statuses (`sereno.errors`): 0 done; 1 the job failed (it raised, returned something else than a dict or None, or
its dict has an `error` that is true or `status: error`; with retries: in each try); 2 wrong use; 77 left out; 143
stopped by SIGTERM. `sys.exit()` and `sys.exit(0)` are a success without statistics.
"""

from __future__ import annotations

import faulthandler
import io
import os
import sys
from time import sleep, time

from sereno.errors import SUCCESS, InvalidJob
from sereno.records import journal, messages, sending
from sereno.records.log import Logger
from sereno.run import sigterm
from sereno.run.closing import Run, Tried
from sereno.setting_names import (
    CALENDAR_STEP_S,
    INTERVAL_S,
    KWARGS,
    MISFIRE_GRACE_S,
    ONLY_IF_SUCCESS,
    RETRY_DELAY_S,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from signal import ITIMER_REAL, setitimer
    from typing import Any

    from sereno.declare.retry import Retry
else:
    # What these are behind their names: collections and enum take as long to load as all else that a run does.
    from _collections_abc import Coroutine
    from _signal import ITIMER_REAL, setitimer

_logger = Logger("sereno.runner")


def _prepare(job_id: str, run_id: str, counts: bool) -> None:
    """Where the words of this process go."""
    journal.set_up(job_id, run_id, connected=counts)
    # Of a crash that is not Python's, the journal has the frames.
    faulthandler.enable(2)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The journal's stream is no terminal: what is printed would come in blocks, and be lost when a run is killed.
        sys.stdout.reconfigure(line_buffering=True)


def _skipped(job_id: str, start_s: float) -> tuple[str, dict[str, str]] | None:
    """Text and fields of the record of a run that is to be left out; None: it is to run."""
    skipped = None
    if MISFIRE_GRACE_S in os.environ:
        # It starts other programs: only a job that wants it pays for it.
        from sereno.run.lateness import Misfires

        skipped = Misfires(job_id).skip(start_s)
    if skipped is None and ONLY_IF_SUCCESS in os.environ:
        from sereno.run import only_if_success

        skipped = only_if_success.skip(job_id)
    return skipped


def _run(run: Run, retry: Retry | None) -> int:
    """The tries of a run, and its end."""
    stop = sigterm.Stop(run.job_id if run.counts else "", run.environ, lambda: run.be_overdue(stop))
    run.begin()

    def close(tried: Tried) -> None:
        stopped = stop.delivered or (stop.requested and tried.error is not None)
        stop.end_with(run.end(tried, stop.reason() if stopped else None, stopped=stopped))

    def settle(result: Any, exception: BaseException | None) -> Tried:
        """Close the run, unless another try follows."""
        if run.is_in_a_child() or (isinstance(exception, KeyboardInterrupt) and not run.counts):
            # A child that the job has forked, or Ctrl-C at a terminal: it ends as any process does.
            raise exception or SystemExit(SUCCESS)
        run.note_end_of_try()
        run.take_back_environment()
        sending.make_room()
        # An alarm that the job has set, and not taken back, is not to ring in what is no longer the job.
        setitimer(ITIMER_REAL, 0)
        tried = _judged(result, exception, run.function)
        # What cannot be imported, or returns what it may not, does so again.
        hopeless = tried.error is None or isinstance(tried.exception, InvalidJob)
        if hopeless or stop.requested or retry is None or run.tries > retry.retries:
            close(tried)
        return tried

    while True:
        tried = _try(run.function, stop, settle)
        if run.status is None and (retry is None or not _wait(run, stop, retry, tried)):
            close(tried)
        if run.status is not None:
            return run.status
        run.tries += 1


def _try(
    function: str, stop: sigterm.Stop, settle: Callable[[Any, BaseException | None], Tried]
) -> Tried:
    """Call the function; `settle` is given what it returned or raised, of a coroutine while its loop still runs."""
    settled: list[Tried] = []

    def settle_once(result: Any, exception: BaseException | None) -> None:
        if not settled:
            settled.append(settle(result, exception))

    result = None
    try:
        with stop:
            result = load(function)(**_kwargs())
            if isinstance(result, Coroutine):
                stop.run(result, settle_once)
    except BaseException as exception:
        settle_once(None, exception)
    settle_once(result, None)
    return settled[0]


def _judged(result: Any, exception: BaseException | None, function: str) -> Tried:
    if exception is None:
        try:
            if result is not None and not isinstance(result, dict):
                name = type(result).__name__
                raise InvalidJob(
                    f"result: the function returned {name}, not a dict of statistics or None"
                )
            stats = None if result is None else dict(journal.plain(result))
            return Tried(stats, failure_in(stats))
        except Exception as broken:
            exception = broken
    if isinstance(exception, SystemExit) and exception.code in (None, 0):
        return Tried(None, None)
    try:
        from sereno.run.failure import summary

        return Tried(None, summary(exception, function), exception)
    except Exception:
        # Such as one for which there is no memory.
        return Tried(None, type(exception).__name__, exception)


def failure_in(stats: Mapping[str, Any] | None) -> str | None:
    """The error that a job reports in its statistics, or None."""
    if stats is None or not (stats.get("status") == "error" or stats.get("error")):
        return None
    from sereno.run.failure import one_line

    return one_line(str(stats.get("error") or stats.get("message") or "status: error"))


def _empty_outputs() -> None:
    """Flush what the job printed. Where nobody takes it, Python would end with 120 and hide the run's own status."""
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        except Exception:
            # None, closed, or an object of the job's: there is nothing to flush.
            pass


def _kwargs() -> Mapping[str, Any]:
    given = os.environ.get(KWARGS)
    if given is None:
        return {}
    import json

    try:
        return json.loads(given)  # type: ignore[no-any-return]
    except ValueError as error:
        raise InvalidJob(
            f"{KWARGS}: {error}", hint="systemctl cat the service: it is JSON"
        ) from error


def _wait(run: Run, stop: sigterm.Stop, retry: Retry, tried: Tried) -> bool:
    """Record a failed try and wait for the next one; False if the run was stopped meanwhile."""
    delay_s = retry.delay_before_s(run.tries)
    told = (run.job_id, run.tries, retry.retries + 1, delay_s, tried.error)
    _logger.warning(
        messages.TRY_FAILED,
        *told,
        extra={
            "SERENO_TRY": run.tries,
            RETRY_DELAY_S: f"{delay_s:g}",
            **run.error_fields(tried.error, tried.exception),
        },
    )
    try:
        with stop:
            sleep(delay_s)
    except sigterm.RunInterrupted:
        return False
    return True


def load(function: str) -> Callable[..., Any]:
    """Import the function that "module:name" means.

    Raises:
        InvalidJob: it cannot be imported; the message says what was tried.
    """
    module_name, _, name = function.partition(":")
    try:
        __import__(module_name)
        return getattr(sys.modules[module_name], name)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise InvalidJob(
            f"function: {function!r} cannot be imported by {sys.executable}: {error}",
            hint="the module must be on this interpreter's path; register the job again if it has moved",
        ) from error


def _note_overruns(run: Run, start_s: float) -> None:
    """Record that the run was longer than its interval, or that its timer elapsed meanwhile."""
    interval, duration_s = os.environ.get(INTERVAL_S, ""), run.duration_s
    if interval.isdigit() and duration_s > int(interval):
        told = (run.job_id, duration_s, interval)
        _logger.warning(messages.OVERRUN_INTERVAL, *told)
    end_s = time()
    if _may_have_elapsed(start_s, end_s):
        from sereno.run.lateness import Misfires

        Misfires(run.job_id).note_overrun(start_s, end_s)


def _may_have_elapsed(start_s: float, end_s: float) -> bool:
    """Whether a whole step of the job's calendar lies in the run; between two of them its timer cannot elapse."""
    step = os.environ.get(CALENDAR_STEP_S, "")
    return step.isdigit() and int(step) > 0 and start_s // int(step) < end_s // int(step)
