"""docs/servers.md followed to the letter, as far as no system must boot for it: by Ansible itself, and into an image.

tests/boot/test_first_boot.py has the first boot, tests/boot/test_readme_on_a_server.py the commands for a server, and
test_staged_dependencies.py the mirror.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from staged_system import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from pages import Block, blocks

from sereno import __version__

pytestmark = pytest.mark.staged
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


def block(argument: str) -> Block:
    (found,) = (each for each in blocks() if each.argument == argument)
    return found


@pytest.fixture
def servers(checkout: Path, tmp_path: Path) -> Path:
    """A directory with the playbook, an inventory of this machine alone, and the archive as the page makes it."""
    place = tmp_path / "ansible"
    place.mkdir()
    for command in ("git init -q", "git add .", "git -c user.name=a -c user.email=a commit -qm x"):
        subprocess.run(command.split(), cwd=checkout, check=True)
    subprocess.run(["sh", "-ec", block("archive").text], cwd=checkout, check=True)
    shutil.rmtree(checkout / ".git")
    for archive in checkout.glob("sereno-*.tar.gz"):
        archive.rename(place / archive.name)
    (place / "sereno.yml").write_text(block("servers/sereno.yml").text)
    (place / "hosts").write_text(
        "[servers]\nhere ansible_connection=local ansible_become=false"
        " ansible_python_interpreter=/usr/bin/python3\n"
    )
    return place


def played(servers: Path, image: Image, *words: str) -> dict[str, int]:
    """Play the page's playbook on an image; return how many tasks there were of each kind."""
    (servers / "src").mkdir(exist_ok=True)
    options = ["--root", str(image.root), "--wheels", str(image.wheels)]
    variables = {"sereno_source": str(servers / "src"), "sereno_options": options}
    done = subprocess.run(
        [PLAYBOOK, "-i", "hosts", "sereno.yml", "-e", yaml.safe_dump(variables, default_flow_style=True), *words],
        cwd=servers, capture_output=True, text=True, check=False,
        env={**os.environ, "ANSIBLE_HOME": str(servers / "home"), "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {kind: int(count) for kind, count in re.findall(r"(\w+)=(\d+)", done.stdout)}


def test_ansible_changes_once_and_its_check_mode_says_the_same_and_changes_nothing(
    empty: Image, servers: Path
) -> None:
    checked = played(servers, empty, "--check")
    # What is not unpacked yet cannot be asked.
    assert (checked["changed"], checked["skipped"]) == (1, 2)
    assert not empty.root.exists()
    assert not any((servers / "src").iterdir())
    assert played(servers, empty)["changed"] == 3
    again = played(servers, empty, "--check")
    assert (again["changed"], again["skipped"], again["ok"]) == (0, 1, 2)
    (empty.root / "etc/systemd/system/sereno.target").unlink()
    assert played(servers, empty, "--check")["changed"] == 1
    assert not (empty.root / "etc/systemd/system/sereno.target").exists()


def test_the_image_of_the_page_is_staged(checkout: Path, empty: Image, wheels: Path) -> None:
    text = re.sub(r"\bsudo ", "", block("image").text).replace("/mnt/image", str(empty.root))
    text = text.replace("./install.sh", f"./install.sh --wheels {wheels} --dry-run")
    done = subprocess.run(
        ["sh", "-ec", text], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert f"would write: {empty.root}/etc/systemd/system" in done.stdout
    assert done.stdout.endswith("\nchanged\n")


def test_the_page_names_the_version_that_this_is() -> None:
    named = {
        argument for each in blocks() for argument in re.findall(r"sereno-(\d[\d.]+\d)", each.text)
    }
    assert named == {__version__}
