"""The examples in the docstrings are what really happens."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["cron", "interval", "explain"])
def test_the_examples_of_a_module_hold(name: str) -> None:
    failed, tried = doctest.testmod(import_module(f"sereno.triggers.{name}"))
    assert tried
    assert not failed
