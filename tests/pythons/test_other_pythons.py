"""The unit tests under the other versions of Python that sereno supports; in the long run those of the cache too."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PYTHONS = os.environ.get("SERENO_TEST_PYTHONS", "").split()
TESTS = Path(__file__).parents[1]
WHAT = ["unit", "test_imports.py"]
if os.environ.get("SERENO_TEST_LONG") == "1":
    WHAT += ["cache", "triggers"]


def test_there_is_another_python() -> None:
    if not PYTHONS:
        pytest.skip("no python3.12 or python3.13 on the path or in pyenv")


@pytest.mark.waiting
@pytest.mark.parametrize("python", PYTHONS)
def test_the_unit_tests_pass_under(python: str) -> None:
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(TESTS / name for name in WHAT)],
        cwd=TESTS.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
