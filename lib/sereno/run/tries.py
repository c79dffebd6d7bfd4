"""The tries of a run: call the job's function, judge what it gave, and try again where the job wants it."""

from __future__ import annotations

import os
import sys
from time import monotonic, sleep

from sereno.errors import SUCCESS, InvalidJob, MissingPackage
from sereno.records import journal, messages, sending
from sereno.records.log import Logger
from sereno.records.printable import printable
from sereno.run import sigterm
from sereno.run.closing import Run, Tried
from sereno.setting_names import KWARGS, RETRY_DELAY_S

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


def try_to_the_end(run: Run, stop: sigterm.Stop, retry: Retry | None) -> int:
    """Try until the run has ended, and return its exit status."""

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


class _AsJson:
    """What `_json` parses by: what json.loads goes by if it is told nothing."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_int, parse_float, parse_constant = int, float, float


def _kwargs() -> Mapping[str, Any]:
    given = os.environ.get(KWARGS)
    if given is None:
        return {}
    try:
        # `json` itself takes as long to load as all else that a short run does.
        from _json import make_scanner

        value, end = make_scanner(_AsJson)(given, 0)  # type: ignore[arg-type]
        if end == len(given):
            return value  # type: ignore[no-any-return]
    except Exception:
        # No JSON, or written by others, or a Python without that module: `json` reads it, or says what is wrong.
        pass
    import json

    try:
        return json.loads(given)  # type: ignore[no-any-return]
    except ValueError as error:
        raise InvalidJob(
            f"{KWARGS}: {error}", hint="systemctl cat the service: it is JSON"
        ) from error


def load(function: str) -> Callable[..., Any]:
    """Import the function that "module:name" means; `InvalidJob` that says what was tried if that cannot be."""
    module_name, _, name = function.partition(":")
    try:
        __import__(module_name)
        return getattr(sys.modules[module_name], name)  # type: ignore[no-any-return]
    except MissingPackage:
        raise
    except (ImportError, AttributeError) as error:
        hint = (
            "the module must be on this interpreter's path, where the run's user may read it:"
            " `sereno doctor`; register the job again if it has moved"
        )
        if isinstance(error, AttributeError):
            hint = "register the job again if its function has another name now"
        raise InvalidJob(
            f"function: {function!r} cannot be imported by {sys.executable}: {error}", hint=hint
        ) from error


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
        # There is no memory, or nothing can be imported any more.
        error = type(exception).__name__
        try:
            error = printable(f"{error}: {exception}", 500)
        except Exception:
            pass
        return Tried(None, error, exception)


def failure_in(stats: Mapping[str, Any] | None) -> str | None:
    """The error that a job reports in its statistics, or None."""
    if stats is None or not (stats.get("status") == "error" or stats.get("error")):
        return None
    from sereno.run.failure import one_line

    return one_line(str(stats.get("error") or stats.get("message") or "status: error"))


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
            # In pieces: a signal that comes between Python's last look for one and a sleep is heeded after that.
            until_s = monotonic() + delay_s
            while (left_s := until_s - monotonic()) > 0:
                sleep(min(left_s, 1))
    except sigterm.RunInterrupted:
        return False
    return True
