"""The screen of `sereno watch` in a terminal: it follows, obeys keys, and leaves all as it was, however it ends."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pseudo_terminal import PseudoTerminal

HERE = Path(__file__).parents[1]
WELL = {"job_id": "shop_sync", "schedule": "every 15min"}
FAILED = {**WELL, "status": "failed", "error": "ValueError: no such table \x1b[2J"}
GOING = {**WELL, "status": "running", "running": True}
OTHER = {"job_id": "other"}
Start = Callable[..., PseudoTerminal]


@pytest.fixture
def told(tmp_path: Path) -> Path:
    return tmp_path / "told"


def tell(told: Path, *jobs: dict[str, object]) -> None:
    new = told.with_suffix(".new")
    new.write_text(json.dumps(jobs))
    new.replace(told)


@pytest.fixture
def start(told: Path) -> Iterator[Start]:
    started = []

    def start(*jobs: dict[str, object], columns: int = 80, lines: int = 24, **environ: str):
        tell(told, *jobs)
        words = [sys.executable, str(HERE / "watch_jobs.py"), str(told)]
        settings = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color"}
        settings["PYTHONPATH"] = str(HERE.parents[1] / "lib")
        terminal = PseudoTerminal(words, {**settings, **environ}, columns=columns, lines=lines)
        started.append(terminal)
        if jobs:
            terminal.wait_for(lambda: terminal.line("q quit"))
        return terminal

    yield start
    for terminal in started:
        terminal.__exit__()


def test_in_80_columns_all_of_a_job_is_on_its_line(start: Start) -> None:
    terminal = start(WELL, {**FAILED, "job_id": "cache_cleanup_hourly"})
    first, header, failing, well, *_, chosen, keys = terminal.shown()
    assert first.startswith("2 jobs, 1 failing   14:00:00 UTC   system scope")
    assert (
        header == "  JOB                   SCHEDULE     NEXT IN    AGO    RESULT   TOOK      TREND"
    )
    assert (
        failing == "! cache_cleanup_hourly  every 15min  14min 32s  28s    failed   2.00s     ▁▅█"
    )
    assert well.startswith("  shop_sync             every 15min  14min 32s  28s    success")
    assert chosen == r"cache_cleanup_hourly: ValueError: no such table \x1b[2J"
    assert keys.startswith("q quit")


def test_a_job_is_followed_from_waiting_to_running_to_failing(start: Start, told: Path) -> None:
    terminal = start(OTHER, WELL)
    assert terminal.shown()[3].startswith("  shop_sync")
    tell(told, OTHER, GOING)
    terminal.wait_for(lambda: terminal.shown()[2].startswith("> shop_sync"))
    tell(told, OTHER, FAILED)
    terminal.wait_for(lambda: terminal.shown()[2].startswith("! shop_sync"))
    tell(told, OTHER)
    terminal.wait_for(lambda: not terminal.line("shop_sync"))


def test_q_ends_it_and_the_terminal_is_as_before(start: Start) -> None:
    terminal = start(WELL)
    assert not terminal.echoes()
    terminal.press("q")
    assert terminal.ended() == 0
    assert terminal.echoes()
    assert b"\x1b[?1049h" in terminal.sent
    assert terminal.sent.index(b"\x1b[?1049l") > terminal.sent.index(b"\x1b[?1049h")
    assert terminal.sent.rindex(b"\x1b[?25h") > terminal.sent.rindex(b"\x1b[?25l")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_the_terminal_is_as_before(start: Start, number: int) -> None:
    terminal = start(WELL)
    if number == signal.SIGINT:
        terminal.press("\x03")
    else:
        terminal.process.send_signal(number)
    assert terminal.ended() == 128 + number
    assert terminal.echoes()
    assert b"\x1b[?1049l" in terminal.sent
    assert b"Traceback" not in terminal.sent


def test_it_ends_when_the_terminal_is_gone(start: Start) -> None:
    terminal = start(WELL)
    terminal.hang_up()
    assert terminal.ended() == 128 + signal.SIGHUP


def test_more_jobs_than_lines_are_scrolled_and_the_chosen_one_stays_chosen(
    start: Start, told: Path
) -> None:
    many = [{"job_id": f"job_{number:03}"} for number in range(100)]
    terminal = start(*many)
    assert not terminal.line("job_020  ")
    terminal.press("\x1b[6~\x1b[6~")
    terminal.wait_for(lambda: terminal.line("job_040: "))
    terminal.press("\x1b[F")
    terminal.wait_for(lambda: terminal.line("job_099: "))
    terminal.press("\x1b[A")
    terminal.wait_for(lambda: terminal.line("job_098: "))
    tell(told, *many, FAILED)
    terminal.wait_for(lambda: terminal.line("1 failing"))
    assert terminal.line("job_098: ")
    terminal.press("\x1b[H")
    terminal.wait_for(lambda: terminal.line("shop_sync: ValueError"))
    terminal.press("\x1b[F")
    terminal.wait_for(lambda: terminal.line("job_099: "))
    tell(told, OTHER)
    terminal.wait_for(lambda: terminal.line("other: "))
    tell(told)
    terminal.wait_for(lambda: terminal.line("no jobs in the system scope"))


def test_enter_shows_the_log_of_the_chosen_job_and_q_leads_back(start: Start) -> None:
    terminal = start(OTHER, WELL)
    terminal.press("\x1b[B\r")
    terminal.wait_for(lambda: terminal.line("log of shop_sync"))
    assert terminal.line("line 199 ") == r"11-05 14:03:19  line 199 of shop_sync \x1b[2J"
    terminal.press("\x1b[H")
    terminal.wait_for(lambda: terminal.line("line 0 "))
    terminal.press("q")
    terminal.wait_for(lambda: terminal.line("q quit"))
    assert terminal.line("every 15min")
    assert terminal.process.poll() is None


def test_it_follows_the_size_of_the_terminal(start: Start) -> None:
    terminal = start(OTHER, FAILED)
    assert not terminal.line("WHY")
    terminal.resize(160, 50)
    terminal.wait_for(lambda: terminal.line("WHY"))
    assert terminal.shown()[-1].startswith("q quit")
    assert len(terminal.shown()) == 50
    terminal.resize(20, 3)
    terminal.wait_for(lambda: len(terminal.shown()) == 3)
    terminal.resize(80, 24)
    terminal.wait_for(lambda: len(terminal.shown()) == 24 and terminal.line("TREND"))


def test_a_manager_that_refuses_is_told_and_asked_again(start: Start, told: Path) -> None:
    terminal = start(WELL)
    told.write_text("systemctl list-timers: refused\x07")
    terminal.wait_for(
        lambda: terminal.line(r"no answer at 14:00:00 UTC: systemctl list-timers: refused\x07")
    )
    assert terminal.line("shop_sync")
    tell(told, GOING)
    terminal.wait_for(lambda: terminal.line("> shop_sync"))
    assert not terminal.line("no answer")


def test_a_defect_ends_it_with_its_traceback_after_the_screen_is_given_back(
    start: Start, told: Path
) -> None:
    terminal = start(WELL)
    tell(told, {"job_id": 7})
    assert terminal.ended() == 1
    assert terminal.sent.index(b"\x1b[?1049l") < terminal.sent.index(b"Traceback")


def test_no_color_leaves_the_colours_away_and_not_the_marks(start: Start) -> None:
    coloured, plain = start(FAILED), start(FAILED, NO_COLOR="1")
    for terminal in (coloured, plain):
        assert terminal.line("! shop_sync")
    assert coloured.colours() > {"default"}
    assert plain.colours() == {"default"}


def test_what_has_not_changed_is_not_sent_again(start: Start, told: Path) -> None:
    terminal = start(*({"job_id": f"job_{number:03}"} for number in range(20)))
    before = len(terminal.sent)
    tell(told, *({"job_id": f"job_{number:03}", "running": number == 7} for number in range(20)))
    terminal.wait_for(lambda: terminal.line("> job_007"))
    assert b"job_019" not in terminal.sent[before:]
