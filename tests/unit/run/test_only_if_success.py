"""`only_if_success`: which runs are left out, judged by what the manager says."""

import pytest

from sereno.errors import NotAvailable, SystemdError
from sereno.manager.systemctl import Systemctl
from sereno.run.only_if_success import ONLY_IF_SUCCESS, skip, why_no_success

SUCCEEDED = {
    "ActiveState": "inactive",
    "Result": "success",
    "ExecMainStatus": "0",
    "ExecMainExitTimestamp": "@1764000000",
}


class Manager(Systemctl):
    def __init__(self, started_by: str, *runs: dict[str, str]) -> None:
        super().__init__()
        self._started_by, self._runs = started_by, list(runs)
        self.asked: list[str] = []

    def run_of(self, job_id: str, *properties: str) -> tuple[bool, list[str], dict[str, str]]:
        if self._started_by == "nobody knows":
            raise NotAvailable("systemd: nobody answers")
        return self._started_by == "timer", [], {}

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        self.asked.append(unit)
        if not self._runs:
            raise SystemdError("systemctl show: failed")
        return self._runs.pop(0)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"ActiveState": "activating"}, "está en ejecución"),
        ({"ExecMainExitTimestamp": ""}, "no se ha ejecutado desde el arranque"),
        ({"Result": "exit-code", "ExecMainStatus": "1"}, "falló (exit-code)"),
        ({"Result": "timeout"}, "falló (timeout)"),
        ({"Result": "resources", "ExecMainExitTimestamp": ""}, "falló (resources)"),
        ({"StatusText": "success"}, None),
        # os._exit(0), exec: it never said what it came to.
        ({"StatusText": "running"}, "no dejó registro de su fin"),
        ({"ExecMainStatus": "77"}, "fue omitida"),
        ({"ExecMainStatus": "143"}, "fue interrumpida"),
        ({"ExecMainStatus": "15"}, "fue interrumpida"),
        # After `systemctl reset-failed` the result is gone and the status is not.
        ({"ExecMainStatus": "1"}, "terminó con estado 1"),
    ],
)
def test_only_a_latest_run_that_did_its_work_is_a_success(changed, reason) -> None:
    assert why_no_success({**SUCCEEDED, **changed}) == reason


def test_a_run_goes_on_when_all_others_succeeded(caplog) -> None:
    manager = Manager("timer", SUCCEEDED, SUCCEEDED)
    assert not skip("send", {ONLY_IF_SUCCESS: "dump check"}, manager)
    assert manager.asked == ["sereno@dump.service", "sereno@check.service"]
    assert caplog.records == []


def test_a_run_is_left_out_and_recorded_for_the_first_that_did_not() -> None:
    failed = {**SUCCEEDED, "Result": "exit-code"}
    manager = Manager("timer", SUCCEEDED, failed, SUCCEEDED)
    assert skip("send", {ONLY_IF_SUCCESS: "dump check"}, manager) == (
        "Tarea send omitida: check falló (exit-code)",
        {"SERENO_AFTER": "check"},
    )


def test_a_run_by_hand_is_never_left_out() -> None:
    manager = Manager("hand", {**SUCCEEDED, "Result": "exit-code"})
    assert not skip("send", {ONLY_IF_SUCCESS: "dump"}, manager)
    assert manager.asked == []


@pytest.mark.parametrize("manager", [Manager("nobody knows"), Manager("timer")])
def test_a_success_that_cannot_be_asked_for_is_none(manager) -> None:
    text, _ = skip("send", {ONLY_IF_SUCCESS: "dump"}, manager)
    assert "no se puede preguntar a systemd" in text
