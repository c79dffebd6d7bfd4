"""One run of a job: log, call, time, classify, exit status.

This is the whole of sereno that a run needs beside the job's own module, so it imports little, and late.
Exit statuses (`sereno.exits`): 0 done; 1 the job failed (it raised, `SystemExit` included, returned something else than
a dict or None, or its dict has an `error` key or `status: error`; with retries: in each try); 2 wrong use; 77 left out;
143 stopped by SIGTERM.
"""

from __future__ import annotations

import gc
import io
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from importlib import import_module

from sereno import journal, messages, stopping
from sereno.ending import Ending, close, error_fields, one_line, summary
from sereno.errors import InvalidJob
from sereno.exits import INTERRUPTED, SKIPPED, SUCCESS, WRONG_USE
from sereno.log import Logger
from sereno.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sereno.retry import Retry

_logger = Logger("sereno.runner")


def main(job_id: str, function: str) -> int:
    """Run "module:name" once as the job `job_id` and return the process's exit status."""
    try:
        return _main(job_id, function)
    finally:
        _empty_outputs()


def _main(job_id: str, function: str) -> int:
    run_id = os.environ.get("INVOCATION_ID") or os.urandom(16).hex()
    _prepare(job_id, run_id)
    # What is loaded by now stays to the end. That no collection goes through it, the last one above all, saves a tenth
    # of a short run. Not later: what the job makes is collected as ever.
    gc.freeze()
    start_s, start = time.time(), time.perf_counter()
    misfires = None
    if "SERENO_MISFIRE_GRACE_S" in os.environ:
        # It starts other programs: only a job that wants it pays for it.
        from sereno.misfire import of_this_run

        misfires = of_this_run(job_id)
        if misfires is not None and misfires.skips(start_s):
            return SKIPPED
    if "SERENO_ONLY_IF_SUCCESS" in os.environ:
        from sereno import predecessors

        if predecessors.skips(job_id):
            return SKIPPED
    heartbeat = None
    if os.environ.get("SERENO_PING_URL") or os.environ.get("SERENO_PING_URL_FILE"):
        from sereno.heartbeat import of_this_run as heartbeat_of

        heartbeat = heartbeat_of(job_id, run_id, os.environ)
    try:
        status = _run(job_id, function)
        if status == SUCCESS:
            _wake_notifier(job_id, run_id)
        elif status == INTERRUPTED:
            # Somebody waits for the end.
            return status
        _note_interval_overrun(job_id, time.perf_counter() - start)
        end_s = time.time()
        if _may_have_elapsed(start_s, end_s):
            from sereno.misfire import of_this_run

            misfires = misfires or of_this_run(job_id)
            if misfires is not None:
                misfires.note_overrun(start_s, end_s)
    finally:
        if heartbeat is not None:
            heartbeat.finish()
    return status


def _prepare(job_id: str, run_id: str) -> None:
    """Where the words of this process go."""
    journal.set_up(job_id, run_id)
    textfile_dir = os.environ.get("SERENO_TEXTFILE_DIR")
    if textfile_dir:
        from sereno.metrics import record_run

        record_run(job_id, textfile_dir)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The journal's stream is no terminal: what is printed would come in blocks, and be lost when a run is killed.
        sys.stdout.reconfigure(line_buffering=True)


class _Try(NamedTuple):
    """How one try ended: `error` is None for a success."""

    stats: dict[str, Any] | None
    error: str | None
    exception: BaseException | None


def _run(job_id: str, function: str) -> int:
    stop = stopping.Stop()
    _logger.info(messages.STARTED, job_id, extra={"MESSAGE_ID": journal.STARTED})
    start = time.perf_counter()
    retry = _retry(job_id)
    tries = 1
    while True:
        tried = _try(function, stop)
        # What cannot be imported, or returns what it may not, does so again.
        last = retry is None or tries > retry.retries or isinstance(tried.exception, InvalidJob)
        if tried.error is None or stop.requested or last or retry is None:
            break
        if not _wait(job_id, stop, tries, retry, tried):
            break
        tries += 1
    duration_ms = (time.perf_counter() - start) * 1000
    stopped = stop.delivered or (stop.requested and tried.error is not None)
    status = close(Ending(job_id, duration_ms, tries, *tried), stopped=stopped)
    stop.end_with(status)
    return status


