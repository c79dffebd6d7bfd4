"""`typing.NamedTuple` for what every run loads: `typing` and `collections` take longer to load than the rest of it.

Type checkers are shown the original. For the same reason the modules of a run set `TYPE_CHECKING` themselves: checkers
go by its name.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from _operator import itemgetter

    class _Tuple(tuple):
        __slots__ = ()

        def __new__(cls, *values, **named):
            if len(values) == len(cls._fields) and not named:
                return tuple.__new__(cls, values)
            given = {**dict(zip(cls._fields, values, strict=False)), **named}
            whole = {**cls._field_defaults, **given}
            if len(given) < len(values) + len(named) or whole.keys() != {*cls._fields}:
                raise TypeError(f"{cls.__name__} has the fields {', '.join(cls._fields)}")
            return tuple.__new__(cls, map(whole.get, cls._fields))

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            parts = (f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({', '.join(parts)})"

    class _Fields(type):
        """Makes a class with annotated fields a tuple that has them by name."""

        def __new__(cls, name, _, namespace):
            # They are there on Python 3.14 too, where __future__ was asked for them, as every module of ours does.
            fields = tuple(namespace["__annotations__"])
            defaults = {field: namespace.pop(field) for field in fields if field in namespace}
            getters = {field: property(itemgetter(at)) for at, field in enumerate(fields)}
            own = {"__slots__": (), "_fields": fields, "_field_defaults": defaults}
            return type(name, (_Tuple,), {**own, **getters, **namespace})

    NamedTuple = type.__new__(_Fields, "NamedTuple", (), {})
