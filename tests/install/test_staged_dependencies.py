"""The Python dependencies that install.sh puts on a server: pinned with hashes, and to be had without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from staged_system import RELEASES, Image

from shipped import REPOSITORY

pytestmark = pytest.mark.staged


def test_every_dependency_has_one_version_and_hashes() -> None:
    files = (REPOSITORY / f"lib/requirements{kind}.txt" for kind in ("", "-command"))
    text = "".join(file.read_text() for file in files).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) >= 3
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+(?: +--hash=sha256:[0-9a-f]{64})+", line), line


def test_a_wheel_with_other_bytes_is_refused_and_nothing_is_switched(
    empty: Image, checkout: Path, wheels: Path, tmp_path: Path
) -> None:
    other = tmp_path / "wheels"
    shutil.copytree(wheels, other)
    (wheel,) = other.glob("cachetools-*.whl")
    with wheel.open("ab") as file:
        file.write(b"\0")
    empty.wheels = other
    done = empty.install(checkout, check=False)
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert "this failed: " in done.stderr
    assert not (empty.root / "opt/sereno/current").exists()
    assert not list((empty.root / RELEASES).glob("*/MANIFEST"))
    empty.wheels = wheels
    empty.install(checkout)
    assert empty.current()


def test_a_folder_without_a_wheel_is_refused(empty: Image, checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    empty.wheels = tmp_path / "none"
    done = empty.install(checkout, check=False)
    assert done.returncode == 1
    assert "No matching distribution found for cachetools" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a machine without a network")
def test_with_a_folder_of_wheels_no_network_is_needed(
    empty: Image, checkout: Path, wheels: Path, tmp_path: Path
) -> None:
    words = ["unshare", "--net", "sh", str(checkout / "install.sh"), "--root", str(empty.root)]
    subprocess.run([*words, "--wheels", str(wheels)], check=True, capture_output=True)
    python = empty.root / RELEASES / empty.current() / "venv/bin/python3"
    subprocess.run([str(python), "-I", "-c", "import lmdb, orjson, cachetools"], check=True)
