"""The jobs that modules register: those of lib/sereno/jobs, of `sereno apply --jobs`, and of entry points.

    shop.jobs             its `register(scheduler)`; where there is none, every `register_…(scheduler)` that is defined
                          in it or in its submodules
    shop.jobs:everything  the function of that name

A register function adds its jobs to the scheduler that it is given and starts nothing. The entry points of a package
are in the group `sereno.jobs`; the name of one is its application, its value one of the two forms above. Of
lib/sereno/jobs every module is asked.
"""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from sereno import jobs
from sereno.declare.job import check_name
from sereno.errors import SerenoError, UsageError
from sereno.run.failure import hint_for, summary
from sereno.scheduler import Scheduler

GROUP = "sereno.jobs"
_NAME = r"[^\W\d]\w*"
_REFERENCE = re.compile(rf"({_NAME}(?:\.{_NAME})*)(?::({_NAME}))?")
_EXAMPLE = "def register(scheduler): scheduler.add_interval_job(sync, 'shop_sync', minutes=15)"


def register_from(reference: str, scheduler: Scheduler, *, source: str = "--jobs") -> None:
    """Import what `reference` names and let it register its jobs with `scheduler`.

    Args:
        reference: "module" or "module:function", see above.
        source: what messages call the place where it was written.

    Raises:
        UsageError: it is not written so, cannot be imported, has no register function, or one raised something. What
            sereno itself refuses about a job comes as it is.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise UsageError(
            f"{source}: {reference!r} is neither MODULE nor MODULE:FUNCTION",
            hint="such as shop.jobs",
        )
    if not _register(found[1], found[2], scheduler, source):
        raise UsageError(
            f"{source}: module {found[1]!r} has no function register(scheduler) and none named register_…",
            hint=_EXAMPLE,
        )


def register_shipped(scheduler: Scheduler) -> None:
    """Register the jobs of lib/sereno/jobs. A module without a register function is one that others import.

    Raises:
        UsageError: one cannot be imported, or a register function raised something.
    """
    for name in shipped_modules():
        _register(f"{jobs.__name__}.{name}", None, scheduler, "lib/sereno/jobs")


def shipped_modules() -> list[str]:
    """The names of the modules in lib/sereno/jobs."""
    return [module.name for module in pkgutil.iter_modules(jobs.__path__)]


def _register(module: str, name: str | None, scheduler: Scheduler, source: str) -> bool:
    functions = _register_functions(_import(module, source), name, source)
    for function in functions:
        try:
            function(scheduler)
        except SerenoError:
            raise
        except (Exception, SystemExit) as error:
            shown = f"{module}:{getattr(function, '__name__', name)}"
            raise UsageError(f"{source}: {shown} raised {summary(error, f'{module}:')}") from error
    return bool(functions)


def of_entry_points(scheduler: Callable[[str], Scheduler], only: str | None) -> list[Scheduler]:
    """The applications that this interpreter's packages declare, by name, with their jobs registered.

    Args:
        scheduler: makes the scheduler of an application.
        only: the one application to take; None: all.

    Raises:
        UsageError: there is none, or as in `register_from`.
    """
    declared: dict[str, list[str]] = {}
    for point in entry_points(group=GROUP):
        if only in (None, point.name):
            declared.setdefault(point.name, []).append(point.value)
    if not declared:
        named = "" if only is None else f" named {only!r}"
        raise UsageError(
            f"--entry-points: no package of {sys.executable} has an entry point{named} in the group {GROUP!r}",
            hint="run it by the interpreter that the backend is installed for: VENV/bin/python -m sereno apply",
        )
    schedulers = []
    for app, references in sorted(declared.items()):
        source = f"entry point {app!r}"
        schedulers.append(scheduler(check_name(source, app)))
        for reference in dict.fromkeys(references):
            register_from(reference, schedulers[-1], source=source)
    return schedulers


def _import(name: str, source: str) -> ModuleType:
    try:
        return import_module(name)
    except SerenoError:
        raise
    except (Exception, SystemExit) as error:
        raised = f"importing {name!r} raised {summary(error, f'{name}:')}"
        hint = hint_for(error, sandboxed=False)
        if isinstance(error, ModuleNotFoundError):
            hint = hint or f"install what brings it: {sys.executable} -m pip install …"
            if error.name is not None and f"{name}.".startswith(f"{error.name}."):
                raised = f"{sys.executable} has no module {error.name!r}"
                hint = "run it by the backend's own interpreter, in its directory: VENV/bin/python -m sereno apply"
        raise UsageError(f"{source}: {raised}", hint=hint) from error


def _register_functions(
    module: ModuleType, name: str | None, source: str
) -> list[Callable[[Scheduler], Any]]:
    name = name or ("register" if hasattr(module, "register") else None)
    if name is not None:
        function = getattr(module, name, None)
        if not callable(function):
            raise UsageError(
                f"{source}: module {module.__name__!r} has no function {name!r}", hint=_EXAMPLE
            )
        return [function]
    return [
        value
        for name, value in vars(module).items()
        # What was imported from elsewhere is somebody else's job.
        if name.startswith("register_")
        and callable(value)
        and f"{getattr(value, '__module__', '')}.".startswith(f"{module.__name__}.")
    ]
