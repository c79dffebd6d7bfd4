"""`sereno doctor` after runs that systemd could not begin, on a machine that nothing else has been broken on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from test_doctor_on_a_machine import STORE, examine, mend
from test_doctor_on_a_machine import store as store

if TYPE_CHECKING:
    from machine import Machine

REFUSED: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("userdel app", "account", "{hint}", ("served",)),
    (f"mv {STORE}/venv /srv/gone", "entry script", f"mv /srv/gone {STORE}/venv", ("eastern", "often")),
    ("mv /etc/shop.token /root", "needed path", "mv /root/shop.token /etc", ("secret",)),
]  # fmt: skip


@pytest.mark.every_systemd
@pytest.mark.parametrize(
    ("fault", "check", "cure", "jobs"), REFUSED, ids=[row[0] for row in REFUSED]
)
def test_a_run_that_systemd_refuses_is_told_by_its_cause_alone_as_long_as_that_is_there(
    store: Machine, fault: str, check: str, cure: str, jobs: tuple[str, ...]
) -> None:
    store.run("sh", "-ec", fault)
    for job in jobs:
        store.run("systemctl", "start", f"sereno@{job}.service", check=False)
    (found,) = examine(store)
    assert found["check"] == check
    mend(store, found["hint"], cure)
    (left,) = examine(store)
    assert (left["check"], left["subject"]) == ("run", f"sereno@{jobs[0]}.service")
    mend(store, left["hint"], "{then}")
    store.wait_for(lambda: examine(store) == [], what="runs that succeed")
