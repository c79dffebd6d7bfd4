"""Names that units, runs and commands share stand once: of settings, and of units."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from sereno import setting_names

LIB = Path(setting_names.__file__).parents[1]
NAMES = {name: value for name, value in vars(setting_names).items() if name.isupper()}


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


@cache
def names_in(file: Path) -> set[str]:
    nodes = list(ast.walk(parsed(file)))
    of_modules = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return of_modules | {node.id for node in nodes if isinstance(node, ast.Name)}


def texts_of(tree: ast.Module) -> Iterator[str]:
    """All texts of a module but its docstrings, which may name what they tell of."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    told = {id(node.body[0].value) for node in ast.walk(tree)
            if isinstance(node, kinds) and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def test_the_name_of_a_setting_stands_in_no_other_module() -> None:
    """But in words for people."""
    for file in LIB.rglob("*.py"):
        if file.name == "setting_names.py":
            continue
        for text in texts_of(parsed(file)):
            value = text.removeprefix("Environment=").partition("=")[0]
            assert value not in NAMES.values(), file


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_is_read_by_somebody(name: str) -> None:
    users = [
        file
        for file in LIB.rglob("*.py")
        if file.name != "setting_names.py" and name in names_in(file)
    ]
    assert users


def test_the_name_of_a_job_s_unit_is_made_in_one_place() -> None:
    """But in the scripts for shells."""
    for file in LIB.rglob("*.py"):
        if file.name not in ("names.py", "completion.py"):
            for text in texts_of(parsed(file)):
                assert not re.search(r"sereno(-app)?@(?!JOB)", text), (file, text)


def test_the_templates_name_no_setting_that_nobody_reads() -> None:
    for file in (LIB.parent / "systemd").glob("*/sereno*.service"):
        found = {word.partition("=")[0].lstrip('"') for line in file.read_text().splitlines()
                 if line.startswith("Environment=") for word in line.partition("=")[2].split()}  # fmt: skip
        assert found <= {*NAMES.values()}
