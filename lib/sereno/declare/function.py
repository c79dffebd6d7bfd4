"""How another process finds a job's function: a job names it by module and name.

That process is started by systemd long after this one has gone. What it could not import is refused when the job is
added.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType
from typing import Any

from sereno.declare.access import is_in_a_home
from sereno.errors import InvalidJob

_ALWAYS_ON_PATH = ("purelib", "platlib", "stdlib")
# As `import_root`, asked once: the jobs of an application are in a few modules, and run by one interpreter.
_REAL_PATH = functools.cache(os.path.realpath)


def how_to_run(
    function: Callable[..., Any], kwargs: Collection[str] = ()
) -> tuple[str, str | None, tuple[str, ...]]:
    """What a process of its own needs to run `function`: ("module:name", interpreter, import paths) of `Job`.

    A job that ships with sereno has an entry script, which brings its own. `InvalidJob` as of `function_reference`.
    """
    reference, module = function_reference(function, kwargs)
    if module.__name__.startswith("sereno.jobs."):
        return reference, None, ()
    if not sys.executable:
        raise InvalidJob(
            "func: this process does not know its own interpreter, which the job is to be run by",
            hint="register it from a process that was started as python: sys.executable is empty",
        )
    roots = dict.fromkeys((import_root(module), import_root(sys.modules["sereno"])))
    return reference, sys.executable, tuple(root for root in roots if root)


def leads_into_a_home(*paths: str | None) -> bool:
    """Whether one of the paths is a link to where the template's ProtectHome= hides everything, as uv's and pyenv's."""
    return any(is_in_a_home(_REAL_PATH(path)) for path in paths if path)


def function_reference(
    function: Callable[..., Any], kwargs: Collection[str] = ()
) -> tuple[str, ModuleType]:
    """Return ("module:name", module) of a module-level function that another process can import, and call with
    arguments of the names `kwargs`; `InvalidJob` for anything else."""
    if isinstance(function, str):
        raise InvalidJob(
            f"func: {function!r} is text", hint="import it, and give the function itself"
        )
    if not inspect.isfunction(function):
        raise InvalidJob(
            f"func: {function!r} is not a function",
            hint="give a module-level function; wrap a method or a partial in one",
        )
    module_name, name = function.__module__, function.__qualname__
    shown = f"{module_name}.{name}"
    way_out = "move it to the top level of a module that can be imported"
    if name == "<lambda>" or name.endswith(".<lambda>"):
        raise InvalidJob(
            f"func: a lambda ({shown}) cannot be imported by the job's own process", hint=way_out
        )
    if "." in name:
        raise InvalidJob(
            f"func: {shown} is defined inside {name.rpartition('.')[0].removesuffix('.<locals>')!r}"
            " and cannot be imported by the job's own process",
            hint=way_out,
        )
    if module_name == "__main__":
        raise InvalidJob(
            f"func: {shown} is defined in the script that was started, which no other process can import",
            hint=way_out + ", and import it from there",
        )
    module = sys.modules.get(module_name)
    if module is None or getattr(module, name, None) is not function:
        raise InvalidJob(
            f"func: module {module_name!r} has no function {name!r} that is this one", hint=way_out
        )
    if not f"{module_name}.{name}".isascii():
        raise InvalidJob(f"func: {shown} has characters outside ASCII", hint="rename it")
    _check_arguments(function, shown, kwargs)
    return f"{module_name}:{name}", module


def _check_arguments(function: Callable[..., Any], shown: str, kwargs: Collection[str]) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind(**dict.fromkeys(kwargs))
    except TypeError as error:
        raise InvalidJob(
            f"{'kwargs' if kwargs else 'func'}: {shown} is called with its kwargs alone: {error}",
            hint="give in kwargs= what has no default value, of its arguments: "
            + (", ".join(signature.parameters) or "none"),
        ) from None


@functools.cache
def import_root(module: ModuleType) -> str | None:
    """Directory that must be on `sys.path` for `module` to be imported; None if the interpreter always has it.

    Symbolic links are kept: /opt/sereno/lib stays right over an upgrade, the release that it leads to does not.
    """
    file = getattr(module, "__file__", None)
    if file is None:
        raise InvalidJob(
            f"func: module {module.__name__!r} has no file that another process could load"
        )
    path = Path(os.path.abspath(file))
    root = path.parents[module.__name__.count(".") + (path.name == "__init__.py")]
    always = {_REAL_PATH(sysconfig.get_path(key)) for key in _ALWAYS_ON_PATH}
    return None if os.path.realpath(root) in always else str(root)