def _empty_outputs() -> None:
    """Flush what the job printed. Where nobody takes it, Python would end with 120 and hide the run's own status."""
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (AttributeError, ValueError):
            # None, or closed: there is nothing to flush.
            pass
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _try(function: str, stop: stopping.Stop) -> _Try:
    stats = None
    try:
        with stop:
            stats = call(load(function), stop, _kwargs())
            return _Try(stats, failure_in(stats), None)
    except BaseException as exception:
        if isinstance(exception, KeyboardInterrupt):
            raise
        return _Try(stats, summary(exception), exception)


def _kwargs() -> Mapping[str, Any]:
    try:
        return json.loads(os.environ.get("SERENO_KWARGS", "{}"))  # type: ignore[no-any-return]
    except ValueError as error:
        raise InvalidJob(
            f"SERENO_KWARGS: {error}", hint="systemctl cat the service: it is JSON"
        ) from error


def _retry(job_id: str) -> Retry | None:
    if "SERENO_RETRIES" not in os.environ:
        return None
    from sereno.retry import retry_of

    try:
        return retry_of(os.environ)
    except ValueError as error:
        _logger.warning(messages.NO_RETRIES, job_id, error)
        return None


def _wait(job_id: str, stop: stopping.Stop, tries: int, retry: Retry, tried: _Try) -> bool:
    """Record a failed try and wait for the next one; False if the run was stopped meanwhile."""
    delay_s = retry.delay_before_s(tries)
    _logger.warning(
        messages.TRY_FAILED,
        job_id,
        tries,
        retry.retries + 1,
        delay_s,
        tried.error,
        extra={
            "MESSAGE_ID": journal.TRY_FAILED,
            "SERENO_TRY": tries,
            "SERENO_RETRY_DELAY_S": f"{delay_s:g}",
            **error_fields(tried.error, tried.exception),
        },
    )
    try:
        with stop:
            time.sleep(delay_s)
    except stopping.RunInterrupted:
        return False
    return True


def load(function: str) -> Callable[..., Any]:
    """Import the function that "module:name" means.

    Raises:
        InvalidJob: it cannot be imported; the message says what was tried.
    """
    module_name, _, name = function.partition(":")
    try:
        return getattr(import_module(module_name), name)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise InvalidJob(
            f"function: {function!r} cannot be imported by {sys.executable}: {error}",
            hint="the module must be on this interpreter's path; register the job again if it has moved",
        ) from error


def call(
    function: Callable[..., Any], stop: stopping.Stop, kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Call a plain or async job function.

    Raises:
        InvalidJob: it returned something else than a dict or None.
    """
    result = function(**kwargs)
    if isinstance(result, Coroutine):
        result = stop.run(result)
    if result is not None and not isinstance(result, dict):
        raise InvalidJob(
            f"result: the function returned {type(result).__name__}, not a dict of statistics or None"
        )
    return result


def failure_in(stats: dict[str, Any] | None) -> str | None:
    """The error that a job reports in its statistics, or None."""
    if stats is None or not (stats.get("status") == "error" or stats.get("error") is not None):
        return None
    return one_line(str(stats.get("error") or stats.get("message") or "status: error"))


def _wake_notifier(job_id: str, run_id: str) -> None:
    """Have a success told that follows a failure, or that raised alerts; any other costs one stat(2)."""
    states = os.environ.get("SERENO_NOTIFY_STATE")
    if states and (journal.alerts or os.path.exists(f"{states}/{job_id}.failing")):
        from sereno.notify.wake import wake

        wake(job_id, run_id)


def _note_interval_overrun(job_id: str, duration_s: float) -> None:
    interval = os.environ.get("SERENO_INTERVAL_S", "")
    if interval.isdigit() and duration_s > int(interval):
        _logger.warning(
            messages.OVERRUN_INTERVAL,
            job_id,
            duration_s,
            interval,
            extra={"MESSAGE_ID": journal.OVERRUN},
        )


def _may_have_elapsed(start_s: float, end_s: float) -> bool:
    """Whether a whole step of the job's calendar lies in the run; between two of them its timer cannot elapse."""
    step = os.environ.get("SERENO_CALENDAR_STEP_S", "")
    return step.isdigit() and int(step) > 0 and start_s // int(step) < end_s // int(step)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("usage: python -m sereno.runner JOB MODULE:FUNCTION", file=sys.stderr)
        sys.exit(WRONG_USE)
    sys.exit(main(*sys.argv[1:]))
