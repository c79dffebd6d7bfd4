"""The command `sereno cache`: arguments and printing, no logic."""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from typing import Any

from sereno.cli.arguments import Parser, add_command, print_json
from sereno.cli.terminal import in_columns, size
from sereno.errors import CacheError, NoSuchJob, UsageError


def add_cache(parser: Parser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    add = partial(add_command, actions)
    add("stats", "show size, limits and counters", _add_stats, command=_stats)
    add("get", "print the value of a key as JSON", _add_key, command=_get)
    add("set", "store a value", _add_value, command=_set)
    add("delete", "remove a key", _add_key, command=_delete)
    add("clear", "remove every entry", command=_clear)
    add("cleanup", "remove the expired entries", command=_cleanup)


def _add_stats(sub: Parser) -> None:
    sub.add_argument("--json", action="store_true", help="print them as JSON")


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
    from sereno.cache.place import default_path, server_url

    if server_url():
        from sereno.cache import MetadataCache

        return MetadataCache().path
    return default_path("metadata")


def _ask(method: str, *arguments: Any) -> Any:
    from sereno.cache import as_owner
    from sereno.cache.place import GROUP, SETTING, server_url

    path = _path()
    if server_url():
        return as_owner.method(None, method, *arguments)
    try:
        os.lstat(path)
    except FileNotFoundError as error:
        # None is made here: it would be another than that of the service that was meant.
        hint = f"{SETTING} names another; the machine's is for root and the group {GROUP};"
        hint += " the first program that uses a cache makes it"
        raise CacheError(f"cache: there is none at {path}", hint=hint) from error
    except OSError:
        pass  # told by who opens it
    if method not in ("cleanup", "clear"):
        return as_owner.ask(path, method, *arguments)
    # Whether it can be used at all is told soon.
    as_owner.ask(path, "get_stats")
    return as_owner.ask(path, method, within_s=_LONG_S)


def _stats(arguments: argparse.Namespace) -> None:
    stats = _ask("get_stats")
    # It is the answer of a process that read what others may write.
    if arguments.json or not isinstance(stats, dict):
        print_json(stats)
        return
    for name, value in stats.items():
        is_size = name.endswith("_bytes") and isinstance(value, int)
        stats[name] = size(value) if is_size else "no limit" if value is None else value
    print("\n".join(in_columns(stats)))


def _get(arguments: argparse.Namespace) -> None:
    value = _ask("get", arguments.key)
    if value is None:
        raise _not_found(arguments.key)
    if sys.stdout.isatty():
        print(f"from {_path()}:", file=sys.stderr)
    print_json(value, indent=None)


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
    print(f"stored {arguments.key!r} in {_path()}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _delete(arguments: argparse.Namespace) -> None:
    if not _ask("invalidate", arguments.key):
        raise _not_found(arguments.key)
    print(f"removed {arguments.key!r} from {_path()}")


def _not_found(key: str) -> NoSuchJob:
    return NoSuchJob(f"key: {key!r} is not in the cache {_path()}, or expired")


def _clear(_arguments: argparse.Namespace) -> None:
    _ask("clear")
    print(f"removed every entry from {_path()}")


def _cleanup(_arguments: argparse.Namespace) -> None:
    print(f"removed {_ask('cleanup')} expired entries from {_path()}")
