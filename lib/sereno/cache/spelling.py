"""One way to write a call: `f(1)`, `f(a=1)` and, where that is its default, `f(1, b=2)` have one key.

`inspect.signature` would do, in four times the time of a cache hit; and it believes what a decorator says of the
function that it wraps.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

OneWay = Callable[[tuple[Any, ...], dict[str, Any]], tuple[list[Any], dict[str, Any]]]

_NOTHING = object()


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
