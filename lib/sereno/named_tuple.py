"""`typing.NamedTuple` for what every run loads: `typing` itself would be a tenth of the time that a run's start takes.

Type checkers are shown the original. For the same reason the modules of a run set `TYPE_CHECKING` themselves: checkers
go by its name.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:

    class _Fields(type):
        """Makes a class with annotated fields one of `collections.namedtuple`, with the methods that it has."""

        def __new__(cls, name, _, namespace):
            # They are there on Python 3.14 too, where __future__ was asked for them, as every module of ours does.
            fields = namespace["__annotations__"]
            defaults = [namespace.pop(field) for field in fields if field in namespace]
            base = namedtuple(name, fields, defaults=defaults)
            return type(name, (base,), {"__slots__": (), **namespace})

    NamedTuple = type.__new__(_Fields, "NamedTuple", (), {})
