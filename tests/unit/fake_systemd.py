"""A manager of systemd as a value: what scheduling tests look at instead of a running one.

It keeps which units are active and records every call, so a test can state both the order and the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from sereno.errors import SystemdError
from sereno.manager.systemctl import Elapse, Systemctl

NEXT = datetime(2030, 1, 1, tzinfo=UTC)


class FakeManager(Systemctl):
    """units: the directory of generated units, from whose links a target knows its timers; None: it has none.

    refused: timers that no start brings up.
    """

    def __init__(self, units: Path | None = None) -> None:
        super().__init__()
        self.units = units
        self.refused: set[str] = set()
        self.active: set[str] = {"sereno.target"}
        self.calls: list[tuple[str, ...]] = []
        self.fail_at: int | None = None
        self.shown: dict[str, str] = {}
        self.runs: list[set[str]] = []
        self.service_states: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.asked: list[tuple[str, ...]] = []
        # What stays loaded although it is not active.
        self.loaded: set[str] = set()

    def _record(self, *call: str) -> None:
        if self.fail_at is not None and len(self.calls) >= self.fail_at:
            raise SystemdError(f"systemctl {call[0]}: made to fail")
        self.calls.append(call)

    def changes(self) -> list[str]:
        """The verbs of the recorded calls."""
        return [call[0] for call in self.calls]

    def reload(self) -> None:
        self._record("reload")

    def start(self, units: Iterable[str], *, wait: bool = True) -> None:
        if units := list(units):
            self._record("start", *units)
            if failed := self.refused.intersection(units):
                raise SystemdError(f"systemctl start: {', '.join(failed)} made to fail")
            self.active.update(units)
            for unit in units if self.units else ():
                links = (link.name for link in self.units.glob(f"{unit}.wants/*"))
                self.active.update(name for name in links if name not in self.refused)

    def start_alone(self, units: Iterable[str]) -> None:
        self.start(units)

    def restart(self, units: Iterable[str]) -> None:
        if units := list(units):
            self._record("restart", *units)

    def stop(self, units: Iterable[str]) -> None:
        if units := list(units):
            self._record("stop", *units)
            self.active.difference_update(units)
            for target in [unit for unit in units if unit.startswith("sereno-app@")]:
                wants = target.replace("sereno-app@", "sereno-jobs@")
                links = self.units.glob(f"{wants}.wants/*") if self.units else ()
                of_app = {link.name for link in links} if self.units else set(self.active)
                self.active -= {unit for unit in of_app if unit.endswith(".timer")}

    def reset_failed(self, units: Iterable[str]) -> None:
        if units := list(units):
            self._record("reset-failed", *units)
            for unit in units:
                self.service_states.pop(unit, None)

    def list_timers(self, *names: str) -> dict[str, Elapse]:
        # systemctl lists timers that have failed as well.
        failed = {unit for unit, state in self.service_states.items() if state == "failed"}
        return {
            unit: Elapse(NEXT, None) for unit in self.active | failed if unit.endswith(".timer")
        }

    def is_starting(self, *patterns: str) -> bool:
        return False

    def list_units(self, *patterns: str, state: str = "") -> dict[str, dict[str, str]]:
        self.asked.append(patterns)
        states = {**dict.fromkeys(self.loaded, "inactive"), **dict.fromkeys(self.active, "active")}
        states |= self.service_states
        return {
            unit: {"LoadState": "loaded", "ActiveState": state, "SubState": state}
            for unit, state in states.items()
            if any(fnmatchcase(unit, pattern) for pattern in patterns)
        }

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        return self.shown

    def show_all(self, units: Iterable[str], *properties: str) -> dict[str, dict[str, str]]:
        units = tuple(units)
        self.asked.append(units)
        return {
            unit: {"Environment": self.environment.get(unit, ""), **self.shown} for unit in units
        }

    def is_active(self, unit: str) -> bool:
        return unit in self.active

    def running(self, units: Iterable[str]) -> set[str]:
        return self.runs.pop(0) if self.runs else set()


def provide_templates(home: Path) -> Path:
    """Put empty hand-written units where the user scope looks for them; return the generated units' directory."""
    units = home / ".local/share/systemd/user"
    units.mkdir(parents=True)
    for name in ("sereno@.service", "sereno-app@.target", "sereno.target"):
        (units / name).touch()
    return home / ".config/systemd/user"
