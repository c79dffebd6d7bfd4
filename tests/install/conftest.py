"""Images that the tests of install.sh start from; each is staged once and copied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from staged_system import ACCOUNTS, Image, let_stop, make_light, make_newer

from shipped import REPOSITORY, copy_of_checkout


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of lib/requirements*.txt: that of tests/run, or one that is downloaded."""
    if ready := os.environ.get("SERENO_TEST_WHEELS"):
        return Path(ready)
    folder = tmp_path_factory.mktemp("wheels")
    environment = tmp_path_factory.mktemp("pip") / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", str(environment)], check=True)
    subprocess.run(
        [
            *(str(environment / "bin/pip"), "-q", "download", "--no-deps", "--require-hashes"),
            *("--only-binary", ":all:", "-d", str(folder)),
            *(f"--requirement={path}" for path in REPOSITORY.glob("lib/requirements*.txt")),
        ],
        check=True,
    )
    return folder


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With one dependency; that of the repository has them all."""
    return make_light(let_stop(copy_of_checkout(tmp_path_factory.mktemp("checkout") / "sereno")))


@pytest.fixture(scope="session")
def newer_checkout(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_newer(shutil.copytree(checkout, tmp_path_factory.mktemp("newer") / "sereno"))


@pytest.fixture(scope="session")
def installed_once(checkout: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """An image with accounts of its own and the checkout installed; not to be changed."""
    directory = tmp_path_factory.mktemp("installed")
    image = Image(directory / "image", directory / "scratch", wheels)
    (image.root / "etc").mkdir(parents=True)
    for name, text in ACCOUNTS.items():
        (image.root / "etc" / name).write_text(text)
    image.install(checkout)
    return image


@pytest.fixture
def installed(installed_once: Image, tmp_path: Path) -> Image:
    """The installed image, a copy for one test."""
    return installed_once.copy(tmp_path)


@pytest.fixture
def empty(wheels: Path, tmp_path: Path) -> Image:
    """An image with nothing in it."""
    return Image(tmp_path / "image", tmp_path / "scratch", wheels)
