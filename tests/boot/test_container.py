"""The image of the pages, made as a directory tree and run as a container does: process 1, read-only, no systemd.

No registry and no container engine takes part: the Dockerfile's instructions are done on a Debian tree, and what runs
in it is started by unshare(1) and chroot(1). /run is empty, and systemctl and journalctl are taken out.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from pages import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_S = 60.0
# What is mounted is gone with the last process.
INSIDE = """
mount -t tmpfs -o mode=0755 image "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cd "$1/root"
rm usr/bin/systemctl usr/bin/journalctl
mount -o remount,ro .
mount -t tmpfs tmp tmp
mount -t proc proc proc
shift 2
exec chroot "$@"
"""
CODE = """
import os, signal, sys, time
import sereno

def sees():
    with open("/tmp/scratch", "w") as file:
        file.write("may be written")
    try:
        open("/srv/shop/scratch", "w")
    except OSError as error:
        refused = error.strerror
    return {"pid": os.getpid(), "user": os.getuid(), "argv": sys.argv, "refused": refused,
            "secret": sereno.credential("db_password"), "systemd": os.path.exists("/run/systemd/journal"),
            "loaded": sorted({"systemd", "lmdb", "orjson", "cachetools", "subprocess"} & {*sys.modules})}

def waits():
    print("waits", file=sys.stderr, flush=True)
    while True:
        time.sleep(0.01)
"""


class Image(NamedTuple):
    """What the instructions of a Dockerfile have made; the layers are directories, the uppermost first."""

    layers: list[Path]
    environment: dict[str, str]
    directory: str
    user: str
    command: list[str]
    arguments: list[str]


def built(dockerfile: str, context: Path, tree: Path, layer: Path) -> Image:
    """Do the instructions of a Dockerfile. Debian is `tree`, which has what apt is asked for already."""
    settings = {"WORKDIR": "/", "USER": "0", "ENTRYPOINT": "[]", "CMD": "[]"}
    environment = {"PATH": "/usr/bin:/bin"}
    for line in dockerfile.splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            assert rest.startswith("debian:")
        elif instruction == "RUN":
            _, _, packages = rest.partition("--no-install-recommends ")
            for package in packages.split():
                query = ["dpkg-query", f"--root={tree}", "--show", package]
                subprocess.run(query, check=True, capture_output=True)
        elif instruction == "COPY":
            source, target = rest.split()
            to = Path(settings["WORKDIR"], target).relative_to("/")
            shutil.copytree(context / source, layer / to)
        elif instruction == "ENV":
            environment |= dict(word.split("=", 1) for word in shlex.split(rest))
        else:
            assert instruction in settings, line
            settings[instruction] = rest
    entry, arguments = json.loads(settings["ENTRYPOINT"]), json.loads(settings["CMD"])
    return Image(
        [layer, tree], environment, settings["WORKDIR"], settings["USER"], entry, arguments
    )


@pytest.fixture(scope="module")
def image(
    trees: tuple[Path, Path], checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> Image:
    """The image of docs/many-hosts.md, with the jobs of the README and some of this file's."""
    found = {block.argument: block.text for block in blocks() if block.kind == "file"}
    dockerfile = found["/srv/shop/Dockerfile"]
    assert len(dockerfile.splitlines()) <= 10
    context = tmp_path_factory.mktemp("context")
    (context / "sereno").symlink_to(checkout)
    (context / "shop").mkdir()
    (context / "shop/__init__.py").touch()
    (context / "shop/jobs.py").write_text(found["/srv/shop/shop/jobs.py"])
    (context / "shop/probes.py").write_text(CODE)
    layer = tmp_path_factory.mktemp("layer")
    layer.chmod(0o755)
    secret = layer / "srv/secrets/db_password"
    secret.parent.mkdir(parents=True)
    secret.write_text("s3cret\n")
    return built(dockerfile, context, trees[0], layer)


@pytest.fixture
def start(image: Image, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """start(JOB, FUNCTION, NAME=VALUE…): the container, whose process 1 is the entry point."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        home = tmp_path / f"home-{len(started)}"
        home.mkdir()
        values = {**image.environment, **environment}
        words = ["env", "--ignore-environment", f"--chdir={image.directory}"]
        words += [f"{name}={value}" for name, value in values.items()]
        words += [*image.command, *(arguments or image.arguments)]
        user = [f"--userspec={image.user}:{image.user}", "--groups=", "."]
        inside = [
            "sh",
            "-ec",
            INSIDE,
            "sh",
            str(home),
            ":".join(map(str, image.layers)),
            *user,
            *words,
        ]
        started.append(
            subprocess.Popen(
                [
                    "unshare",
                    "--mount",
                    "--pid",
                    "--fork",
                    "--kill-child",
                    "--net",
                    "--ipc",
                    *inside,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]], str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


def test_the_image_of_the_pages_runs_its_job(start: Callable[..., Any]) -> None:
    status, records, err = ended(start())
    assert (status, err) == (0, "")
    assert [record["SERENO_JOB"] for record in records] == ["shop_sync_prices"] * 2
    assert (records[-1]["SERENO_STATUS"], records[-1]["SERENO_STATS"]) == (
        "success",
        '{"prices": 42}',
    )


def test_a_run_needs_no_systemd_and_has_the_credentials_that_are_mounted(
    start: Callable[..., Any],
) -> None:
    run_id = "3f2c5a0e-8a61-4a5b-9d0c-2f7f3c1d9b11"
    name = f"probe-{time.time() // 60:.0f}"
    settings = {
        "CREDENTIALS_DIRECTORY": "/srv/secrets",
        "SERENO_RUN_ID": run_id,
        "SERENO_ELAPSE": name,
    }
    status, records, err = ended(start("probe", "shop.probes:sees", **settings))
    assert (status, err) == (0, "")
    assert {record["SERENO_RUN"] for record in records} == {run_id}
    assert {record["SERENO_ELAPSE"][-6:] for record in records} == {"+00:00"}
    assert json.loads(records[-1]["SERENO_STATS"]) == {
        "pid": 1, "user": 10001, "argv": ["probe"], "refused": "Read-only file system",
        "secret": "s3cret", "systemd": False, "loaded": [],
    }  # fmt: skip


def test_sigterm_to_process_1_ends_the_run_with_a_record_and_143(start: Callable[..., Any]) -> None:
    process = start("probe", "shop.probes:waits")
    assert process.stderr.readline() == "waits\n"
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGTERM)
    status, records, _ = ended(process)
    assert status == 143
    assert records[-1]["SERENO_STATUS"] == "interrupted"
    assert records[-1]["SERENO_ERROR"].startswith("RunInterrupted: SIGTERM")


@pytest.mark.parametrize(("setting", "status"), [({}, 77), ({"SERENO_EXIT_SKIPPED": "0"}, 0)])
def test_a_run_that_is_left_out_has_the_status_that_the_scheduler_understands(
    start: Callable[..., Any], setting: dict[str, str], status: int
) -> None:
    late = {"SERENO_ELAPSE": "2026-11-01T00:00:00Z", "SERENO_MISFIRE_GRACE_S": "60"}
    found, records, err = ended(start(**late, **setting))
    assert (found, records[-1]["SERENO_STATUS"], err) == (status, "skipped", "")
