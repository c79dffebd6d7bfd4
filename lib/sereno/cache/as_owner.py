"""What root wants of a cache that others may write, done by the user whose it is, in a process that has nothing else.

Whoever may write a cache's directory can swap every name in it, cut its files while they are mapped, and put into them
what LMDB trusts and crashes on. So a new interpreter takes over the rights of that user before it looks there, and its
answer is JSON of a bounded size, within a bounded time, which is believed no more than the files are. It has two pipes
and no terminal, nothing of root's environment, one group, and can gain no privileges; nobody but root can trace it.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
import time
from contextlib import suppress

from sereno.cache import damage, locks, place
from sereno.cache.board import CURRENT
from sereno.errors import CacheError, CacheFormatError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USER = "sereno"
WITHIN_S = 4.5
"""For one question, so that a command ends within five seconds: `LOCK_S` for a lock, whose holder is named then; the
rest for starting, and for judging a store of ordinary size."""
LOCK_S = 3.0
MOST_BYTES = 64 << 20
_PR_SET_NO_NEW_PRIVS, _PR_SET_PDEATHSIG, _SIGKILL = 38, 1, 9
_CODE = (
    "import json, sys; asked = json.load(sys.stdin); sys.path[:] = asked['path'];"
    "from sereno.cache.as_owner import answer; answer(asked)"
)
# What a child may answer that it raised.
_ERRORS: dict[str, Any] = {
    kind.__name__: kind for kind in (CacheError, CacheFormatError, UsageError, TypeError)
}
# What is loaded later, and what a key or a value needs: the user need not be able to read it where root runs a checkout
# of his own. Each takes time of every command.
_LOADED_LATER = ("grp", "pwd", "lmdb._envid", "lmdb.verify")
_OF_ENTRIES = ("hashlib", "orjson")
# As `files` and `damage` name them.
DATA = f"{CURRENT}/data.mdb"
INSIDE = (
    CURRENT,
    *(f"{CURRENT}/{name}" for name in ("board", "data.mdb", "lock.mdb", "reserve", "synced")),
    "open.lock",
)
_FIGURES = ("size", "max_size", "hit_rate_percent", "total_requests")


def call(function: str, path: str, *arguments: Any, within_s: float = WITHIN_S) -> Any:
    """`function(path, *arguments)`, here or in a child.

    Args:
        function: "module:function"; takes and returns what JSON can hold.
        path: the cache's directory, which need not be there.
        within_s: seconds for the child.

    Raises:
        CacheError: the cache cannot be used, or the child gave no answer.
        TypeError, UsageError: as `function` raised it.
    """
    user = _user_for(path)
    if user is None:
        return _function(function)(path, *arguments)
    asked = {"user": user, "function": function, "arguments": [path, *arguments]}
    asked["path"] = [each for each in sys.path if os.path.isabs(each)]
    try:
        told = json.loads(_answered(json.dumps(asked).encode(), within_s))
        kind, value, number = told["kind"], told["value"], told.get("errno")
        error = None if kind == "" else _ERRORS[kind]
    except (TimeoutError, ChildProcessError, BrokenPipeError) as why:
        reason = str(why)
    except (ValueError, RecursionError, TypeError, LookupError):
        reason = "no answer of the process that looked"
    else:
        if error is None:
            return value
        raise _refusal(error, path, str(value)[:1000], number)
    raise _refusal(CacheError, path, f"cache {path}: {reason}")


def _refusal(kind: Any, path: str, message: str, number: object = None) -> Any:
    if not issubclass(kind, CacheError):
        return kind(message)
    # An advice is ours, not the child's; nor is it that of `locks`, whose setting this does not obey.
    hint = "end that process" if number == errno.EAGAIN else place.way_out(path)
    return kind(message, hint=hint)


def ask(path: str, name: str, *arguments: Any, within_s: float = WITHIN_S) -> Any:
    """`call` for a method of the cache."""
    return call(f"{__name__}:method", path, name, *arguments, within_s=within_s)


def figures(stats: Any, path: str) -> dict[str, Any]:
    """Of an answer to `get_stats` what is shown of a cache, if it can be that; raises CacheError if not."""
    found = {name: stats.get(name) for name in _FIGURES} if isinstance(stats, dict) else {}
    if not found or not all(
        isinstance(value, int | float) or (name, value) == ("max_size", None)
        for name, value in found.items()
    ):
        raise _refusal(CacheError, path, f"cache {path}: no statistics of the process that looked")
    return found


def method(path: str | None, name: str, *arguments: Any) -> Any:
    """What `ask` has done; path None: of the cache on the server that is set."""
    from sereno.cache import MetadataCache

    cache = MetadataCache(path)
    try:
        if path is None:
            cache.max_size  # noqa: B018  # no answer is an error here, and no miss
        return getattr(cache, name)(*arguments)
    finally:
        cache.close()


def look(path: str) -> dict[str, Any]:
    """Of the files in that directory mode, user and group, and None where there is none; the names of those that were
    set aside; `get_stats`, or why there are none. Nothing is made; damaged files are set aside."""
    found: dict[str, Any] = {
        "inside": {name: status(os.path.join(path, name)) for name in INSIDE},
        "stats": None,
        "error": None,
    }
    if found["inside"][DATA]:
        try:
            found["stats"] = method(path, "get_stats")
        except CacheError as refused:
            found["error"] = refused.message
    return {**found, "damaged": damage.kept(os.listdir(path))}


def status(path: str) -> tuple[int, int, int] | None:
    """Mode, user and group, also of a link; None: it is not there (any more)."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_mode, found.st_uid, found.st_gid


