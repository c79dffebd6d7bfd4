"""The unit tests under the other versions of Python that sereno supports.

In the ordinary run those in which a version can show: not what hypothesis draws, which is about our own arithmetic, not
what reads our own sources, not what another program judges, and not what starts processes, which the boot tests do on
the Python of each Debian. In the long run all of them, and those of the cache and of the triggers.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PYTHONS = os.environ.get("SERENO_TEST_PYTHONS", "").split()
TESTS = Path(__file__).parents[1]
LEFT_OUT = """
cli/test_completion.py cli/test_new.py cli/test_terminal.py cli/test_watch_screen.py export/test_kubernetes.py
notify/test_notify_delivery.py observe/test_report_command.py records/test_log.py records/test_messages.py
records/test_metrics.py run/test_outside.py run/test_run_process.py run/test_runner.py test_names_stand_once.py
test_scope_in_messages.py units/test_injection.py units/test_killed_changes.py
""".split()
if os.environ.get("SERENO_TEST_LONG") == "1":
    WHAT = [TESTS / name for name in ("unit", "test_imports.py", "cache", "triggers")]
else:
    WHAT = [TESTS / "unit", "-m", "not hypothesis"]
    WHAT += [f"--ignore={TESTS}/unit/{name}" for name in LEFT_OUT]


def test_there_is_another_python() -> None:
    if not PYTHONS:
        pytest.skip("no python3.12 or python3.13 on the path or in pyenv")


@pytest.mark.waiting
@pytest.mark.parametrize("python", PYTHONS)
def test_the_unit_tests_pass_under(python: str) -> None:
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *WHAT],
        cwd=TESTS.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
