"""The context managers of a run are those of `contextlib`, made without it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from sereno import context_manager


class Broken(Exception):
    pass


def told(made_by: Any, error: type[Exception] | None, *, translates: bool) -> list[object]:
    """What happens around a block that ends so."""
    steps: list[object] = []

    @made_by
    def around(name: str) -> Iterator[str]:
        try:
            yield name
        except Broken as inner:
            if not translates:
                raise
            raise KeyError("other") from inner
        finally:
            steps.append("after")

    try:
        with around("a") as given:
            steps.append(given)
            if error is not None:
                raise error("told")
    except Exception as outer:
        steps += [type(outer), str(outer), outer.__cause__, len(traceback_of(outer))]
    return steps


def traceback_of(error: BaseException) -> list[object]:
    steps, step = [], error.__traceback__
    while step is not None:
        steps.append(step)
        step = step.tb_next
    return steps


@pytest.mark.parametrize("error", [None, Broken, ValueError])
@pytest.mark.parametrize("translates", [True, False])
def test_it_ends_its_block_as_the_original(error: type[Exception] | None, translates: bool) -> None:
    ours = told(context_manager.contextmanager, error, translates=translates)
    original = told(contextlib.contextmanager, error, translates=translates)
    assert list(map(repr, ours)) == list(map(repr, original))
    assert ours[:2] == ["a", "after"]


def test_closing_closes_after_an_error_too() -> None:
    closed: list[str] = []

    class Thing:
        def close(self) -> None:
            closed.append("closed")

    with pytest.raises(Broken), context_manager.closing(Thing()) as thing:
        assert isinstance(thing, Thing)
        raise Broken
    assert closed == ["closed"]
