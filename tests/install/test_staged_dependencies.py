"""The Python dependencies that install.sh puts on a server: pinned with hashes, and to be had without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from staged_system import RELEASES, Image

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from pages import blocks

from shipped import REPOSITORY, copy_of_checkout

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
    assert "the packages cannot be had: " in done.stderr
    assert empty.listing() == {}


def test_a_folder_without_a_wheel_is_refused(empty: Image, checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    empty.wheels = tmp_path / "none"
    done = empty.install(checkout, check=False)
    assert done.returncode == 1
    first, *ways_out = done.stderr.splitlines()
    assert "No matching distribution found for cachetools" in first
    assert all(line.startswith("  ") for line in ways_out)
    # Whether the machine is one of those for which there are wheels.
    assert re.search(r"x86_64 and aarch64\. Here: Python 3\.\d+, \w+\.$", done.stderr, re.MULTILINE)
    assert "--wheels DIR" in done.stderr
    assert empty.listing() == {}


# Each machine of the boot tests is installed so, in a network namespace of its own.
@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a machine without a network")
def test_with_a_folder_of_wheels_no_network_is_needed_for_all_the_dependencies(
    empty: Image, wheels: Path, tmp_path: Path
) -> None:
    checkout = copy_of_checkout(tmp_path / "sereno")
    words = ["unshare", "--net", "sh", str(checkout / "install.sh"), "--root", str(empty.root)]
    subprocess.run([*words, "--wheels", str(wheels)], check=True, capture_output=True)
    python = empty.root / RELEASES / empty.current() / "venv/bin/python3"
    subprocess.run(
        [str(python), "-I", "-c", "import lmdb, orjson, cachetools, urwid, jinja2"], check=True
    )


def test_without_a_network_the_message_is_one_line_and_the_ways_out(
    empty: Image, checkout: Path
) -> None:
    empty.wheels = None
    settings = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", **NO_SETTINGS}
    done = empty.install(checkout, env=settings, check=False)
    assert done.returncode == 1
    first, *ways_out = done.stderr.splitlines()
    assert re.match(
        r"install.sh: the packages cannot be had: No match.*; .*Connection refused", first
    )
    assert all(line.startswith("  ") for line in ways_out)
    assert empty.listing() == {}


def test_a_pip_conf_that_cannot_be_read_is_named(
    empty: Image, checkout: Path, tmp_path: Path
) -> None:
    (tmp_path / "pip.conf").write_text("index-url = nowhere\n")
    done = empty.install(checkout, env={"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("install.sh: pip's settings cannot be read: ")
    assert "Traceback" not in done.stderr
    assert empty.listing() == {}


# This machine's own settings, as far as they would answer in place of a test's mirror.
NO_SETTINGS = {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_CONFIG_FILE": os.devnull}


class _Mirror(SimpleHTTPRequestHandler):
    """A package index of files, as one behind a proxy too: a proxy is asked with a whole URL."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(urlsplit(path).path)

    def log_message(self, format: str, *arguments: object) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]


@pytest.fixture
def mirror(wheels: Path, tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    """A server whose `asked` grows by the path of each request."""
    for wheel in wheels.glob("*.whl"):
        name = wheel.name.partition("-")[0].lower().replace("_", "-")
        place = tmp_path / "www/simple" / name
        place.mkdir(parents=True, exist_ok=True)
        (place / wheel.name).symlink_to(wheel)
    handler = partial(_Mirror, directory=str(tmp_path / "www"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("where", ["pip.conf", "environment", "proxy"])
def test_an_internal_mirror_and_a_proxy_are_used_as_pips_settings_say(
    empty: Image, checkout: Path, mirror: ThreadingHTTPServer, tmp_path: Path, where: str
) -> None:
    """Settings beside them that would put the packages elsewhere do nothing."""
    address = f"http://127.0.0.1:{mirror.server_port}"
    (page,) = (block.text for block in blocks() if block.argument == "servers/pip.conf")
    lines = {
        "pip.conf": page.replace("https://pypi.example.org", address).removeprefix("[global]\n"),
        "environment": "index-url = http://127.0.0.1:9/simple/",
        "proxy": f"index-url = http://mirror.invalid/simple/\nproxy = {address}\ntrusted-host =\n    mirror.invalid",
    }
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "pip.conf").write_text(
        f"[global]\nquiet = 1\ntarget = {elsewhere}\nuser = yes\n{lines[where]}\n"
    )
    env = {**NO_SETTINGS, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PIP_RETRIES": "0"}
    if where == "environment":
        env["PIP_INDEX_URL"] = f"{address}/simple/"
    empty.wheels = None
    # The first `find` comes when the packages are there.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/find").write_text(
        "#!/bin/sh\necho ${1%/bin}/lib/*/*/cachetools/__init__.py >&2\nexit 1\n"
    )
    (tmp_path / "bin/find").chmod(0o755)
    done = empty.install(checkout, env=env, path=str(tmp_path / "bin"), check=False)
    assert re.match(
        r"install.sh: this failed: find .*/python3[^*]*/__init__\.py$", done.stderr.splitlines()[0]
    )
    asked = mirror.asked  # type: ignore[attr-defined]
    assert any(path.endswith("/simple/cachetools/") for path in asked)
    assert all(path.startswith("http://mirror.invalid/") == (where == "proxy") for path in asked)
    assert not elsewhere.exists()


def test_a_backend_gets_no_lmdb_with_the_known_holes_of_its_format() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (least,) = re.findall(r"lmdb>=([\d.]+)", " ".join(project["dependencies"]))
    (pinned,) = re.findall(
        r"^lmdb==([\d.]+)", (REPOSITORY / "lib/requirements.txt").read_text(), re.MULTILINE
    )
    assert (2, 1) <= tuple(map(int, least.split("."))) <= tuple(map(int, pinned.split(".")))