def answer(asked: dict[str, Any]) -> None:
    """What the child does, as root until `_become`."""
    function, arguments = _function(asked["function"]), asked["arguments"]
    has_key = len(arguments) > 2
    for module in _LOADED_LATER + _OF_ENTRIES * has_key:
        with suppress(ModuleNotFoundError):
            importlib.import_module(module)
    # Nobody would read it, and logging takes as long to load as the rest.
    damage.report = lambda *_: None
    _become(*asked["user"])
    try:
        told = {"kind": "", "value": function(*arguments)}
    except tuple(_ERRORS.values()) as error:
        told = {"kind": type(error).__name__, "value": getattr(error, "message", str(error))}
        told["errno"] = getattr(error, "errno", None)
    except Exception as error:
        told = {"kind": "CacheError", "value": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(told))
    sys.stdout.flush()


def _become(uid: int, gid: int) -> None:
    import ctypes

    os.umask(0o077)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # After the change of rights, which takes the second one back.
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(2)")
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or os.getgroups():
        raise PermissionError("the rights of root are not gone")


def _user_for(path: str) -> tuple[int, int] | None:
    """Whose rights are right for the cache in `path`, user and group; None: this process's."""
    if os.geteuid() != place.ROOT:
        return None
    found = _nearest(path)
    if found.st_uid == place.ROOT and not place.is_shared(found):
        return None
    import pwd

    try:
        user = pwd.getpwuid(found.st_uid) if found.st_uid else pwd.getpwnam(USER)
    except KeyError:
        raise CacheError(
            f"cache directory {path}: a group may write there, so root leaves it to the user {USER}, and there is none",
            hint="run it as a member of that group",
        ) from None
    return user.pw_uid, found.st_gid if place.is_shared(found) else user.pw_gid


def _nearest(path: str) -> os.stat_result:
    """Of the directory, or of the one in which it would be made."""
    while True:
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            path = os.path.dirname(path)


def _answered(asked: bytes, within_s: float) -> bytes:
    """
    Raises:
        TimeoutError, ChildProcessError: there is none, for this reason.
    """
    # Not for the child to load.
    import select
    import subprocess

    command = [sys.executable, "-IS", "-c", _CODE]
    pipe, deadline_s = subprocess.PIPE, time.monotonic() + within_s
    child = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL,
        env={locks.SETTING: str(LOCK_S)}, cwd="/", start_new_session=True,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    told = bytearray()
    try:
        child.stdin.write(asked)
        child.stdin.close()
        while True:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([child.stdout], [], [], left_s)[0]:
                raise TimeoutError(f"no answer within {within_s:g} s")
            part = os.read(child.stdout.fileno(), 1 << 20)
            if not part:
                break
            told += part
            if len(told) > MOST_BYTES:
                raise ChildProcessError(f"an answer of more than {MOST_BYTES} bytes")
        status = child.wait(max(0.0, deadline_s - time.monotonic()))
        if status:
            raise ChildProcessError(f"the process that looked ended with status {status}")
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"no answer within {within_s:g} s") from None
    finally:
        child.kill()
        child.stdout.close()
        child.wait()
    return bytes(told)


def _function(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
