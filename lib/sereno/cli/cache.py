"""The command `sereno cache`: arguments and printing, no logic."""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from typing import Any

from sereno.cli.arguments import Parser, add_command, print_json
from sereno.errors import CacheError, UsageError

# Exit status of a key that is not there; `sereno.cli` lists them all.
NOT_FOUND = 3


def add_cache(parser: Parser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    add = partial(add_command, actions)
    add("stats", "print size, limits and counters as JSON", command=_stats)
    add("get", "print the value of a key as JSON", _add_key, command=_get)
    add("set", "store a value", _add_value, command=_set)
    add("delete", "remove a key", _add_key, command=_delete)
    add("clear", "remove every entry", command=_clear)
    add("cleanup", "remove the expired entries", command=_cleanup)


def _add_key(sub: Parser) -> None:
    sub.add_argument("key", metavar="KEY")


def _add_value(sub: Parser) -> None:
    _add_key(sub)
    sub.add_argument("value", metavar="JSON")
    sub.add_argument(
        "--ttl", type=float, metavar="SECONDS", help="default: the cache's default_ttl"
    )


# For what may take longer than a question: a store of millions of entries is cleaned or cleared.
_LONG_S = 600.0


def _path() -> str:
    from sereno.cache.place import default_path

    return default_path("metadata")


def _ask(method: str, *arguments: Any) -> Any:
    from sereno.cache import as_owner
    from sereno.cache.place import GROUP, SETTING

    path = _path()
    try:
        os.lstat(path)
    except FileNotFoundError as error:
        # To look is not to make one: it would be another than that of the service that was meant.
        if method != "set":
            hint = f"{SETTING} names another; the machine's is for root and the group {GROUP}"
            raise CacheError(f"cache: there is none at {path}", hint=hint) from error
    except OSError:
        pass  # told by who opens it
    if method not in ("cleanup", "clear"):
        return as_owner.ask(path, method, *arguments)
    # Whether it can be used at all is told soon.
    as_owner.ask(path, "get_stats")
    return as_owner.ask(path, method, within_s=_LONG_S)


def _stats(_arguments: argparse.Namespace) -> None:
    print_json(_ask("get_stats"))


def _get(arguments: argparse.Namespace) -> int:
    value = _ask("get", arguments.key)
    if value is None:
        return _not_found(arguments.key)
    print_json(value, indent=None)
    return 0


def _set(arguments: argparse.Namespace) -> None:
    try:
        value = json.loads(arguments.value, parse_constant=_refuse_constant)
    except ValueError as error:
        raise UsageError(
            f"JSON: {arguments.value!r} is not JSON: {error}", hint="text needs quotes: '\"text\"'"
        ) from error
    if value is None:
        raise UsageError("JSON: null cannot be told from a key that is not there")
    try:
        _ask("set", arguments.key, value, arguments.ttl)
    except TypeError as error:
        raise UsageError(str(error)) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _delete(arguments: argparse.Namespace) -> int:
    return 0 if _ask("invalidate", arguments.key) else _not_found(arguments.key)


def _not_found(key: str) -> int:
    print(f"sereno: key: {key!r} is not in the cache {_path()}, or expired", file=sys.stderr)
    return NOT_FOUND


def _clear(_arguments: argparse.Namespace) -> None:
    _ask("clear")


def _cleanup(_arguments: argparse.Namespace) -> None:
    print(f"{_ask('cleanup')} expired entries removed")
