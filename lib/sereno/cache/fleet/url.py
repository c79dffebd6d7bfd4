"""The URL of a cache server: text → `Address`. Pure; no error, and no `repr`, has its password."""

from __future__ import annotations

import math
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from sereno.errors import UsageError
from sereno.setting_names import CACHE_URL

TLS_SCHEMES = ("valkeys", "rediss")
SCHEMES = ("valkey", "valkeys", "redis", "rediss", "unix")
PORT = 6379
TIMEOUT_S = 0.25
_FILES = ("ca", "cert", "key")
_PARAMETERS = ("ns", "max_stale", "timeout", "db", *_FILES)
_NS_BYTES = 100


class Address:
    """Where a cache server is, and as whom it is asked.

    Attributes:
        path: of a unix socket; "": `host` and `port`.
        tls: the connection is one of TLS; `files` names `ca`, `cert`, `key` where they are given.
        username, password: None: the server asks for none.
        ns: what all keys begin with.
        max_stale_s: how old what this process keeps for itself may be; 0: every read asks the server.
        timeout_s: for connecting and for an answer.
        public: the URL without username, password and files.
    """

    def __init__(self, url: str) -> None:
        parts = _split(url)
        self.tls = parts.scheme in TLS_SCHEMES
        user, _, place = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        self.username = unquote(name) or None
        self.password = unquote(password) if password else None
        if self.username and self.password is None:
            raise _wrong("password", "there is a user and no password", "valkey://user:password@…")
        asked = _parameters(parts.query)
        if parts.scheme == "unix":
            self.path, self.host, self.port = unquote(parts.path), "", 0
            database = asked.get("db", "0")
            if place or not self.path.startswith("/"):
                raise _wrong("socket", "no absolute path", "unix:///run/valkey/valkey.sock")
        else:
            self.path = ""
            self.host, self.port = _host_and_port(parts)
            database = parts.path.removeprefix("/") or "0"
            if "db" in asked:
                raise _wrong("db", "it stands in the path", "valkey://host:6379/0")
        if not database.isdecimal() or len(database) > 5:
            raise _wrong("database", f"{database!r} is not its number", "valkey://host:6379/0")
        self.database = int(database)
        self.files = {name: asked[name] for name in _FILES if name in asked}
        if self.files and not self.tls:
            raise _wrong(next(iter(self.files)), "it is for TLS", "valkeys://…")
        self.ns = asked.get("ns", "sereno")
        if not 0 < len(self.ns.encode()) <= _NS_BYTES or not self.ns.isprintable():
            raise _wrong("ns", f"not 1 to {_NS_BYTES} printable bytes", "ns=sereno")
        self.max_stale_s = _seconds(asked, "max_stale", 0.0, 0.0)
        self.timeout_s = _seconds(asked, "timeout", TIMEOUT_S, 0.001)
        where = self.path or f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
        self.public = f"{parts.scheme}://{where}{'?db=' if self.path else '/'}{self.database}"

    def __repr__(self) -> str:
        return f"<Address {self.public}>"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _wrong(
            "host", "it has a bracket that is not closed", "valkey://[::1]:6379/0"
        ) from None
    if not url.isprintable():
        raise _wrong("text", "it has a character that cannot be printed", "percent-encode it: %0A")
    if parts.scheme not in SCHEMES or "://" not in url:
        raise _wrong("scheme", f"none of {', '.join(SCHEMES)}", "valkey://host:6379/0")
    if "#" in url or "@" in parts.path or "@" in parts.query:
        raise _wrong(
            "password", "it has one of / ? # @ as it is", "percent-encode it: %2F %3F %23 %40"
        )
    return parts


def _host_and_port(parts: SplitResult) -> tuple[str, int]:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise _wrong("port", "not a number from 1 to 65535", "valkey://host:6379/0")
    if not parts.hostname:
        raise _wrong("host", "there is none", "valkey://host:6379/0")
    host = unquote(parts.hostname)
    try:
        host.encode("idna")  # as the resolver does
    except UnicodeError:
        host = ""
    if not host or "\0" in host:
        raise _wrong("host", "no name that can be looked up", "valkey://host:6379/0")
    return host, port or PORT


def _parameters(query: str) -> dict[str, str]:
    asked: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _PARAMETERS or name in asked:
            why = "it stands there twice" if name in asked else f"none of {', '.join(_PARAMETERS)}"
            raise _wrong(f"parameter {name[:40]!r}", why, "valkey://host:6379/0?max_stale=0.3")
        asked[name] = value
    return asked


def _seconds(asked: dict[str, str], name: str, default: float, least: float) -> float:
    try:
        value = float(asked.get(name, default))
    except ValueError:
        value = math.nan
    if not least <= value <= 60:
        raise _wrong(
            name, f"{asked[name]!r} is not a number of seconds from {least:g} to 60", f"{name}=0.3"
        )
    return value


def _wrong(field: str, why: str, right: str) -> UsageError:
    return UsageError(f"{CACHE_URL}: {field}: {why}", hint=f"for instance {right}")
