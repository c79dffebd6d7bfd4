"""Values as strict JSON, on orjson.

Strict: what comes back equals what went in, type for type. orjson alone would turn a NaN into null, a tuple into a
list and a UUID into text without a word.

orjson is imported at the first value, not with this module: the import takes longer than all else that a cleanup
does, and a cleanup needs no value. Never pickle: a cache file that one user writes and another reads must not be able
to run code.
"""

from __future__ import annotations

from _thread import RLock

from sereno.errors import CacheFormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Json = Any
    """None, bool, int of 64 bits, finite float, str, list of these, dict of these with str keys."""
else:
    # For tools that evaluate the annotations of a backend's endpoint.
    Json = object

_FAITHFUL = frozenset((str, int, bool, type(None)))
"""Of exactly these types orjson refuses what JSON cannot hold, and changes nothing."""

_dumps: Callable[[Any, None, int], bytes] | None = None
_strict = 0
_loads: Callable[[bytes], Any] | None = None
loading = RLock()
"""Held while orjson is loaded; a fork waits for it."""


def encode(value: Json, name: str = "value") -> bytes:
    """`value` as UTF-8 JSON text.

    Raises:
        TypeError: JSON cannot hold it; names the offending part, its type and where in `name` it stands.
    """
    if _dumps is None or _loads is None:
        _load_orjson()
        return encode(value, name)
    try:
        text = _dumps(value, None, _strict)
    except TypeError as error:
        raise TypeError(_explain(value, name) or f"{name}: {error}") from None
    if type(value) in _FAITHFUL:
        return text
    # Reading it back is 3 times faster than walking the value in Python, and sees every silent change.
    back = _loads(text)
    if back != value or type(back) is not type(value):
        raise TypeError(_explain(value, name) or f"{name}: JSON does not give back what went in")
    return text


def decode(text: bytes) -> Json:
    """The value, new at each call, so that its owner may change it.

    Raises:
        CacheFormatError: it is no JSON: not from here.
    """
    if _loads is None:
        _load_orjson()
        return decode(text)
    try:
        return _loads(text)
    except ValueError as error:
        raise CacheFormatError(
            f"cache: {short(text)} is no JSON, so sereno did not store it: {error}"
        ) from None


def decoder() -> Callable[[bytes], Any]:
    """`decode`; once orjson is loaded the function behind it, for a caller that counts nanoseconds."""
    return _loads or decode


def _load_orjson() -> None:
    global _dumps, _loads, _strict
    with loading:
        import orjson

    _strict = (
        orjson.OPT_PASSTHROUGH_SUBCLASS
        | orjson.OPT_PASSTHROUGH_DATACLASS
        | orjson.OPT_PASSTHROUGH_DATETIME
    )
    _loads, _dumps = orjson.loads, orjson.dumps


def _explain(value: Any, where: str, depth: int = 0) -> str | None:
    """Names the first part of `value` that JSON cannot hold, or None when there is none."""
    kind = type(value)
    if value is None or kind is bool:
        return None
    if kind is int:
        fits = -(1 << 63) <= value < 1 << 64
        return None if fits else f"{where}: int {short(value)} does not fit into 64 bits"
    if kind is float:
        finite = value - value == 0
        return None if finite else f"{where}: float {value!r} is not JSON (finite numbers only)"
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{where}: str {short(value)} is not Unicode text (lone surrogate)"
        return None
    if depth > 250:
        return f"{where[:80]}…: nested too deeply, or in a circle (at most 250 levels)"
    if kind is list:
        reasons = (_explain(item, f"{where}[{at}]", depth + 1) for at, item in enumerate(value))
        return next(filter(None, reasons), None)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return f"{where}: key {short(key)} of type {_name(type(key))} is not JSON (str keys only)"
        reasons = (
            _explain(key, f"{where}: key", depth + 1)
            or _explain(item, f"{where}[{short(key)}]", depth + 1)
            for key, item in value.items()
        )
        return next(filter(None, reasons), None)
    return f"{where}: {short(value)} of type {_name(kind)} is not JSON (None, bool, int, float, str, list, dict)"


def _name(kind: type) -> str:
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = "<no repr>"
    return text if len(text) <= 60 else text[:57] + "..."
