"""`Logger`: what sereno says during a run, by a way of its own. And `logging`, which is the job's, once it is loaded.

What is true of a run does not pass through `logging`: a job may give it other handlers, levels, filters and factories,
or switch it off. Nor does a run load it, which takes longer than most runs do otherwise. In a program that never called
`set_up`, such as a backend that calls the cleanup itself, sereno's words are ordinary log records.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.machinery import ModuleSpec, PathFinder
    from types import ModuleType
    from typing import Any

    # Takes a level, a text, and fields as the journal names them; None means that there is no such field.
    Direct = Callable[[int, str, Mapping[str, Any]], None]
    Extra = Mapping[str, Any] | None
else:
    # Python has it at hand; importlib itself would be one more module to load.
    from _frozen_importlib_external import PathFinder

# The levels of logging.
INFO, WARNING, ERROR = 20, 30, 40

_direct: Direct | None = None


def set_up(direct: Direct, attach: Callable[[], None]) -> None:
    """From now on give what loggers say to `direct`; once `logging` is loaded, call `attach`, for the job's words."""
    global _direct
    _direct = direct
    if "logging" in sys.modules:
        attach()
    else:
        sys.meta_path.insert(0, _WhenLogging(attach))


class Logger:
    """The part of `logging.Logger` that a run needs; the arguments are the same.

    Of a message of `sereno.records.messages` the record has its kind as MESSAGE_ID.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def info(self, message: object, *args: object, extra: Extra = None) -> None:
        self.log(INFO, message, *args, extra=extra)

    def warning(self, message: object, *args: object, extra: Extra = None) -> None:
        self.log(WARNING, message, *args, extra=extra)

    def error(self, message: object, *args: object, extra: Extra = None) -> None:
        self.log(ERROR, message, *args, extra=extra)

    def log(self, level: int, message: object, *args: object, extra: Extra = None) -> None:
        kind = getattr(message, "kind", None)
        extra = {**({"MESSAGE_ID": kind} if kind else {}), **(extra or {})}
        if _direct is not None:
            text = str(message) % args if args else str(message)
            _direct(level, text, extra)
            return
        import logging

        # 3: this function, and the one of the level.
        logging.getLogger(self.name).log(level, message, *args, extra=extra, stacklevel=3)


class _WhenLogging:
    """An import hook (sys.meta_path) and the loader that it gives `logging`: loads it as ever, then calls `attach`."""

    _loader: Any

    def __init__(self, attach: Callable[[], None]) -> None:
        self._attach = attach

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name) if name == "logging" else None
        if spec is not None:
            self._loader, spec.loader = spec.loader, self  # type: ignore[assignment]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: Any) -> None:
        sys.meta_path.remove(self)
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._attach()
