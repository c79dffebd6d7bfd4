"""notify.toml → frozen values. Pure but for `load`.

The file names who is told, and how often::

    repeat_after_s = 86400        # a job that keeps failing: one message at first, then one in this time
    [[handler]]
    type = "mail"
    to = ["ops@example.org"]

`SETTINGS`, `COMMON` and `HANDLERS` are the whole language: key → what is allowed and the default. An unknown key is an
error, so that a slip of the pen does not silence a handler.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from sereno.errors import InvalidConfig, NotAllowed, SerenoError, did_you_mean, rights_hint
from sereno.manager.scope import xdg
from sereno.notify.message import ALERT, FAILURE, LOST, RECOVERY, TEST
from sereno.records.files import content
from sereno.records.url import is_http_url

SYSTEM_FILE = "/etc/sereno/notify.toml"
EVENTS = (FAILURE, RECOVERY, ALERT, LOST)
# One address as sendmail's -t reads it from the header; the quoting of RFC 5322 is left out on purpose.
_ADDRESS = re.compile(r"[A-Za-z0-9._%+=/-]+(@[A-Za-z0-9.-]+)?")
_HEADER = re.compile(r"[A-Za-z0-9-]+")


class Kind(NamedTuple):
    """What a key takes: `fits` decides, `text` says so to people; `default` is REQUIRED where there is none."""

    fits: Callable[[Any], bool]
    text: str
    default: Any


REQUIRED = object()


def _number(least: float, most: float, default: float, *types: type) -> Kind:
    types = types or (int, float)
    noun = "a number" if float in types else "a whole number"

    def fits(value: Any) -> bool:
        return type(value) in types and least <= value <= most

    return Kind(fits, f"{noun} from {least} to {most}", default)


def _text(fits: Callable[[str], Any], text: str, default: Any = REQUIRED) -> Kind:
    return Kind(lambda value: isinstance(value, str) and bool(fits(value)), text, default)


def _list(fits: Callable[[str], Any], text: str, default: Any = REQUIRED) -> Kind:
    item = _text(fits, text)
    return Kind(
        lambda value: isinstance(value, list) and value != [] and all(map(item.fits, value)),
        text,
        default,
    )


def _is_line(text: str) -> bool:
    return text.isprintable() and text != ""


def _is_absolute(text: str) -> bool:
    return text.startswith("/") and "\0" not in text


def _are_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _HEADER.fullmatch(name) and isinstance(text, str) and text.isprintable() and text.isascii()
        for name, text in value.items()
    )


_WORDS = _list(lambda word: "\0" not in word, "a list of words, the first an absolute path")
SETTINGS = {
    # A job that keeps failing, or an alert that stays: after the first message at most one in this time.
    "repeat_after_s": _number(60, 366 * 86_400, 86_400),
    # Of a job that fails and recovers all the time: at most so many failures are told in `repeat_after_s`.
    "max_failures": _number(1, 1000, 10, int),
    # Lines of the run's log in a message.
    "log_lines": _number(0, 200, 20, int),
}
COMMON = {
    "name": _text(_is_line, "one line of text", ""),
    "events": _list(EVENTS.__contains__, f"a list of {', '.join(EVENTS)}", list(EVENTS)),
    "jobs": _list(_is_line, "a list of patterns such as 'shop_*'", ["*"]),
    "timeout_s": _number(1, 60, 10),
}
HANDLERS = {
    "command": {
        "command": _WORDS._replace(fits=lambda words: _WORDS.fits(words) and _is_absolute(words[0]))
    },
    "mail": {
        "to": _list(_ADDRESS.fullmatch, "a list of mail addresses"),
        "from": _text(_ADDRESS.fullmatch, "a mail address", None),
        "sendmail": _text(_is_absolute, "an absolute path", "/usr/sbin/sendmail"),
    },
    "webhook": {
        "url": _text(is_http_url, "an http or https URL"),
        "headers": Kind(_are_headers, "a table of header lines", {}),
        "retries": _number(0, 6, 3, int),
    },
    "apprise": {"urls": _list(_is_line, "a list of Apprise URLs")},
}
# What may hold a secret, and so is never shown in an error.
_SECRET = {"url", "urls", "headers", "command"}


@dataclass(frozen=True, slots=True)
class Handler:
    """One way of telling people.

    Attributes:
        name: for the journal; unique in the file.
        type: a key of `HANDLERS`.
        events, jobs: what it is told of: kinds of events, and patterns of job ids (fnmatch).
        timeout_s: limit of one attempt.
        settings: the keys of its type.
    """

    name: str
    type: str
    events: Sequence[str]
    jobs: Sequence[str]
    timeout_s: float
    settings: Mapping[str, Any]

    def wants(self, kind: str, job_id: str) -> bool:
        """Whether it is to be told of an event of this kind; a test is for everybody."""
        return kind == TEST or (kind in self.events and self.is_for(job_id))

    def is_for(self, job_id: str) -> bool:
        return any(fnmatchcase(job_id, pattern) for pattern in self.jobs)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file; see `SETTINGS`."""

    handlers: tuple[Handler, ...]
    repeat_after_s: float
    max_failures: int
    log_lines: int

    def is_recent(self, time_s: float, now_s: float) -> bool:
        # Times in the future (the clock was set back) must not hold messages back for years.
        return 0 <= now_s - time_s < self.repeat_after_s


