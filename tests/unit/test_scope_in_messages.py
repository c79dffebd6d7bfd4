"""A command that a message names works in the scope that the message is about."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sereno.errors import in_scope, rights_hint

LIB = Path(__file__).parents[2] / "lib/sereno"
COMMAND = re.compile(
    r"\bsereno (?:apply|cache|doctor|history|list|logs|notify|pause|remove|report|resume|run|status|watch)\b"
    r"|\bsystemctl (?:cat|daemon-reload|edit|enable|list-|preset|restart|start|status|stop|unmask)"
    r"|\bjournalctl [-A-Z]|\./install\.sh|\bas root\b"
)
FOR_A_SCOPE = {"in_scope", "command", "sereno", "rights_hint"}
# What is of one scope alone, or of none.
EXEMPT = {
    "cli/__init__.py": "the interpreter lacks a package: no scope is known yet",
    "cli/arguments.py": "help, of both scopes",
    "cli/export.py": "help, of both scopes",
    "cli/new.py": "a checkout that install.sh has never seen",
    "observe/doctor/cache_checks.py": "the command of the cache is of no scope",
    "observe/doctor/machine_checks.py": "journald is the machine's",
    "observe/doctor/run_checks.py": "only of the system scope",
    "units/installation.py": "names the scope",
    "install/checks.py": "the way into the other scope",
    "install/commit.py": "catalogues are the machine's",
    "install/ending.py": "of an image: to be run in it",
    "notify/handling.py": "started by hand, without the units that name the scope",
    "units/enablement.py": "presets of the system scope",
    "cli/discovery.py": "asks for another interpreter in what was typed",
    "run/tries.py": "started by hand, without the units that name the scope",
}


def texts(node: ast.AST, named: bool = False) -> Iterator[str]:
    """The texts of a module that no function for scopes has made, but docstrings."""
    if isinstance(node, ast.Call):
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        named = named or called in FOR_A_SCOPE
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.JoinedStr) and not named:
        parts = [each.value if isinstance(each, ast.Constant) else "X" for each in node.values]
        yield "".join(map(str, parts))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not named:
        yield node.value
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from texts(child, named)


def test_every_command_that_a_message_names_is_made_for_a_scope() -> None:
    found = {}
    for path in sorted(LIB.rglob("*.py")):
        texts_of_module = [
            text for text in texts(ast.parse(path.read_text())) if COMMAND.search(text)
        ]
        name = str(path.relative_to(LIB))
        if texts_of_module and name != "errors.py":
            found[name] = texts_of_module
    assert {name: text for name, text in found.items() if name not in EXEMPT} == {}
    assert set(EXEMPT) <= set(found), "no longer needed"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sereno run x --wait", "sereno run x --wait --user"),
        ("systemctl start x", "systemctl --user start x"),
        ("systemctl", "systemctl --user"),
        ("journalctl SERENO_RUN=x", "journalctl --user SERENO_RUN=x"),
        ("./install.sh", "./install.sh --user"),
    ],
)
def test_a_users_command_has_the_option_where_its_program_takes_it(words, expected) -> None:
    assert in_scope(words, user=True) == expected
    assert in_scope(words, user=False) == words


def test_root_is_never_told_to_become_root(monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "as root" in rights_hint(user=False)
    assert "root" not in rights_hint(user=True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "as root" not in rights_hint(user=False)
