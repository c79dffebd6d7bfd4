"""How a run ended: its closing record, and the status that its process ends with."""

from __future__ import annotations

import os

from sereno import journal, messages, stopping
from sereno.errors import SerenoError
from sereno.exits import FAILURE, INTERRUPTED, SUCCESS
from sereno.log import Logger
from sereno.named_tuple import NamedTuple
from sereno.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_MESSAGE_CHARACTERS = 2_000
"""Of the statistics in a message for people; the record's fields have them all."""
MOST_EXCEPTION_CHARACTERS = 64 << 10
_logger = Logger("sereno.runner")


def one_line(text: str) -> str:
    """`text` as one line of at most 500 characters."""
    text = printable(" ".join(text[:MOST_EXCEPTION_CHARACTERS].split()))
    return text if len(text) <= 500 else text[:499] + "…"


def summary(exception: BaseException) -> str:
    """One line: what was raised, and the last place in the job's own code."""
    if isinstance(exception, SerenoError):
        return one_line(exception.message)
    text = one_line(f"{type(exception).__name__}: {_text_of(exception)}")
    text = text.removesuffix(": ").removesuffix(":")
    place = exception.__traceback__
    while place is not None and place.tb_next is not None:
        if place.tb_next.tb_frame.f_code is stopping.HANDLER:
            # This is where SIGTERM met the job.
            break
        place = place.tb_next
    if place is None:
        return text
    code = place.tb_frame.f_code
    return f"{text} ({os.path.basename(code.co_filename)}:{place.tb_lineno}, {code.co_name})"


def _text_of(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception as error:
        return f"<{type(error).__name__}>"


class Ending(NamedTuple):
    """All that the closing record tells."""

    job_id: str
    duration_ms: float
    tries: int
    stats: dict[str, Any] | None
    error: str | None
    exception: BaseException | None

    @property
    def after(self) -> str:
        """How long it took, for people."""
        tries = str(messages.AND_TRIES) % self.tries if self.tries > 1 else ""
        return f"{self.duration_ms:.2f}ms{tries}"

    def fields(self, kind: str, status: str) -> dict[str, Any]:
        return {
            "MESSAGE_ID": kind,
            "SERENO_TRIES": self.tries,
            **error_fields(self.error, self.exception),
            **journal.closing_fields(status, self.duration_ms, self.stats),
        }


def error_fields(error: str | None, exception: BaseException | None) -> dict[str, Any]:
    """Fields of a record that tells of an error."""
    return {
        "SERENO_ERROR": error,
        "EXCEPTION_TEXT": None if exception is None else _traceback(exception),
    }


def close(ending: Ending, *, stopped: bool) -> int:
    """Send the closing record of a run and return its exit status.

    Args:
        stopped: SIGTERM ended it, whatever its function made of that.
    """
    if ending.stats is not None:
        stats, left_out = journal.bounded(ending.stats)
        ending = ending._replace(stats=stats)
        if left_out:
            _logger.warning(
                messages.STATS_LEFT_OUT,
                ending.job_id,
                left_out,
                journal.MOST_STATS,
                journal.MOST_STATS_CHARACTERS,
            )
    if stopped:
        return _interrupted(ending)
    return _finished(ending) if ending.error is None else _failed(ending)


def _finished(ending: Ending) -> int:
    _logger.info(
        messages.FINISHED,
        ending.job_id,
        ending.after,
        "" if ending.stats is None else f": {_shortened(journal.to_json(ending.stats))}",
        extra=ending.fields(journal.FINISHED, "success"),
    )
    return SUCCESS


def _failed(ending: Ending) -> int:
    unexpected = ending.exception is not None and not isinstance(ending.exception, SerenoError)
    _logger.error(
        messages.FAILED,
        ending.job_id,
        ending.after,
        ending.error,
        # In the journal the traceback is a field beside a message of one line; on stderr it follows the message.
        exc_info=ending.exception if unexpected and not journal.is_connected() else None,
        extra=ending.fields(journal.FAILED, "failed"),
    )
    return FAILURE


def _interrupted(ending: Ending) -> int:
    """A run that exceeded its time limit has failed, for systemd and so here; the others were stopped."""
    reason = stopping.reason(ending.job_id)
    if reason == stopping.BY_TIMEOUT:
        error = str(messages.OVER_TIME_LIMIT) % (ending.error or "SIGTERM")
        return _failed(ending._replace(error=error))
    _logger.warning(
        messages.INTERRUPTED,
        ending.job_id,
        ending.after,
        "" if ending.error is None else f": {ending.error}",
        extra=ending.fields(journal.INTERRUPTED, "interrupted"),
    )
    # A signal that the manager did not send, as of an early out-of-memory daemon, is a failure to be told of.
    return FAILURE if reason == stopping.BY_OTHERS else INTERRUPTED


def _traceback(exception: BaseException) -> str:
    from traceback import format_exception

    text = "".join(format_exception(exception))
    half = MOST_EXCEPTION_CHARACTERS // 2
    return text if len(text) <= 2 * half else f"{text[:half]}\n…\n{text[-half:]}"


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_MESSAGE_CHARACTERS else f"{text[:MOST_MESSAGE_CHARACTERS]}…"
