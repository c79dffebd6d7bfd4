"""The jobs at a glance: what needs a look comes first, and every line fits the terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watch_jobs import NOW_S, a_job

from sereno.cli.terminal import columns, short_span
from sereno.cli.watch_table import WatchTable, counts, detail
from sereno.observe.look import Snapshot

JOBS = [
    a_job("b_well"),
    a_job("a_well", "skipped"),
    a_job("z_failing", "failed", error="ValueError: no such table"),
    a_job("y_running", "running", running=True, ago_s=65, next_in_s=None),
    a_job("x_stopped", active=False, next_in_s=None),
    a_job("a_paused", None, paused=True, active=False, next_in_s=None),
    a_job("q_again", "running", running=True, failing=True, next_in_s=0.4),
]
DURATIONS_MS = {"b_well": [1.0, 2.0, 3.0, 8.0]}


def text(line) -> str:
    return "".join(piece for piece, _ in line).rstrip()


def lines(jobs=JOBS, width: int | None = 80, **options) -> list[str]:
    table = WatchTable(Snapshot(jobs, DURATIONS_MS), NOW_S, width, **options)
    return [text(table.header()), *(text(table.line(number)) for number in range(len(jobs)))]


def test_failing_jobs_come_first_then_running_then_stopped_and_paused_last() -> None:
    assert lines() == [
        "  JOB        SCHEDULE     NEXT IN    AGO    RESULT   TOOK      TREND",
        "! q_again    every 15min  now        28s    running  28s",
        "! z_failing  every 15min  14min 32s  28s    failed   2.00s",
        "> y_running  every 15min  now        1min   running  1min 5s",
        "- x_stopped  every 15min  stopped    28s    success  2.00s",
        "  a_well     every 15min  14min 32s  28s    skipped  2.00s",
        "  b_well     every 15min  14min 32s  28s    success  2.00s     ▁▂▃█",
        "= a_paused   every 15min  paused     -      -        -",
    ]


def test_a_wide_terminal_also_says_why() -> None:
    header, _, failing, *_ = lines(width=200)
    assert header.endswith("WHY")
    assert failing.endswith("ValueError: no such table")


def test_the_first_line_counts_what_matters() -> None:
    assert text(counts(JOBS)) == "7 jobs, 2 failing, 2 running, 1 stopped, 1 paused"
    assert text(counts(JOBS[:1])) == "1 job"


def test_a_run_whose_start_is_not_recorded_yet_is_running_all_the_same() -> None:
    (line,) = lines([a_job("begun", "success", running=True)])[1:]
    assert line.split() == "> begun every 15min 14min 32s 28s running -".split()


def test_a_job_whose_timer_elapses_no_more_has_no_countdown() -> None:
    (line,) = lines([a_job("at_boot", next_in_s=None)])[1:]
    assert line.split() == "at_boot every 15min - 28s success 2.00s".split()


def test_the_chosen_job_says_why_it_failed_or_when_it_runs_next() -> None:
    assert detail(JOBS[2], None) == "z_failing: ValueError: no such table"
    told = detail(JOBS[0], None)
    assert told.startswith("b_well: every 15min, next 20")


def test_what_a_job_says_is_not_obeyed() -> None:
    job = a_job("shop", "failed", error="\x1b[2J\nx", schedule="at \x9b")
    assert r"\x1b[2J\nx" in lines([job], width=None)[1]
    assert text(WatchTable(Snapshot([job], {}), NOW_S, None).line(0)).isprintable()
    assert detail(job, None).isprintable()


def test_without_utf_8_the_lines_are_ascii() -> None:
    long = a_job("a_job_whose_name_is_longer_than_its_column", schedule="x" * 90)
    shown = lines([*JOBS, long], width=60, is_ascii=True)
    assert all(line.isascii() for line in shown)
    assert any("..." in line for line in shown)


@given(st.text(max_size=60), st.integers(24, 250))
def test_no_line_is_wider_than_the_terminal(words: str, width: int) -> None:
    job = a_job("j" * (len(words) + 1), "failed", schedule=words, error=words)
    assert all(columns(line) <= max(width, 25) for line in lines([job, *JOBS], width))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-3, "0s"),
        (0.9, "0s"),
        (59.9, "59s"),
        (60, "1min"),
        (61, "1min 1s"),
        (3600, "1h"),
        (3661, "1h 1min"),
        (3601, "1h"),
        (86_400 * 200 + 3600, "200d 1h"),
    ],
)
def test_a_span_is_its_two_largest_units(seconds: float, shown: str) -> None:
    assert short_span(seconds) == shown


def test_a_span_in_one_unit_is_the_largest() -> None:
    assert [
        short_span(seconds, units=1) for seconds in (5, 65, 7265, 90_000)
    ] == "5s 1min 2h 1d".split()
