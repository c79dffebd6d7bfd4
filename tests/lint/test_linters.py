"""The rules of pyproject.toml hold for every file, and the shell scripts are clean in the dialect of /bin/sh."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.waiting
TOP = Path(__file__).resolve().parents[2]


def shell_scripts() -> list[Path]:
    """Every file outside hidden folders (and .ci) that begins like a shell script."""
    files = [
        path for place in ("", "bin", ".ci", "tests") for path in sorted((TOP / place).glob("*"))
    ]
    return [path for path in files if path.is_file() and _is_shell(path)]


def _is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().rstrip() in {b"#!/bin/sh", b"#!/usr/bin/env sh", b"#!/bin/bash"}


def _complaints(*argv: str | Path) -> str:
    words = [str(word) for word in argv]
    done = subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize(
    "tool",
    [
        ("ruff", "check", "--output-format=concise", "."),
        ("ruff", "format", "--check", "--output-format=concise", "."),
    ],
    ids=" ".join,
)
def test_the_python_files_pass(tool: tuple[str, ...]) -> None:
    complaints = _complaints(sys.executable, "-m", *tool)
    assert not complaints, f"{' '.join(tool)}\n{complaints}"


def test_the_types_of_the_library_pass(mypy: tuple[str, ...]) -> None:
    complaints = _complaints(sys.executable, "-m", *mypy, "--strict", "lib")
    assert not complaints, complaints


@pytest.mark.parametrize("script", shell_scripts(), ids=lambda path: str(path.relative_to(TOP)))
def test_a_shell_script_passes(script: Path) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck (package shellcheck)")
    complaints = _complaints("shellcheck", "--external-sources", "--shell=sh", script)
    assert not complaints, complaints


def test_the_shell_scripts_are_found() -> None:
    assert {"install.sh", "run"} <= {path.name for path in shell_scripts()}


def test_no_test_is_collected_from_a_file_that_hides_another() -> None:
    """pytest imports test files by their bare name, so each name may be there once."""
    names = [path.name for path in (TOP / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
