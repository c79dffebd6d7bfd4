"""Which wing may use which: the picture of the modules, held by a table of a dozen rows.

Declaring and scheduling never loads the cache, and a run never loads what is for scheduling: the two halves meet only
in the unit files and in the journal. A run that loads less starts sooner, so this is also a matter of speed.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from sereno.cli import COMMANDS

LIB = Path(__file__).resolve().parents[1] / "lib"
SERENO = LIB / "sereno"

# wing: the wings that its code names in an import, at any depth. Imports for type checkers alone do not count.
LEAVES = {"errors", "setting_names", "named_tuple", "context_manager"}
MAY_IMPORT: dict[str, set[str]] = {
    **{leaf: set() for leaf in LEAVES},
    "triggers": LEAVES,
    "manager": LEAVES,
    "records": LEAVES | {"manager"},
    "cache": LEAVES,
    "declare": LEAVES | {"triggers", "records"},
    "notify": LEAVES | {"manager", "records", "fleet"},
    # The place of a fleet's claims; one machine has none.
    "fleet": LEAVES,
    "run": LEAVES | {"manager", "records", "fleet"},
    "units": LEAVES | {"triggers", "manager", "records", "declare", "notify"},
    "export": LEAVES | {"triggers", "declare"},
    "jobs": LEAVES | {"records", "cache"},
    # sereno itself on a machine, before there are dependencies.
    "install": LEAVES | {"manager", "units"},
    "observe": LEAVES | {"triggers", "manager", "records", "cache", "declare", "notify", "units", "jobs",
                        "fleet"},
    "scheduler": LEAVES | {"triggers", "manager", "declare", "units", "observe"},
    "runner": LEAVES | {"manager", "records", "declare", "notify", "run"},
}  # fmt: skip
# The command is where all of it comes together.
MAY_IMPORT_ALL = {"__main__", "cli"}
SCHEDULING = {"triggers", "declare", "units", "export", "observe", "scheduler", "cli"}
# What is imported in a fresh interpreter: what must not be loaded by it.
NOT_LOADED_BY = {
    "sereno": {f"sereno.{part}" for part in MAY_IMPORT},
    "sereno.errors": {f"sereno.{part}" for part in MAY_IMPORT if part != "errors"},
    "sereno.runner": {f"sereno.{part}" for part in SCHEDULING}
    | {"sereno.manager.systemctl", "sereno.records.verdict", "sereno.records.journal_reader"}
    | {"sereno.cache", "sereno.run.lateness", "sereno.manager.analyze", "asyncio", "lmdb", "orjson"}
    | {"sereno.fleet", "sereno.run.claiming", "psycopg2", "psycopg"}
    | {"sereno.run.only_if_success", "sereno.declare.retry", "sereno.run.credentials", "subprocess"}
    | {"sereno.run.outside", "select", "uuid"}
    | {"sereno.run.failure", "json", "logging", "re", "signal", "typing"}
    | {
        "sereno.run.heartbeat",
        "sereno.records.metrics",
        "sereno.notify",
        "sereno.records.post",
        "urllib.request",
        "socket",
    },
    "sereno.jobs.cache_cleanup_job": {f"sereno.{part}" for part in SCHEDULING}
    | {"asyncio", "orjson"},
    "sereno.cache": {f"sereno.{part}" for part in {*SCHEDULING, "runner", "jobs"}}
    | {"asyncio", "orjson", "sereno.cache.fleet", "libvalkey", "valkey", "socket", "ssl", "urllib"},
    "sereno.observe.doctor": {"sereno.fleet", "psycopg2", "psycopg"},
    "sereno.notify.handling": {"sereno.fleet"},
    "sereno.scheduler": {
        "sereno.fleet",
        "sereno.cache",
        "sereno.runner",
        "asyncio",
        "lmdb",
        "orjson",
    },
    "sereno.install.__main__": {f"sereno.{part}" for part in MAY_IMPORT}
    - {f"sereno.{part}" for part in ("install", "errors", "manager", "setting_names", "units")}
    | {"cachetools", "lmdb", "orjson", "systemd"},
    "sereno.cli": {"sereno.fleet", "sereno.cache", "jinja2", "lmdb", "orjson", "urwid"},
}


@cache
def parts() -> list[str]:
    """The modules and packages directly below sereno."""
    modules = [path.stem for path in SERENO.glob("*.py") if path.stem != "__init__"]
    return sorted(modules + [path.parent.name for path in SERENO.glob("*/__init__.py")])


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def files_of(part: str) -> list[Path]:
    module = SERENO / f"{part}.py"
    return [module] if module.exists() else sorted((SERENO / part).rglob("*.py"))


class Imports(ast.NodeVisitor):
    """The wings and the modules of sereno that a file imports when it runs, now or later."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.names: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)
            return
        for statement in node.orelse:
            self.visit(statement)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._note(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "imports name their module in full"
        for alias in node.names:
            self._note(f"{node.module}.{alias.name}")

    def _note(self, name: str) -> None:
        top, _, rest = name.partition(".")
        part = rest.partition(".")[0]
        if top == "sereno" and part in parts():
            self.found.add(part)
            self.names.add(name)


def test_every_wing_has_its_row_in_the_table() -> None:
    assert parts() == sorted(MAY_IMPORT.keys() | MAY_IMPORT_ALL)


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_a_wing_imports_only_what_it_may(part: str) -> None:
    for file in files_of(part):
        imports = Imports()
        imports.visit(parsed(file))
        unwanted = imports.found - MAY_IMPORT[part] - {part}
        assert not unwanted, f"{file.relative_to(LIB)} imports {', '.join(sorted(unwanted))}"


def test_a_backends_requirements_are_what_all_but_the_command_imports() -> None:
    pinned = {name: _pinned(f"requirements{name}.txt") for name in ("", "-command")}
    found: dict[str, set[str]] = {"": set(), "-command": set()}
    for part in parts():
        for file in files_of(part):
            nodes = list(ast.walk(parsed(file)))
            modules = [
                alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
            ]
            modules += [
                node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module
            ]
            of_command = part in MAY_IMPORT_ALL or "report" in file.parts
            found["-command" if of_command else ""].update(
                module.partition(".")[0] for module in modules
            )
    # libvalkey: the extra of the cache of many hosts, which install.sh puts on no server.
    of_others = sys.stdlib_module_names | {"sereno", "systemd", "libvalkey"}
    assert found[""] - of_others == pinned[""]
    # The others are what these need.
    assert found["-command"] - of_others - pinned[""] == pinned["-command"] - {
        "typing-extensions",
        "wcwidth",
    }
    assert not pinned[""] & pinned["-command"]


def _pinned(name: str) -> set[str]:
    lines = (LIB / name).read_text().splitlines()
    return {line.partition("==")[0] for line in lines if "==" in line}


def test_the_table_has_no_circle() -> None:
    known: set[str] = set()
    while len(known) < len(MAY_IMPORT):
        found = {part for part, used in MAY_IMPORT.items() if used <= known} - known
        assert found, f"among {', '.join(sorted(MAY_IMPORT.keys() - known))}"
        known |= found


def test_no_module_is_in_a_circle() -> None:
    names = {
        ".".join(path.relative_to(LIB).with_suffix("").parts).removesuffix(".__init__"): path
        for path in SERENO.rglob("*.py")
    }
    uses: dict[str, set[str]] = {}
    for name, path in names.items():
        imports = Imports()
        imports.visit(parsed(path))
        # A name of a module is in it; the packages on the way to it are not what is used.
        found = {one if one in names else one.rpartition(".")[0] for one in imports.names}
        uses[name] = (found & names.keys()) - {name, "sereno"}
    known: set[str] = set()
    while len(known) < len(uses):
        found = {name for name, used in uses.items() if used <= known} - known
        assert found, f"among {', '.join(sorted(uses.keys() - known))}"
        known |= found


@pytest.mark.parametrize("module", NOT_LOADED_BY)
def test_importing_a_module_does_not_load_the_other_half(module: str) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(LIB)!r}); before = set(sys.modules); "
        f"import {module}; print(*(sys.modules.keys() - before))"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded & NOT_LOADED_BY[module]


