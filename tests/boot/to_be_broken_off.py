"""Not among the tests: what test_harness.py starts, and lets fail or breaks off."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from machine import Machine


def test_that_fails(blank_machine: Machine) -> None:
    blank_machine.run("logger", "--tag", "harness", "seen by the machine")
    raise AssertionError("as it should")


def test_that_hangs(blank_machine: Machine) -> None:
    Path(os.environ["HANGS_ON"]).write_text(blank_machine.name)
    time.sleep(600)
