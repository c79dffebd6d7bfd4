"""`Job`: one periodic job as a frozen, validated value.

A job names its function by module and name, because another process, started by systemd long after this one has gone,
must find it again. What such a process could not import is refused here, when the job is added.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sereno.errors import InvalidJob
from sereno.triggers import Trigger

# systemd.unit(5) allows ASCII letters, digits and ":-_.\\@" in a unit name and 255 characters in all. ":", "\\" and "@"
# are left out: they mean something to systemd-escape(1), shells or unit templates. 200 leaves room for
# "sereno@….service.d" and for temporary names.
NAME_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
NAME_RULE = "1 to 200 ASCII letters, digits, '_', '-' or '.', not starting with '-' or '.'"
# systemd's user names (NAME_REGEX of adduser, also accepted by sysusers.d(5)) or a numeric UID.
USER_PATTERN = re.compile(r"[a-z_][a-z0-9_-]{0,30}|[0-9]{1,10}")
_ALWAYS_ON_PATH = ("purelib", "platlib", "stdlib")
# More than a year is no limit but a slip of the unit.
MAX_TIMEOUT_S = 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Job:
    """One job of one application.

    Attributes:
        id: name of the job, unique on a machine; the instance name of its units.
        function: "module:name" of a function without required arguments.
        trigger: when it elapses.
        app: the application that owns it.
        name: one line for people.
        timeout_s: limit of one run in seconds (TimeoutStartSec=); None: the template's.
        user: system user of the run (User=); None: the template's.
        network: whether the run may use the network.
        interpreter: absolute path of the Python that runs the function; None: the job has an entry script bin/<id>.
        import_paths: directories that this interpreter needs on its path to import sereno and the function.
    """

    id: str
    function: str
    trigger: Trigger
    app: str = "sereno"
    name: str = ""
    timeout_s: float | None = None
    user: str | None = None
    network: bool = False
    interpreter: str | None = None
    import_paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("id", self.id)
        check_name("app", self.app)
        object.__setattr__(self, "name", self.name or self.id)
        check_line("name", self.name)
        check_line("trigger", self.trigger.text)
        if self.timeout_s is not None:
            _check_timeout(self.timeout_s)
        if self.user is not None and not (
            isinstance(self.user, str) and USER_PATTERN.fullmatch(self.user)
        ):
            raise InvalidJob(
                f"user: {self.user!r} is not the name of a system user",
                hint="lower-case letters, digits, '-' and '_', or a numeric user id",
            )
        for path in (self.interpreter or "/", *self.import_paths):
            if not path.startswith("/") or ":" in path or not path.isprintable():
                raise InvalidJob(
                    f"path: {path!r} cannot be given to another process",
                    hint="an absolute path without ':' and control characters",
                )

    @property
    def has_entry_script(self) -> bool:
        """Whether bin/<id> runs the job: true for those that install.sh puts on the machine."""
        return self.interpreter is None


def check_name(field: str, value: object) -> str:
    """Return `value` if a unit name can hold it; raise `InvalidJob` that names `field` if not."""
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        raise InvalidJob(f"{field}: {value!r} cannot be part of a unit name", hint=NAME_RULE)
    return value


def check_line(field: str, value: object) -> str:
    """Return `value` if it is one printable line that a unit file can hold, else raise `InvalidJob`.

    A backslash at the end would join the next line of the unit file to this one (systemd.syntax(7)).
    """
    if not isinstance(value, str) or not value.isprintable() or value.endswith("\\"):
        raise InvalidJob(
            f"{field}: {value!r} is not one printable line",
            hint="no line break, no control character, no backslash at the end",
        )
    return value


def _check_timeout(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidJob(f"timeout: {value!r} is not a number of seconds")
    if not 0 < value <= MAX_TIMEOUT_S:
        raise InvalidJob(f"timeout: {value!r} s is not in the range above 0 to {MAX_TIMEOUT_S} s")


def function_reference(function: Callable[..., Any]) -> tuple[str, ModuleType]:
    """Return ("module:name", module) of a module-level function that another process can import.

    Raises:
        InvalidJob: a lambda, a nested function, a method, a callable object, something defined in `__main__`, something
            that its module does not have under its own name, or a function with a required argument.
    """
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
    _check_no_required_argument(function, shown)
    return f"{module_name}:{name}", module


def _check_no_required_argument(function: Callable[..., Any], shown: str) -> None:
    required = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if required:
        raise InvalidJob(
            f"func: {shown} needs the argument {required[0]!r}; a job is called without arguments",
            hint="give it a default value, or wrap the function in one that takes nothing",
        )


def import_root(module: ModuleType) -> str | None:
    """Directory that must be on `sys.path` for `module` to be imported; None if the interpreter always has it.

    Symbolic links are kept: /opt/sereno/lib stays right over an upgrade, the release that it leads to does not.

    Raises:
        InvalidJob: the module has no file, so that nobody else can load it.
    """
    file = getattr(module, "__file__", None)
    if file is None:
        raise InvalidJob(
            f"func: module {module.__name__!r} has no file that another process could load"
        )
    path = Path(os.path.abspath(file))
    root = path.parents[module.__name__.count(".") + (path.name == "__init__.py")]
    always = {os.path.realpath(sysconfig.get_path(key)) for key in _ALWAYS_ON_PATH}
    return None if os.path.realpath(root) in always else str(root)
