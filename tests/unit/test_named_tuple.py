"""The named tuples of a run are those of `typing`, made without it."""

from __future__ import annotations

import copy
import typing
from typing import Any

import pytest

from sereno import named_tuple


def declared(base: Any) -> Any:
    class Place(base):
        """What it says."""

        path: str
        mode: int
        in_place: bool = True

        @property
        def octal(self) -> str:
            return oct(self.mode)

    return Place


Ours, Typings = map(declared, (named_tuple.NamedTuple, typing.NamedTuple))


def test_it_is_made_read_copied_and_shown_as_the_original() -> None:
    ours, original = Ours("a", mode=8), Typings("a", mode=8)
    assert ours == original == ("a", 8, True)
    assert hash(ours) == hash(original)
    assert ours.octal == original.octal == "0o10"
    assert copy.copy(ours) == ours
    assert repr(ours) == repr(original)
    path, *others = ours
    assert (path, others) == ("a", [8, True])


def test_the_class_has_the_fields_and_names_of_the_original() -> None:
    for name in ("_fields", "_field_defaults", "__doc__", "__module__", "__qualname__"):
        assert getattr(Ours, name) == getattr(Typings, name)
    assert not hasattr(Ours("a", 8), "__dict__")


@pytest.mark.parametrize("change", ["path", "octal", "other"])
def test_no_field_can_be_set_and_none_added(change: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Ours("a", 8), change, "b")


def test_what_is_missing_or_too_much_is_refused() -> None:
    for values, named in (
        ((), {}),
        (("a",), {}),
        (("a", 8, True, 4), {}),
        (("a", 8), {"path": "b"}),
        (("a", 8), {"x": 1}),
    ):
        with pytest.raises(TypeError):
            Ours(*values, **named)
