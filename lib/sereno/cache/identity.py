"""What tells one memoized call from every other: the name of its function, and its arguments written in one way.

The cache outlives the process and is the machine's, so a function's name must mean the same function wherever and
whenever it is looked up. A lambda's, a local function's or a script's does not, and the second to come would be given
the first one's results.

`f(1)`, `f(a=1)` and, where that is its default, `f(1, b=2)` have one key. `inspect.signature` would do for that, in
four times the time of a cache hit; and it believes what a decorator says of the function that it wraps.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakValueDictionary

from sereno.cache.entry import short
from sereno.cache.reports import checked_type, refused
from sereno.errors import UsageError

OneWay = Callable[[tuple[Any, ...], dict[str, Any]], tuple[list[Any], dict[str, Any]]]

_NOTHING = object()
_SCRIPTS = ("__main__", "__mp_main__", "builtins", None)


def name_of(function: Callable[..., Any], name: str | None, *, has_key: bool) -> str:
    """What the keys of a function's results begin with: `name`, or where it is defined.

    Raises:
        TypeError, UsageError: `name` cannot be one; the function's results cannot be kept at all; or nothing tells it
            from others, and there is neither a `name` nor a key of its own.
    """
    shown = _shown(function)
    if isinstance(function, staticmethod | classmethod):
        raise UsageError(
            f"memoize: {shown} is a {type(function).__name__}",
            hint=f"write @{type(function).__name__} above @cache.memoize()",
        )
    if not callable(function):
        raise UsageError(f"memoize: {shown} is not a function", hint="write @cache.memoize()")
    inner = function if isinstance(function, FunctionType | partial) else type(function).__call__
    for one in (function, inner):
        if inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one):
            raise UsageError(
                f"memoize: {shown} is a generator, which can be read only once",
                hint="memoize a function that returns a list of what it yields",
            )
    if name is not None:
        right = "a str without a colon, which ends a name in a key,"
        checked_type("name", name, str, right)
        if not name or ":" in name:
            raise refused("name", name, right)
        return name
    why = _why_nameless(function)
    if why and not has_key:
        raise UsageError(f"memoize: {shown} {why[0]}", hint=why[1])
    while isinstance(function, partial):
        function = function.func
    if not hasattr(function, "__qualname__"):
        function = type(function)
    return f"{function.__module__}.{function.__qualname__}"


def _why_nameless(function: Callable[..., Any]) -> tuple[str, str] | None:
    """Why others may have the function's name, and the way out; None when it is the only one."""
    named = "give it a name that no other function has: @cache.memoize(name='shop.prices')"
    own_key = "give it a key that has the object in it: key=lambda self, n: f'{self.id}:{n}'"
    if isinstance(function, BuiltinFunctionType) and isinstance(function.__self__, ModuleType):
        return None
    if isinstance(function, MethodType | BuiltinFunctionType):
        return "is bound to an object, which is no part of its name", f"{own_key}; or {named}"
    if not isinstance(function, FunctionType):
        return f"is no function but a {type(function).__qualname__}, which has no name", named
    place = function.__qualname__
    if "<lambda>" in place:
        return "is a lambda, and so are others", named
    if "<locals>" in place:
        return "is one of many that the function around it makes", named
    if function.__module__ in _SCRIPTS:
        return "is a script's own, and other scripts have functions of that name", named
    code = function.__code__
    if "." in place and code.co_argcount and code.co_varnames[0] == "self":
        return "is a method, and the object is no part of what JSON can hold", own_key
    return None


class _Source:
    """A function, and the execution of its module that defined it: a reload makes another."""

    def __init__(self, function: Callable[..., Any], *, is_named: bool) -> None:
        self.function = function
        # Who gives a name to a function inside another, an application's factory for instance, means all that it makes.
        self._code = getattr(function, "__code__", None) if is_named else None
        self._module: str | None = getattr(function, "__module__", None)
        # Not by its globals, which are those of its decorator.
        self._execution = getattr(sys.modules.get(self._module or ""), "__spec__", None)

    def is_one_with(self, other: _Source) -> bool:
        return self.function is other.function or (
            self._code is not None and self._code is other._code
        )

    def reloads(self, other: _Source) -> bool:
        again = self._module in _SCRIPTS or self._execution is not other._execution
        return again and self._module == other._module


_named: WeakValueDictionary[tuple[str, str], _Source] = WeakValueDictionary()
"""The memoized functions of this process, by directory and name; each lives with what was made of it."""


def claim(
    directory: str, name: str, function: Callable[..., Any], wrapper: Any, *, is_named: bool
) -> None:
    """Makes a name that function's in this process; `is_named` says that somebody chose it, or its keys.

    Raises:
        UsageError: it is another function's.
    """
    source = _Source(function, is_named=is_named)
    other = _named.get((directory, name))
    if other is not None and source.is_one_with(other):
        source = other
    elif other is not None and not source.reloads(other):
        raise UsageError(
            f"memoize: {_shown(function)} would be given the results of {_shown(other.function)}, whose name is"
            f" {name!r} too",
            hint="give one of them another name: @cache.memoize(name='shop.prices')",
        )
    wrapper.memoized_as = source
    _named[directory, name] = source


def _shown(function: object) -> str:
    place = getattr(function, "__qualname__", None)
    return short(function) if place is None else f"{getattr(function, '__module__', None)}.{place}"


def one_way_to_call(function: Callable[..., Any], can_be_key: Callable[[object], bool]) -> OneWay:
    """Makes of a call's arguments those with which it could be written as well, the same for all ways to write it.

    What can be given by position is, and defaults are written down, apart from those that `can_be_key` refuses. Calls
    of what is no plain function, and wrong ones, stay as they are written; so does the order of `**` arguments, which
    a function can see.
    """
    if not isinstance(function, FunctionType):
        return lambda args, kwargs: (list(args), kwargs)
    code = function.__code__
    count, only_by_position = code.co_argcount, code.co_posonlyargcount
    names = code.co_varnames[:count]
    only_by_name = code.co_varnames[count : count + code.co_kwonlyargcount]
    values = function.__defaults__ or ()
    defaults = dict(zip(names[count - len(values) :], values, strict=True))
    defaults |= function.__kwdefaults__ or {}
    defaults = {name: value for name, value in defaults.items() if can_be_key(value)}

    def canonical(
        args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        given = list(args)
        if len(given) >= count and not only_by_name:
            return given, kwargs
        rest, named = dict(kwargs), {}
        for at in range(len(given), count):
            name = names[at]
            value = _NOTHING if at < only_by_position else rest.pop(name, _NOTHING)
            if value is _NOTHING:
                value = defaults.get(name, _NOTHING)
            if value is _NOTHING:
                continue
            if len(given) == at:
                given.append(value)
            elif at >= only_by_position:
                named[name] = value
        for name in only_by_name:
            value = rest.pop(name, defaults.get(name, _NOTHING))
            if value is not _NOTHING:
                named[name] = value
        return given, named | rest

    return canonical
