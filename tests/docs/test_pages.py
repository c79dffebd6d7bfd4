"""What the README and the pages show and need no systemd for; tests/boot/test_readme_on_a_server.py does the rest."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib import import_module
from pathlib import Path

import celery
import pytest
from pages import README, Block, blocks, fences, text_of, write_into_checkout

import catalogue
from sereno import cli
from sereno.cache import MetadataCache
from sereno.notify import config
from sereno.notify.message import Event, compose
from sereno.scheduler import Scheduler
from shipped import REPOSITORY, copy_of_checkout

pytestmark = pytest.mark.waiting
UNTESTED = (
    # The two pictures, the benchmark, the entry point (tests/unit/cli/test_discovery.py), and an answer to a call of
    # APScheduler (tests/unit/declare/test_from_apscheduler.py).
    5
)
NOT_BOOTED = "System has not been booted with systemd as init system (PID 1). Can not operate."
SPANISH = REPOSITORY / "README.es.md"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_of_checkout(tmp_path / "sereno")


def test_every_block_says_what_it_is_and_so_is_tested() -> None:
    assert len(blocks()) == fences() - UNTESTED
    kinds = {"file", "run", "jobs", "part of", "shows"}
    assert {block.kind for block in blocks()} == kinds
    assert {block.argument for block in blocks() if block.kind == "run"} == {
        "server",
        "tests",
        "checkout",
        "fastapi",
        "cache",
        # tests/install/test_page_for_many_servers.py
        "archive",
        "image",
    }


def test_the_job_of_the_pages_passes_the_test_of_the_pages(checkout: Path) -> None:
    write_into_checkout(checkout)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/unit/test_cache_report_job.py"],
        cwd=checkout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_who_adds_the_job_of_the_pages_finds_the_linters_content(
    checkout: Path, mypy: tuple[str, ...]
) -> None:
    write_into_checkout(checkout)
    for words in (("ruff", "check", "."), ("ruff", "format", "--check", "."), (*mypy, "lib")):
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=checkout, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_commands_of_the_pages_for_the_checkout_work(checkout: Path) -> None:
    write_into_checkout(checkout)
    for block in blocks():
        if block.argument == "checkout":
            subprocess.run(["sh", "-ec", block.text], cwd=checkout, check=True, capture_output=True)
    assert (checkout / "bin/sync_prices").exists()


def test_the_fastapi_example_serves_from_the_cache_that_its_workers_share(
    tmp_path: Path,
) -> None:
    (main,) = (block for block in blocks() if block.argument == "shop/main.py")
    (command,) = (block for block in blocks() if block.argument == "fastapi")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/main.py").write_text(main.text)
    (jobs,) = (block for block in blocks() if block.argument == "/srv/shop/shop/jobs.py")
    (tmp_path / "shop/jobs.py").write_text(jobs.text)
    # A machine without systemd, whatever this one is.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/systemctl").write_text(f"#!/bin/sh\necho '{NOT_BOOTED}' >&2\nexit 1\n")
    (tmp_path / "bin/systemctl").chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = command.text.replace("--port 8000", f"--port {port}").split()
    server = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        env={
            "PYTHONPATH": f"{REPOSITORY / 'lib'}:{tmp_path}",
            "SERENO_CACHE_DIR": str(tmp_path / "cache"),
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "HOME": str(tmp_path),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(20):
            answer = fetch(f"http://127.0.0.1:{port}/products/7", server)
            assert answer == {"number": 7, "name": "Product 7"}
        shown = fetch(f"http://127.0.0.1:{port}/admin/jobs", server)
        assert isinstance(shown, list)
        assert [(job["id"], job["next_run"], job["installed"]) for job in shown] == [
            ("shop_expire_carts", None, False),
            ("shop_sync_prices", None, False),
        ]
    finally:
        server.terminate()
        said = server.communicate(timeout=20)[1]
    assert said.count("the jobs are not scheduled: ") == 2
    stats = MetadataCache(tmp_path / "cache/metadata").get_stats()
    assert stats["size"] == 1
    assert stats["hits"] + stats["misses"] == 20
    assert stats["hits"] >= 18


def fetch(url: str, server: subprocess.Popen[str], deadline_s: float = 30) -> object:
    give_up = time.monotonic() + deadline_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return json.load(response)
        except urllib.error.URLError:
            assert server.poll() is None, server.communicate()[1]
            assert time.monotonic() < give_up, "the server does not answer"
            time.sleep(0.05)


@pytest.mark.parametrize("number", range(2))
def test_what_a_page_does_with_the_cache_works(number: int, tmp_path: Path) -> None:
    block = [block for block in blocks() if block.argument == "cache"][number]
    (tmp_path / "page.py").write_text(block.text)
    subprocess.run(
        [sys.executable, "-c", "import page"],
        env={
            "PYTHONPATH": f"{REPOSITORY / 'lib'}:{tmp_path}",
            "SERENO_CACHE_DIR": str(tmp_path / "cache"),
        },
        check=True,
    )
    stats = MetadataCache(tmp_path / "cache/metadata").get_stats()
    # Each page reads what it has set, and takes it away at its end.
    assert (stats["hits"], stats["size"]) == (1, 0)


@pytest.mark.parametrize(
    "block", [block for block in blocks() if block.kind == "jobs"], ids=lambda block: block.argument
)
def test_the_jobs_of_a_page_can_be_registered(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{block.argument}.py").write_text(block.text)
    monkeypatch.syspath_prepend(tmp_path)
    scheduler = Scheduler(scope="system", root=tmp_path / "root")
    import_module(block.argument).register(scheduler)
    assert len(scheduler.get_jobs()) == block.text.count("scheduler.add_")


def test_a_task_of_another_scheduler_runs_a_job_of_the_pages_and_fails_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("jobs", "tasks"):
        (block,) = (block for block in blocks() if block.argument == f"/srv/shop/shop/{name}.py")
        (tmp_path / f"shop_{name}.py").write_text(block.text)
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY / 'lib'}:{tmp_path}")
    monkeypatch.syspath_prepend(tmp_path)
    task = celery.Celery("shop").task(import_module("shop_tasks").run_job)
    elapse = "2026-11-30T03:00:00+00:00"
    done = task.apply(("shop_sync_prices", "shop_jobs:sync_prices", elapse))
    assert done.status == "SUCCESS"
    *_, last = map(json.loads, capfd.readouterr().out.splitlines())
    assert (last["SERENO_STATS"], last["SERENO_ELAPSE"]) == ('{"prices": 42}', elapse)
    assert task.apply(("shop_sync_prices", "shop_jobs:no_such_function")).status == "FAILURE"


def test_the_exit_statuses_and_message_ids_are_those_of_the_code() -> None:
    ids = re.findall(r"\| `([0-9a-f]{32})` \|", text_of("metrics"))
    assert ids == [entry.kind for entry in catalogue.entries("en")]
    for status in re.findall(r"^  (\d)  ", cli.EXIT_STATUSES, re.MULTILINE):
        assert re.search(rf"Exit status of `sereno`:[^.]*\b{status} ", text_of("operating"))


def test_every_command_of_the_table_exists() -> None:
    help_text = cli._parser().format_help()
    for command in re.findall(r"^\| `sereno ([\w-]+)", text_of("operating"), re.MULTILINE):
        assert re.search(rf"^    {command}\b", help_text, re.MULTILINE), command


def test_the_example_of_notify_toml_is_right_and_every_key_of_the_file_is_named() -> None:
    (example,) = (block for block in blocks() if block.argument.endswith("/notify.toml"))
    parsed = config.parse(example.text, "docs/notify.md")
    assert {handler.type for handler in parsed.handlers} == set(config.HANDLERS)
    page = text_of("notify")
    table = page[page.index("| key | of |") : page.index("The JSON has")]
    keys = {*config.SETTINGS, *config.COMMON}.union(*config.HANDLERS.values())
    assert set(re.findall(r"`([a-z_]+)`", table)) - {"mail", "webhook", "apprise"} == keys
    payload = compose(Event("test", "j", "r", "h", "system", 0.0)).payload
    listed = page[page.index("The JSON has") : page.index("A message that did not leave")]
    assert set(payload) <= set(re.findall(r"`([a-z_]+)`", listed))


def test_the_picture_shows_every_wing_and_door() -> None:
    library = REPOSITORY / "lib/sereno"
    wings = {f"{path.parent.name}/" for path in library.glob("*/__init__.py")}
    for page in (README, SPANISH):
        picture = page.read_text().partition("```text\nlib/sereno\n")[2].partition("```")[0]
        lines = picture.splitlines()
        assert {line.split()[0] for line in lines[1:]} == wings
        assert all((library / f"{door}.py").exists() for door in lines[0].split()[:3])
        assert all(" # " in line for line in lines)


def test_every_dependency_is_named_with_its_reason() -> None:
    pinned = "".join(path.read_text() for path in REPOSITORY.glob("lib/requirements*.txt"))
    names = re.findall(r"^([a-z]+)==", pinned, re.MULTILINE)
    assert names
    for name in names:
        assert f"| [{name}]" in text_of("architecture")
