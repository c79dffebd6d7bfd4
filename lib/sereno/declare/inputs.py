"""`Inputs`: what a run is given, arguments, environment and the like, as a validated value. Pure."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sereno.declare.access import PATH_RULE, is_absolute
from sereno.errors import InvalidJob
from sereno.records.url import is_http_url
from sereno.setting_names import CACHE_URL

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# systemd's env_value_is_valid(): UTF-8, and no control character but tabs and line breaks.
_NO_VALUE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
# systemd's credential_name_valid() takes more; these need no thought in a path or a unit file.
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
# systemd gives these to the run, and sereno reads some of them; a value in a unit file would stand in their place.
_OF_SYSTEMD = {
    *("CREDENTIALS_DIRECTORY", "INVOCATION_ID", "JOURNAL_STREAM", "MAINPID", "MANAGERPID"),
    *("NOTIFY_SOCKET", "SYSTEMD_EXEC_PID"),
}
# The settings of sereno that are for everybody; the others are how the drop-in speaks to the run.
_PUBLIC = re.compile(r"SERENO_(?:ALERT_[A-Z_]+|CACHE_DIR|CACHE_URL)")
_UMASK = re.compile(r"0?[0-7]{3}")
# A process can be given no more in one variable (execve(2), MAX_ARG_STRLEN: 128 KiB), the name included.
_MOST_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run is given.

    Attributes:
        kwargs_json: `kwargs` as one line of ASCII JSON; "": none.
        environment, credentials: (name, value or path) pairs. The manager reads the file of a credential when the run
            starts (LoadCredential=).
        ping_url, ping_url_file: where a monitor's check is called (`sereno.run.heartbeat`), or the first line of a
            file; if anywhere.
    """

    kwargs_json: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    credentials: tuple[tuple[str, str], ...] = ()
    umask: str | None = None
    working_directory: str | None = None
    ping_url: str | None = None
    ping_url_file: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.environment:
            _check_variable(name, value)
        for name, path in self.credentials:
            _check_credential(name, path)
        # Not numbers: 27 and 0o27 are both meant as 0027, and nothing tells them apart.
        if self.umask is not None and not (
            isinstance(self.umask, str) and _UMASK.fullmatch(self.umask)
        ):
            raise InvalidJob(f"umask: {self.umask!r} is not a mask of file modes", hint="as '0027'")
        for field, given, what in (
            ("working_directory", self.working_directory, "a directory"),
            ("ping_url_file", self.ping_url_file, "a file with the URL"),
        ):
            if given is not None and not can_be_loaded(given):
                raise InvalidJob(f"{field}: {given!r} is not the path of {what}", hint=PATH_RULE)
        if self.ping_url is not None and self.ping_url_file is not None:
            raise InvalidJob("ping_url: given together with ping_url_file; give one of them")
        if self.ping_url is not None and not is_http_url(self.ping_url):
            raise InvalidJob(
                f"ping_url: {self.ping_url!r} is not an http or https URL",
                hint="such as https://hc-ping.com/ and the check's UUID",
            )

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments of the function."""
        found: dict[str, Any] = json.loads(self.kwargs_json or "{}")
        return found


def path(_: str, given: object) -> object:
    """A path as text; what is none as it is."""
    return os.fspath(given) if isinstance(given, os.PathLike) else given


def pairs(field: str, given: object) -> tuple[tuple[str, object], ...]:
    """What a mapping has, by name."""
    return tuple(sorted(_mapping(field, given)))


def files(field: str, given: object) -> tuple[tuple[str, object], ...]:
    """What a mapping of names to paths has, by name."""
    return tuple((name, path(field, file)) for name, file in pairs(field, given))


def _mapping(field: str, given: object) -> Collection[tuple[str, object]]:
    if given is None:
        return ()
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InvalidJob(f"{field}: {given!r} is not a mapping with names as its keys")
    return given.items()


def to_json(field: str, given: object) -> str:
    """JSON that gives a mapping back: what it would change (tuples, keys that are numbers) is refused."""
    kwargs = dict(_mapping(field, given))
    if not kwargs:
        return ""
    for name, value in kwargs.items():
        try:
            # Not by "==", for which OrderedDict() is {} and a member of an IntEnum its number.
            same = repr(json.loads(json.dumps(value, allow_nan=False))) == repr(value)
        except (TypeError, ValueError, RecursionError):
            same = False
        if not same:
            raise InvalidJob(
                f"{field}: {name}={value!r} is not what JSON can hold",
                hint="None, True, False, finite numbers, text, and lists and dicts (with text as keys) of these",
            )
    # DEL is the one control character that JSON does not escape and systemd does not take.
    text = json.dumps(kwargs, ensure_ascii=True, sort_keys=True).replace("\x7f", "\\u007f")
    if len(text) > _MOST_BYTES:
        raise InvalidJob(
            f"{field}: {len(text)} bytes as JSON are more than {_MOST_BYTES}",
            hint="give the path of a file instead",
        )
    return text


def _check_variable(name: str, value: object) -> None:
    if not _VARIABLE.fullmatch(name):
        raise InvalidJob(
            f"environment: {name!r} is not a name of a variable",
            hint="ASCII letters, digits and '_', not starting with a digit",
        )
    if name in _OF_SYSTEMD or (name.startswith("SERENO_") and not _PUBLIC.fullmatch(name)):
        raise InvalidJob(f"environment: {name!r} is a variable that systemd or sereno sets itself")
    if not isinstance(value, str):
        raise InvalidJob(f"environment: {name}={value!r} is not text")
    if _NO_VALUE.search(value):
        raise InvalidJob(
            f"environment: {name}={value!r} is not text that a variable of a unit can hold",
            hint="UTF-8 without control characters other than tabs and line breaks",
        )
    if name == CACHE_URL and "@" in value:
        raise InvalidJob(
            f"environment: {name} has a password, and every user of the machine can read units",
            hint='credentials={"sereno_cache_url": "/path/of/a/file/with/it"}',
        )
    if len(value.encode()) > _MOST_BYTES:
        raise InvalidJob(f"environment: {name} has more than {_MOST_BYTES} bytes")


def _check_credential(name: str, path: object) -> None:
    if not _CREDENTIAL.fullmatch(name):
        raise InvalidJob(
            f"credentials: {name!r} is not a name of a credential",
            hint="ASCII letters, digits, '_', '-' and '.', not starting with '-' or '.'",
        )
    if not can_be_loaded(path):
        raise InvalidJob(
            f"credentials: {name}={path!r} is not the path of a file with the secret",
            hint=f"{PATH_RULE}; the secret itself does not belong into a registration",
        )


def can_be_loaded(path: object) -> bool:
    """Whether LoadCredential= and WorkingDirectory= take that path: they strip blanks."""
    return is_absolute(path) and path == path.strip() and not path.endswith("\\")
