"""What reaches a terminal: nothing that it would obey, and never wider than it is."""

import io
import os
import subprocess
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pseudo_terminal import PseudoTerminal
from sereno.cli import terminal
from sereno.cli.terminal import Screen, columns, duration, number, shortened, size, when
from sereno.records.printable import printable

HEADER = ("JOB", "SCHEDULE", "STATE")
ROWS = [("cache_cleanup_hourly", "at minute 0 of every hour", "active"), ("x", "-", "failing")]


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, width: int, **environ: str) -> Screen:
    monkeypatch.setattr(
        terminal.shutil, "get_terminal_size", lambda: terminal.os.terminal_size((width, 24))
    )
    return Screen(Terminal(), {"TERM": "xterm", **environ})


def printed(screen: Screen) -> list[str]:
    screen.table(HEADER, ROWS, cut=("SCHEDULE",), drop=("SCHEDULE",))
    assert isinstance(screen.stream, io.StringIO)
    return screen.stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ñ 漢", "plain ñ 漢"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("two\nlines\t", r"two\nlines\t"),
        ("\u202eevil\x9b", r"\u202eevil\x9b"),
        ("\udcff\U000e0001", r"\udcff\U000e0001"),
    ],
)
def test_control_and_format_characters_are_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_what_printable_returns_is_printable(text: str) -> None:
    assert printable(text).isprintable()


def test_off_a_terminal_there_is_neither_colour_nor_a_width() -> None:
    screen = Screen(io.StringIO(), {"TERM": "xterm", "COLUMNS": "10"})
    assert printed(screen) == [
        "JOB                   SCHEDULE                   STATE",
        "cache_cleanup_hourly  at minute 0 of every hour  active",
        "x                     -                          failing",
    ]


def test_a_terminal_gets_colours_unless_no_color_or_dumb(monkeypatch) -> None:
    assert printed(on_terminal(monkeypatch, 80))[2].endswith("\033[31mfailing\033[0m")
    for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\033" not in "".join(printed(on_terminal(monkeypatch, 80, **environ)))
    assert "\033" in "".join(printed(on_terminal(monkeypatch, 80, NO_COLOR="")))


@pytest.mark.parametrize("width", range(1, 60))
def test_no_line_is_wider_than_the_terminal(monkeypatch, width: int) -> None:
    lines = printed(on_terminal(monkeypatch, width, NO_COLOR="1"))
    assert len(lines) == 3
    # Two columns do not give way: a terminal that has no room for them wraps.
    least = len("cache_cleanup_hourly  failing")
    assert all(columns(line) <= max(width, least) for line in lines)


def test_a_narrow_terminal_shortens_a_column_and_then_leaves_it_out(monkeypatch) -> None:
    shortened_line = printed(on_terminal(monkeypatch, 45, NO_COLOR="1"))[1]
    assert shortened_line == "cache_cleanup_hourly  at minute 0 o…  active"
    assert printed(on_terminal(monkeypatch, 40, NO_COLOR="1"))[0].split() == ["JOB", "STATE"]


@given(st.text(), st.integers(1, 40))
def test_what_is_shortened_fits(text: str, width: int) -> None:
    assert columns(shortened(text, width)) <= max(width, 1)


def test_the_room_of_a_column_that_was_left_out_goes_to_the_one_that_was_cut() -> None:
    header, row = ("A", "B", "C"), ("a" * 20, "b" * 30, "c" * 30)
    for width, second in ((60, "b" * 30), (45, "b" * 22 + "…")):
        table = terminal.Table(header, [row], width, cut=("B",), drop=("C", "B"))
        assert [text for text, _ in table.line(row, {})] == ["a" * 20, "  ", second]


def test_wide_characters_take_two_columns() -> None:
    assert columns("漢字") == 4
    assert shortened("漢字漢字", 5) == "漢字…"


def test_times_have_their_zone() -> None:
    moment = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    assert when(moment, UTC) == "2026-07-01 12:00:00 UTC"
    assert when(moment.timestamp(), ZoneInfo("Europe/Madrid")) == "2026-07-01 14:00:00 CEST"
    assert when(None) == "-"


@pytest.mark.parametrize(
    ("duration_ms", "shown"),
    [
        (None, "-"), (0.4, "0ms"), (999.4, "999ms"), (2300, "2.30s"), (59_999, "60.00s"), (60_000, "1min"),
        (245_000, "4min 5s"), (4_320_000, "1h 12min"),
    ],
)  # fmt: skip
def test_durations_are_short(duration_ms, shown) -> None:
    assert duration(duration_ms) == shown


def test_figures_are_whole_or_have_two_digits() -> None:
    assert [number(value) for value in (None, 3, 3.0, 78.456, -0.5)] == [
        "-", "3", "3", "78.46", "-0.50",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bytes_", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (20480, "20.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 50, "3072.0 TiB")],
)  # fmt: skip
def test_a_size_has_the_unit_in_which_it_is_short(bytes_: int, shown: str) -> None:
    assert size(bytes_) == shown


WAITS = """
import sys, time
from sereno.cli import progress
progress._QUIET_S = 0.1
with progress.counting():
    time.sleep(0.5)
    print("a", file=sys.stderr)
    time.sleep(0.5)
    print("b")
"""


def test_what_takes_long_is_counted_on_a_terminal_and_leaves_no_trace() -> None:
    words = [sys.executable, "-c", WAITS]
    environ = {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    with PseudoTerminal(words, environ) as shown:
        shown.wait_for(lambda: shown.line("3s"))
        assert shown.ended() == 0
        # Nothing is counted any more once there was something to show.
        assert shown.shown() == ["a", "b"]
        assert b"6s" not in shown.sent
    with PseudoTerminal(words, environ | {"TERM": "dumb"}) as shown:
        assert shown.ended() == 0
        assert shown.sent == b"a\r\nb\r\n"
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("b\n", "a\n")
