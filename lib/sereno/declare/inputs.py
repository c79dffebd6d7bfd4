"""`Inputs`: what a run is given, arguments, environment and the like, as a validated value. Pure."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sereno.errors import InvalidJob

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# systemd's credential_name_valid() takes more; these need no thought in a path or a unit file.
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
# systemd gives these to the run, and sereno reads some of them; a value in a unit file would stand in their place.
_OF_SYSTEMD = {
    *("CREDENTIALS_DIRECTORY", "INVOCATION_ID", "JOURNAL_STREAM", "MAINPID", "MANAGERPID"),
    *("NOTIFY_SOCKET", "SYSTEMD_EXEC_PID"),
}
# The settings of sereno that are for everybody; the others are how the drop-in speaks to the run.
_PUBLIC = re.compile(r"SERENO_(?:ALERT_[A-Z_]+|CACHE_DIR)")
_UMASK = re.compile(r"0?[0-7]{3}")
PATH_RULE = "an absolute path without '..', '//' and control characters"
# A process can be given no more in one variable (execve(2), MAX_ARG_STRLEN: 128 KiB), the name included.
_MOST_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run is given.

    Attributes:
        kwargs_json: the keyword arguments of the function as one line of ASCII JSON; "": none.
        environment: (name, value) pairs. Everybody on the machine can read them (`systemctl show`).
        credentials: (name, path) pairs: the file at the absolute path is read by the manager when the run starts, and
            the run alone finds it as $CREDENTIALS_DIRECTORY/name (LoadCredential=).
        umask: octal digits (UMask=); None: the template's.
        working_directory: absolute path (WorkingDirectory=); None: the template's, which is the root directory.
    """

    kwargs_json: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    credentials: tuple[tuple[str, str], ...] = ()
    umask: str | None = None
    working_directory: str | None = None

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
        if self.working_directory is not None and not can_be_loaded(self.working_directory):
            raise InvalidJob(
                f"working_directory: {self.working_directory!r} is not the path of a directory",
                hint=PATH_RULE,
            )

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments of the function."""
        found: dict[str, Any] = json.loads(self.kwargs_json or "{}")
        return found


def inputs_of(
    kwargs: Mapping[str, Any] | None,
    environment: Mapping[str, str] | None,
    credentials: Mapping[str, str | os.PathLike[str]] | None,
    umask: str | None = None,
    working_directory: str | os.PathLike[str] | None = None,
) -> Inputs:
    """The inputs that these mappings give.

    Raises:
        InvalidJob: a name or value that JSON, systemd or an environment could not hold.
    """
    return Inputs(
        kwargs_json=_to_json(_mapping("kwargs", kwargs)),
        environment=tuple(sorted(_mapping("environment", environment).items())),
        credentials=tuple(
            (name, _text_of(path))
            for name, path in sorted(_mapping("credentials", credentials).items())
        ),
        umask=umask,
        working_directory=None if working_directory is None else _text_of(working_directory),
    )


def _text_of(path: str | os.PathLike[str]) -> str:
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def _mapping(field: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidJob(f"{field}: {value!r} is not a mapping with names as its keys")
    return dict(value)


def _to_json(kwargs: dict[str, Any]) -> str:
    """JSON that gives back what was given: what it would change (tuples, keys that are numbers) is refused."""
    if not kwargs:
        return ""
    for name, value in kwargs.items():
        try:
            same = _same(json.loads(json.dumps(value, allow_nan=False)), value)
        except (TypeError, ValueError, RecursionError):
            same = False
        if not same:
            raise InvalidJob(
                f"kwargs: {name}={value!r} is not what JSON can hold",
                hint="None, True, False, finite numbers, text, and lists and dicts (with text as keys) of these",
            )
    # DEL is the one control character that JSON does not escape and systemd does not take.
    text = json.dumps(kwargs, ensure_ascii=True, sort_keys=True).replace("\x7f", "\\u007f")
    if len(text) > _MOST_BYTES:
        raise InvalidJob(
            f"kwargs: {len(text)} bytes as JSON are more than {_MOST_BYTES}",
            hint="give the path of a file instead",
        )
    return text


def _same(one: object, other: object) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


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
    # systemd's env_value_is_valid(): UTF-8, and no control character but tabs and line breaks.
    if any((one < " " and one not in "\t\n") or one == "\x7f" for one in value) or any(
        "\ud800" <= one <= "\udfff" for one in value
    ):
        raise InvalidJob(
            f"environment: {name}={value!r} is not text that a variable of a unit can hold",
            hint="UTF-8 without control characters other than tabs and line breaks",
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
    """Whether LoadCredential= and WorkingDirectory= take that path: they strip blanks, and want it normalised."""
    return (
        isinstance(path, str)
        and path.startswith("/")
        and not path.startswith("//")
        and path.isprintable()
        and path == path.strip()
        and not path.endswith("\\")
        and os.path.normpath(path) == path
    )
