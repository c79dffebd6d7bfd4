"""What a failed try says of its exception: one line with the place in the job's own code, the traceback, a way out.

A run loads it when something has gone wrong. Nothing in it may go wrong itself: exceptions are the job's objects too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from sereno.errors import SerenoError
from sereno.records.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

MOST_EXCEPTION_CHARACTERS = 64 << 10
_MOST_LEAVES = 3
_INSTALLED = ("/site-packages/", "/dist-packages/")


def one_line(text: str) -> str:
    """`text` as one line of at most 500 characters."""
    return printable(" ".join(text[:MOST_EXCEPTION_CHARACTERS].split()), 500)


def summary(exception: BaseException, function: str = "") -> str:
    """One line: what was raised, of a group its leaves, and the last place in the job's own code.

    Args:
        function: the job's, as "module:name"; its package is the job's own wherever it is installed.
    """
    if isinstance(exception, SerenoError):
        message = exception.message
        # Without the two lines that point at a place in a text: there is no below on one line.
        return one_line(message.rsplit("\n", 2)[0] if message.endswith("^") else message)
    leaves = list(_leaves(exception))
    texts = [_named(leaf) for leaf in leaves[:_MOST_LEAVES]]
    if len(leaves) > _MOST_LEAVES:
        texts.append(f"{len(leaves) - _MOST_LEAVES} more")
    text = one_line("; ".join(texts))
    place = _place(leaves[0], function) or _place(exception, function)
    return f"{text} ({place})" if place else text


def traceback_of(exception: BaseException) -> str:
    """The traceback, without its middle where it is too long for a record."""
    try:
        from traceback import format_exception

        text = "".join(format_exception(exception))
    except Exception as error:
        # Such as an import by a path that the job has emptied.
        return f"{_named(exception)}\n<no traceback: {_named(error)}>"
    half = MOST_EXCEPTION_CHARACTERS // 2
    return text if len(text) <= 2 * half else f"{text[:half]}\n…\n{text[-half:]}"


def chain(exception: BaseException) -> Iterator[BaseException]:
    """The leaves of an exception, each followed by what it was raised from or during: libraries wrap the cause."""
    for leaf in _leaves(exception):
        seen: list[BaseException] = []
        cause: BaseException | None = leaf
        while cause is not None and cause not in seen and len(seen) < 20:
            yield cause
            seen.append(cause)
            cause = cause.__cause__ or cause.__context__


def place_in(frame: FrameType | None, function: str) -> str:
    """Where a thread stands: "jobs.py:12, poll", the innermost place of `frame` in the job's own code, or ""."""
    while frame is not None:
        if _is_own(frame, function):
            return _shown(frame, frame.f_lineno)
        frame = frame.f_back
    return ""


def _leaves(exception: BaseException) -> Iterator[BaseException]:
    if isinstance(exception, BaseExceptionGroup) and exception.exceptions:
        for one in exception.exceptions:
            yield from _leaves(one)
    else:
        yield exception


def _named(exception: BaseException) -> str:
    try:
        text = str(exception)
    except Exception as error:
        text = f"<{type(error).__name__}>"
    return f"{type(exception).__name__}: {text}".removesuffix(": ")


def _place(exception: BaseException, function: str) -> str:
    """The last place in the job's own code that the exception came through, or ""."""
    place, step = "", exception.__traceback__
    while step is not None:
        if _is_own(step.tb_frame, function):
            place = _shown(step.tb_frame, step.tb_lineno)
        step = step.tb_next
    return place


def _shown(frame: FrameType, line: int) -> str:
    code = frame.f_code
    return f"{os.path.basename(code.co_filename)}:{line}, {code.co_name}"


def _is_own(frame: FrameType, function: str) -> bool:
    """Whether it is the job's own code: of its package, or neither Python's, sereno's nor an installed library's."""
    package = _package(str(frame.f_globals.get("__name__", "")))
    if package == _package(function.partition(":")[0]):
        return True
    # "__main__" is the entry script.
    if package in ("sereno", "__main__") or package in sys.stdlib_module_names:
        return False
    return not any(place in frame.f_code.co_filename for place in _INSTALLED)


def _package(module: str) -> str:
    """The package of a module; of sereno the jobs are one of their own."""
    return "sereno.jobs" if module.startswith("sereno.jobs.") else module.partition(".")[0]
