"""`sereno watch` over a real systemd, in a terminal: what the manager and the journal do is on the screen soon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from shop import Shop

from pseudo_terminal import PseudoTerminal

if TYPE_CHECKING:
    from machine import Machine


@pytest.fixture
def watch(machine: Machine) -> Iterator[Callable[..., PseudoTerminal]]:
    """watch(…): a terminal in which `sereno watch` shows its first picture."""
    started = []

    def watch(*words: str, user: str | None = None) -> PseudoTerminal:
        argv = ("sereno", "watch", "--interval", "0.5", *words)
        terminal = PseudoTerminal(*machine.command(*argv, user=user, env={"TERM": "xterm"}))
        started.append(terminal)
        terminal.wait_for(lambda: terminal.line("q quit"))
        return terminal

    yield watch
    for terminal in started:
        terminal.__exit__()


def test_a_job_is_seen_to_wait_to_run_and_to_fail(shop: Shop, watch) -> None:
    machine = shop.machine
    shop.install(
        "add_interval_job(shop_jobs.quick, 'well', hours=1)",
        "add_interval_job(shop_jobs.endless, 'going', hours=1)",
        "add_interval_job(shop_jobs.killed, 'killed', hours=1)",
    )
    terminal = watch("--utc")
    assert "  going  " in terminal.line("going")
    assert "59min " in terminal.line("going  ")
    machine.run("systemctl", "start", "--no-block", "sereno@going.service")
    terminal.wait_for(lambda: "running" in terminal.line("> going"))
    terminal.wait_for(lambda: "1 running" in terminal.shown()[0])
    terminal.wait_for(lambda: " 2s " in terminal.line("> going"))
    machine.run("systemctl", "kill", "--signal=KILL", "sereno@going.service")
    terminal.wait_for(lambda: "failed" in terminal.line("! going"))
    machine.run("systemctl", "start", "sereno@killed.service", check=False)
    terminal.wait_for(lambda: terminal.line("2 failing"))
    terminal.wait_for(lambda: terminal.line("going: killed by SIGKILL"))
    machine.run("systemctl", "start", "sereno@well.service")
    terminal.wait_for(lambda: "success" in terminal.line("  well "))
    machine.run("sereno", "pause", "well")
    terminal.wait_for(lambda: "paused" in terminal.line("= well "))
    shop.install()
    terminal.wait_for(lambda: terminal.line("1 job"))
    terminal.press("q")
    assert terminal.ended() == 0


def test_enter_shows_what_the_job_said(shop: Shop, watch) -> None:
    shop.install("add_interval_job(shop_jobs.raises, 'a_job', hours=1)")
    shop.machine.run("systemctl", "start", "sereno@a_job.service", check=False)
    terminal = watch()
    terminal.wait_for(lambda: terminal.line("a_job: ValueError: no such table"))
    terminal.press("\r")
    terminal.wait_for(lambda: terminal.line("Tarea a_job fallida"))
    terminal.press("q")
    terminal.wait_for(lambda: terminal.line("q quit"))
    terminal.press("q")
    assert terminal.ended() == 0
    assert terminal.echoes()


def test_it_is_printed_once_where_there_is_no_terminal(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.raises, 'a_job', hours=1)")
    shop.machine.run("systemctl", "start", "sereno@a_job.service", check=False)
    shop.machine.run("journalctl", "--sync")
    first, _, failing, *_ = shop.machine.run("sereno", "watch").stdout.splitlines()
    assert first == "2 jobs, 1 failing"
    assert failing.split()[:4] == "! a_job every 1h".split()
    assert "ValueError: no such table: ventas" in failing
