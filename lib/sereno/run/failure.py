"""What a failed try says of its exception: one line with the place in the job's own code, the traceback, a way out.

A run loads it when something has gone wrong. Nothing in it may go wrong itself: exceptions are the job's objects too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from errno import EACCES, EAFNOSUPPORT, ENOENT, EPERM, EROFS

from sereno.errors import SerenoError
from sereno.records.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

MOST_EXCEPTION_CHARACTERS = 64 << 10
_MOST_LEAVES = 3
_INSTALLED = ("/site-packages/", "/dist-packages/")
NETWORK = "the sandbox has no network: network=True where the job is added"
NO_HOME = "the run's user has no home: environment={'HOME': '/tmp'} gives it one while it runs, or home=True"
HOMES_HIDDEN = "the sandbox hides homes: home='read-only' or home=True where the job is added"
ROOT = "root without capabilities may no more than any owner of files: user= of who owns it"
# Of getaddrinfo(3), the kernel and C libraries, however a library wraps them.
_NETWORK_WORDS = (
    *("Address family not supported", "Network is unreachable"),
    *("Temporary failure in name resolution", "Name or service not known"),
)
# What ProtectHome= hides.
_HOMES = ("/home", "/root", "/run/user")


def one_line(text: str) -> str:
    """`text` as one line of at most 500 characters."""
    return printable(" ".join(text[:MOST_EXCEPTION_CHARACTERS].split()), 500)


def summary(exception: BaseException, function: str = "") -> str:
    """One line: what was raised, of a group its leaves, and the last place in the job's own code.

    The package of `function`, "module:name", is the job's own wherever it is installed.
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


def hint_for(exception: BaseException, *, sandboxed: bool) -> str | None:
    """What helps against an exception, in one line; None where nothing is known. Where things fail that work in a
    terminal, it is judged by what this process can do, not by what its unit says: administrators change units too.

    Not `sandboxed`, the process is no run: then only what the exception says itself.
    """
    for error in chain(exception):
        hint = error.hint if isinstance(error, SerenoError) else None
        if isinstance(error, ImportError) and hint is None:
            hint = _of_another_python(error)
        if hint is None and sandboxed:
            hint = _of_sandbox(error)
        if hint is not None:
            return one_line(hint)
    return None


def _of_another_python(error: ImportError) -> str | None:
    """Of a module that is not found, or not in its package, while its file has the name of another Python's."""
    from _imp import extension_suffixes

    name, words = error.name if isinstance(error.name, str) else "", str(error).split("'")
    if words[0] == "cannot import name " and len(words) > 1:
        name = f"{name}.{words[1]}"
    *packages, leaf = name.split(".")
    own = {leaf + suffix for suffix in extension_suffixes()}
    for place in sys.path if leaf else ():
        try:
            directory = os.path.join(place or ".", *packages)
            found = sorted(os.listdir(directory))
        except (OSError, ValueError, TypeError):
            continue
        for file in found:
            if file.startswith(f"{leaf}.") and file.endswith(".so") and file not in own:
                version = "{}.{}".format(*sys.version_info)
                path = os.path.join(directory, file)
                return f"{path} is of another Python than {version}: make the environment of {sys.executable} again"
    return None


def _of_sandbox(error: BaseException) -> str | None:
    if any(words in str(error) for words in _NETWORK_WORDS):
        return NETWORK if _has_no_network() else None
    if not isinstance(error, OSError):
        return None
    path = error.filename if isinstance(error.filename, str) else ""
    if error.errno == EROFS:
        if path.startswith("/.") and os.path.expanduser("~") == "/":
            return NO_HOME
        while len(path) > 1 and not os.path.isdir(path):
            path = os.path.dirname(path)
        path = path if len(path) > 1 else "/var/lib/…"
        return f"the sandbox is read-only there: write_paths=[{path!r}] where the job is added"
    if error.errno in (ENOENT, EACCES) and _is_hidden(path):
        return HOMES_HIDDEN
    if error.errno in (EPERM, EACCES) and os.geteuid() == 0 and _has_no_capabilities():
        return ROOT
    return None


def _has_no_network() -> bool:
    from _socket import AF_INET, SOCK_DGRAM, socket

    try:
        socket(AF_INET, SOCK_DGRAM).close()
    except OSError as error:
        return error.errno == EAFNOSUPPORT
    return False


def _is_hidden(path: str) -> bool:
    """Whether it is in a home, over which the sandbox has put its directory that nobody may enter."""
    homes = [home for home in _HOMES if f"{path}/".startswith(f"{home}/") and os.path.exists(home)]
    return any(os.stat(home).st_mode & 0o777 == 0 for home in homes)


def _has_no_capabilities() -> bool:
    with open("/proc/self/status", "rb") as file:
        return b"\nCapEff:\t0000000000000000\n" in file.read()
