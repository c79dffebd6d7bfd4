"""`Logger`: what sereno says during a run, without `logging` as long as the job does without it.

Loading `logging` takes longer than most runs do otherwise. A job that uses it has it, wherever it is imported from and
however late: from then on sereno's own words go through it too, so that each handler sees all of them. Until then they
go straight to where `set_up` says, and in a program that never called it, `logging` is loaded for them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    # Takes a level, a text, and fields as the journal names them; None means that there is no such field.
    Direct = Callable[[int, str, Mapping[str, Any]], None]

# The levels of logging.
INFO, WARNING, ERROR = 20, 30, 40

_direct: Direct | None = None


def set_up(direct: Direct, attach: Callable[[], None]) -> None:
    """From now on give what loggers say to `direct`, and once `logging` is loaded, to it; then call `attach` first.

    Args:
        attach: gives `logging` the handler that does what `direct` does.
    """
    global _direct
    if "logging" in sys.modules:
        attach()
    else:
        _direct = direct
        sys.meta_path.insert(0, _WhenLogging(attach))


class Logger:
    """The part of `logging.Logger` that a run needs; the arguments are the same."""

    def __init__(self, name: str) -> None:
        self.name = name

    def info(self, message: object, *args: object, extra: Mapping[str, Any] | None = None) -> None:
        self._log(INFO, message, args, extra)

    def warning(
        self, message: object, *args: object, extra: Mapping[str, Any] | None = None
    ) -> None:
        self._log(WARNING, message, args, extra)

    def error(
        self,
        message: object,
        *args: object,
        extra: Mapping[str, Any] | None = None,
        exc_info: BaseException | None = None,
    ) -> None:
        self._log(ERROR, message, args, extra, exc_info)

    def _log(
        self,
        level: int,
        message: object,
        args: tuple[object, ...],
        extra: Mapping[str, Any] | None,
        exc_info: BaseException | None = None,
    ) -> None:
        if _direct is None or "logging" in sys.modules or exc_info is not None:
            import logging

            # 3: this function, the one of the level, and who called that.
            logging.getLogger(self.name).log(
                level, message, *args, extra=extra, exc_info=exc_info, stacklevel=3
            )
        else:
            caller = sys._getframe(2)
            where = {
                "LOGGER": self.name,
                "CODE_FILE": caller.f_code.co_filename,
                "CODE_LINE": caller.f_lineno,
                "CODE_FUNC": caller.f_code.co_name,
            }
            text = str(message) % args if args else str(message)
            _direct(level, text, {**(extra or {}), **where})


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
