"""One run of a job: log, call, time, classify, exit status.

This is the whole of sereno that a run needs beside the job's own module, so it imports little, and late.
Exit statuses: 0 done; 1 the job failed (it raised, `SystemExit` included, returned something else than a dict or None,
or its dict has an `error` key or `status: error`); 2 wrong use.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

from sereno import journal
from sereno.errors import InvalidJob, SerenoError

SUCCESS, FAILURE, WRONG_USE = 0, 1, 2
_logger = logging.getLogger("sereno.runner")


def main(job_id: str, function: str) -> int:
    """Run "module:name" once as the job `job_id` and return the process's exit status."""
    run_id = os.environ.get("INVOCATION_ID") or uuid.uuid4().hex
    journal.set_up(job_id, run_id)
    start_s, start = time.time(), time.perf_counter()
    misfires = None
    if "SERENO_MISFIRE_GRACE_S" in os.environ:
        # It starts other programs: only a job that wants it pays for it.
        from sereno.misfire import of_this_run

        misfires = of_this_run(job_id)
        if misfires is not None and misfires.skips(start_s):
            return SUCCESS
    status = _run(job_id, function)
    _note_interval_overrun(job_id, time.perf_counter() - start)
    end_s = time.time()
    if _may_have_elapsed(start_s, end_s):
        from sereno.misfire import of_this_run

        misfires = misfires or of_this_run(job_id)
        if misfires is not None:
            misfires.note_overrun(start_s, end_s)
    return status


def _run(job_id: str, function: str) -> int:
    _logger.info("Tarea %s iniciada", job_id, extra={"MESSAGE_ID": journal.STARTED})
    start = time.perf_counter()
    stats = None
    try:
        stats = call(load(function))
        error = failure_in(stats)
    except (Exception, SystemExit) as exception:
        return _failed(job_id, start, stats, summary(exception), exception)
    if error is not None:
        return _failed(job_id, start, stats, error, None)
    duration_ms = (time.perf_counter() - start) * 1000
    _logger.info(
        "Tarea %s terminada en %.2fms%s",
        job_id,
        duration_ms,
        "" if stats is None else f": {journal.to_json(stats)}",
        extra={
            "MESSAGE_ID": journal.FINISHED,
            **journal.closing_fields("success", duration_ms, stats),
        },
    )
    return SUCCESS


def load(function: str) -> Callable[[], Any]:
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


def call(function: Callable[[], Any]) -> dict[str, Any] | None:
    """Call a plain or async job function.

    Raises:
        InvalidJob: it returned something else than a dict or None.
    """
    result = function()
    if isinstance(result, Coroutine):
        # asyncio costs more than the rest of the start-up together: only a coroutine pays for it.
        from asyncio import run

        result = run(result)
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


def one_line(text: str) -> str:
    """`text` as one line of at most 500 characters."""
    text = " ".join(text.split())
    return text if len(text) <= 500 else text[:499] + "…"


def summary(exception: BaseException) -> str:
    """One line: what was raised, and the last place in the job's own code."""
    if isinstance(exception, SerenoError):
        return exception.message
    text = one_line(f"{type(exception).__name__}: {exception}").removesuffix(":")
    place = exception.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return text
    code = place.tb_frame.f_code
    return f"{text} ({os.path.basename(code.co_filename)}:{place.tb_lineno}, {code.co_name})"


def _failed(
    job_id: str,
    start: float,
    stats: dict[str, Any] | None,
    error: str,
    exception: BaseException | None,
) -> int:
    duration_ms = (time.perf_counter() - start) * 1000
    unexpected = exception is not None and not isinstance(exception, SerenoError)
    _logger.error(
        "Tarea %s fallida tras %.2fms: %s",
        job_id,
        duration_ms,
        error,
        # In the journal the traceback is a field beside a message of one line; on stderr it follows the message.
        exc_info=exception if unexpected and not journal.is_connected() else None,
        extra={
            "MESSAGE_ID": journal.FAILED,
            "SERENO_ERROR": error,
            "EXCEPTION_TEXT": None if exception is None else _traceback(exception),
            **journal.closing_fields("failed", duration_ms, stats),
        },
    )
    return FAILURE


def _note_interval_overrun(job_id: str, duration_s: float) -> None:
    interval = os.environ.get("SERENO_INTERVAL_S", "")
    if interval.isdigit() and duration_s > int(interval):
        _logger.warning(
            "Tarea %s solapada: duró %.2fs, más que su intervalo de %ss",
            job_id,
            duration_s,
            interval,
            extra={"MESSAGE_ID": journal.OVERRUN},
        )


def _may_have_elapsed(start_s: float, end_s: float) -> bool:
    """Whether a whole step of the job's calendar lies in the run; between two of them its timer cannot elapse."""
    step = os.environ.get("SERENO_CALENDAR_STEP_S", "")
    return step.isdigit() and int(step) > 0 and start_s // int(step) < end_s // int(step)


def _traceback(exception: BaseException) -> str:
    from traceback import format_exception

    return "".join(format_exception(exception))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("usage: python -m sereno.runner JOB MODULE:FUNCTION", file=sys.stderr)
        sys.exit(WRONG_USE)
    sys.exit(main(*sys.argv[1:]))