def load(path: str) -> Config:
    """Read and check a file.

    Raises:
        InvalidConfig: it is not there, no TOML, or has a key or value that cannot be right.
        NotAllowed: the caller may not read it.
        SerenoError: it is no regular file, or no text.
    """
    try:
        text = content(path, follow=True).decode()
    except FileNotFoundError:
        raise InvalidConfig(
            f"{path}: there is no such file", hint="`man sereno-notify` has one to begin with"
        ) from None
    except PermissionError:
        hint = rights_hint(user=path != SYSTEM_FILE)
        raise NotAllowed(f"{path}: no right to read it", hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise SerenoError(f"{path}: {said}") from error
    return parse(text, path)


def parse(text: str, path: str) -> Config:
    """Parse the text of a file; `path` is for messages. Raises InvalidConfig: see `load`."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidConfig(f"{path}: {error}") from error
    tables = document.pop("handler", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InvalidConfig(f"{path}: handler: is not an array of tables", hint="write [[handler]]")
    settings = _checked(document, SETTINGS, path)
    handlers = [_handler(table, f"{path}: handler {n}") for n, table in enumerate(tables, 1)]
    return Config(handlers=_with_names(handlers, path), **settings)


def _handler(table: dict[str, Any], place: str) -> Handler:
    kind = table.pop("type", None)
    if not isinstance(kind, str) or kind not in HANDLERS:
        raise InvalidConfig(
            f"{place}: type: {kind!r} is not one of {', '.join(HANDLERS)}",
            hint=did_you_mean(str(kind), list(HANDLERS)),
        )
    values = _checked(table, {**COMMON, **HANDLERS[kind]}, f"{place} ({kind})")
    return Handler(type=kind, **{key: values.pop(key) for key in COMMON}, settings=values)


def _checked(table: Mapping[str, Any], kinds: Mapping[str, Kind], place: str) -> dict[str, Any]:
    for key in table:
        if key not in kinds:
            raise InvalidConfig(
                f"{place}: {key}: unknown key; known are {', '.join(kinds)}",
                hint=_where(key) or did_you_mean(key, [*kinds]),
            )
    values = {}
    for key, kind in kinds.items():
        value = table.get(key, kind.default)
        if value is REQUIRED:
            raise InvalidConfig(f"{place}: {key}: is missing; it is {kind.text}")
        if key in table and not kind.fits(value):
            shown = "the value" if key in _SECRET else repr(value)
            raise InvalidConfig(f"{place}: {key}: {shown} is not {kind.text}")
        values[key] = value
    return values


def _where(key: str) -> str | None:
    """The way out where a key is a right one in another place: what is below a [[handler]] belongs to that one."""
    if key in SETTINGS:
        return "it goes above the first [[handler]]"
    if key in COMMON:
        return "it goes below a [[handler]]"
    kinds = [kind for kind, keys in HANDLERS.items() if key in keys]
    return f"it is a key of type = {kinds[0]!r}" if kinds else None


def _with_names(handlers: list[Handler], path: str) -> tuple[Handler, ...]:
    """The handlers with the names that were left away: the type, and from the second on a number."""
    taken = {handler.name for handler in handlers if handler.name}
    if len(taken) < sum(bool(handler.name) for handler in handlers):
        raise InvalidConfig(f"{path}: handler: two have the same name")
    named = []
    for handler in handlers:
        name, number = handler.name or handler.type, 1
        while not handler.name and name in taken:
            number += 1
            name = f"{handler.type}-{number}"
        taken.add(name)
        named.append(replace(handler, name=name))
    return tuple(named)


def path_of(user: bool, environ: Mapping[str, str]) -> str:
    """Where a scope's file is: the machine's, or the calling user's own."""
    if not user:
        return SYSTEM_FILE
    home = xdg(environ, "XDG_CONFIG_HOME", Path(os.path.expanduser("~/.config")))
    return str(home / "sereno/notify.toml")
