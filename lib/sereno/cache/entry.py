"""What is stored, as bytes: values as strict JSON, keys as LMDB takes them, and an entry.

Strict: what comes back equals what went in, type for type. orjson alone would turn a NaN into null, a tuple into a
list and a UUID into text without a word. It is imported at the first value, not with this module: the import takes
longer than all else that a cleanup does, and a cleanup needs no value. Never pickle: a cache file that one user writes
and another reads must not be able to run code.

An entry::

    expiry in ms, u64 | sequence number, u64 | bytes of the long key, u32 | long key | value | CRC-32, u32

all little-endian. The header is read without the value, so neither cleanup nor eviction decodes one. The CRC covers
the store's key and the whole record: a value from a damaged page, or found under another key, is never handed out.

LMDB takes keys of 1 to 511 bytes. A longer one is stored under its first 470 bytes, the byte FF, which UTF-8 never
uses, and a digest, so that it keeps its place among the keys with the same prefix; the whole key stands in the record.

The empty key is F8, no byte of UTF-8, and behind all others. Above it stand what is no entry: records under FD and a
name, and under FE and a sequence number, big-endian, the keys in the order in which they came.
"""

from __future__ import annotations

import struct
from _thread import RLock
from zlib import crc32

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


class Damaged(Exception):
    """The files cannot be what sereno wrote; `str()` says what is wrong."""


HEADER = struct.Struct("<QQI")
HEADER_BYTES = HEADER.size
CRC_BYTES = 4
OVERHEAD_BYTES = HEADER_BYTES + CRC_BYTES

MAX_KEY_BYTES = 511
"""LMDB's limit as it is compiled into the wheels (mdb_env_get_maxkeysize)."""
KEPT_BYTES = 470
_LONG = b"\xff"
EMPTY = b"\xf8"
RECORD = b"\xfd"
ORDER = b"\xfe"
order_key = struct.Struct(">cQ").pack

INTACT = 0x2144DF1C
"""CRC-32 of any bytes followed by their own CRC-32 (little-endian), whatever it was started with."""

unpack_header = HEADER.unpack_from
expiry_and_sequence = struct.Struct("<QQ").unpack_from


def store_key(key: str) -> bytes:
    """The key under which LMDB keeps `key`.

    Raises:
        TypeError: `key` is not a str.
    """
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        raw = utf8(key)
    except AttributeError:
        raw = None
    if type(raw) is not bytes:
        raise TypeError(f"key: {short(key)} of type {type(key).__qualname__}, a str is needed")
    return raw if 0 < len(raw) <= MAX_KEY_BYTES else _unusual(raw)


def utf8(text: str) -> bytes:
    """`text` as UTF-8, lone surrogates too: any str can be a key."""
    return text.encode("utf-8", "surrogatepass")


def is_intact(stored: bytes, record: bytes) -> bool:
    """Is that the record that was stored under that key?"""
    return len(record) >= OVERHEAD_BYTES and crc32(record, crc32(stored)) == INTACT


def intact(stored: bytes, record: bytes) -> bytes:
    """The record, or Damaged when it is not what was stored under that key."""
    if is_intact(stored, record):
        return record
    raise Damaged(f"the record of key {repr(stored[:80])[1:]} has a wrong checksum")


def needs_long_key(stored: bytes) -> bool:
    """Does the record of this store key carry the whole key?"""
    return len(stored) > KEPT_BYTES and stored[KEPT_BYTES : KEPT_BYTES + 1] == _LONG


def pack(stored: bytes, key: str, expiry_ms: int, sequence: int, value: bytes, start: int) -> bytes:
    """The record of an entry; `start` is the CRC-32 of `stored`."""
    if len(stored) > KEPT_BYTES and needs_long_key(stored):
        long_key = utf8(key)
        body = HEADER.pack(expiry_ms, sequence, len(long_key)) + long_key + value
    else:
        body = HEADER.pack(expiry_ms, sequence, 0) + value
    return body + crc32(body, start).to_bytes(4, "little")


def value_of(record: bytes) -> bytes:
    long_bytes = HEADER.unpack_from(record)[2]
    return record[HEADER_BYTES + long_bytes : -CRC_BYTES]


def key_bytes(stored: bytes, record: bytes | memoryview) -> bytes:
    """The key as UTF-8, from the store's key and the record."""
    if stored == EMPTY:
        return b""
    if not needs_long_key(stored):
        return stored
    long_bytes = HEADER.unpack_from(record)[2]
    return bytes(record[HEADER_BYTES : HEADER_BYTES + long_bytes])


def key_text(stored: bytes, record: bytes | memoryview) -> str:
    return key_bytes(stored, record).decode("utf-8", "surrogatepass")


def size_bytes(stored: bytes, record_bytes: int) -> int:
    """What an entry holds: the bytes of its key and its value, without sereno's own."""
    if len(stored) > KEPT_BYTES and needs_long_key(stored):
        return record_bytes - OVERHEAD_BYTES
    return (0 if stored == EMPTY else len(stored)) + record_bytes - OVERHEAD_BYTES


def _unusual(raw: bytes) -> bytes:
    if not raw:
        return EMPTY
    from hashlib import blake2b

    return raw[:KEPT_BYTES] + _LONG + blake2b(raw, digest_size=32).digest()
