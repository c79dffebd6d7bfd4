"""What systemd itself says of unit files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path


def assert_reads_without_a_word(directory: Path, units: Iterable[str]) -> None:
    """Have it read these units of `directory`, which knows no others."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
         *(str(directory / name) for name in units)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