def test_the_commands_need_what_a_backend_may_have_left_out_only_when_they_use_it() -> None:
    modules = {f"sereno.cli.{module}" for module, _ in COMMANDS.values()}
    code = f"import sys; sys.path.insert(0, {str(LIB)!r}); import {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert modules <= set(done.stdout.split())
    assert not set(done.stdout.split()) & NOT_LOADED_BY["sereno.cli"]


def test_no_module_of_ours_is_called_systemd() -> None:
    """It would stand before Debian's python3-systemd; nor may the folder systemd/ become a package."""
    assert not list(LIB.rglob("systemd*"))
    assert not list((LIB.parent / "systemd").rglob("*.py"))


def test_a_process_stays_with_the_release_it_began_with(tmp_path: Path) -> None:
    """A backend finds sereno by the link that an upgrade switches; the upgrade after that removes its release."""
    copy_code = shutil.ignore_patterns("__pycache__")
    for release in ("old", "new"):
        shutil.copytree(SERENO, tmp_path / release / "sereno", ignore=copy_code)
    (tmp_path / "lib").symlink_to("old")
    code = """
import os, shutil
import sereno
cache = sereno.MetadataCache("cache")
cache.set("a", 1)
assert [cache.get("a") for _ in range(3)] == [1, 1, 1]
os.symlink("new", "lib.new")
os.rename("lib.new", "lib")
from sereno.manager import analyze
assert "/old/" in analyze.__file__, analyze.__file__
shutil.rmtree("old")
cache.close()
shutil.rmtree("cache/format-3")
assert cache.get("a") is None
cache.set("b", 1)
assert cache.invalidate_pattern("b") == 1
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "lib")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
