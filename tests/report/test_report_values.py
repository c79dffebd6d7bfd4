"""From runs to what the page shows: lanes, plots, the day ahead, and elapses that nothing came of."""

import doctest
import math
import re
from datetime import timedelta, timezone
from itertools import pairwise

import pytest
from sample import HOUR_S, NOW_S, WINDOW, a_run, a_state, hourly

from sereno.observe.report import model, plots
from sereno.observe.report.ahead import DAY_S, NAMED_JOBS, ahead
from sereno.observe.report.model import missed
from sereno.observe.report.plots import Window, band, bars, counted, line
from sereno.records.run_record import Run

ELAPSES = [NOW_S - HOUR_S * each for each in (5, 4, 3, 2, 1)]


def runs_at(*begins_s: float) -> list[Run]:
    return [a_run("job", begin_s) for begin_s in begins_s]


def missed_hours(runs: list[Run], elapses_s: list[float] = ELAPSES, **words: float) -> list[float]:
    return [(NOW_S - each) / HOUR_S for each in missed(elapses_s, runs, until_s=NOW_S, **words)]


def test_an_elapse_without_a_run_before_the_next_one_is_missed() -> None:
    assert missed_hours([]) == [5, 4, 3, 2, 1]
    assert missed_hours(runs_at(*ELAPSES)) == []
    assert missed_hours(runs_at(*ELAPSES[:2], *ELAPSES[3:])) == [3]


def test_a_skip_and_a_failure_are_no_missed_elapse() -> None:
    statuses = ("skipped", "failed", "lost", "interrupted", "skipped")
    runs = [a_run("job", at, status) for at, status in zip(ELAPSES, statuses, strict=True)]
    assert missed_hours(runs) == []


def test_a_run_that_makes_up_for_many_elapses_counts_for_the_last_of_them() -> None:
    assert missed_hours(runs_at(NOW_S - 1.5 * HOUR_S)) == [5, 4, 3, 1]


def test_an_elapse_that_passes_during_a_run_is_not_missed() -> None:
    long = a_run("job", ELAPSES[0])._replace(end_s=ELAPSES[2] + 1)
    assert missed_hours([long]) == [2, 1]
    assert missed_hours([a_run("job", ELAPSES[3], "running")], ELAPSES[3:]) == []


def test_the_run_of_an_elapse_of_this_minute_may_still_begin() -> None:
    just_now = [NOW_S - 10]
    assert missed([NOW_S - 3600, *just_now], [], until_s=NOW_S) == [NOW_S - 3600]
    assert missed([NOW_S - 300], [], until_s=NOW_S, slack_s=600) == []


def test_a_run_whose_beginning_is_not_known_counts_where_it_ended() -> None:
    assert missed_hours([Run("job", "1", "failed", None, ELAPSES[0] + 1)], ELAPSES[:1]) == []


def test_every_run_is_in_the_lane_of_its_status_and_every_lane_has_its_place() -> None:
    runs = [*hourly("job")[:9], a_run("job", NOW_S - 60, "odd"), a_run("job", NOW_S - 30, "failed")]
    view = model.job_view(a_state("job"), runs, WINDOW, missed_s=[NOW_S - HOUR_S])
    assert [(lane.status, lane.count, lane.y) for lane in view.lanes] == [
        ("success", 9, 0),
        ("failed", 1, 100),
        ("missed", 1, 200),
        ("odd", 1, 300),
    ]
    assert view.runs == 11
    assert view.recent[0] == runs[-1]


def test_a_run_that_is_under_way_reaches_from_its_beginning_to_now() -> None:
    runs = [a_run("job", NOW_S - 10 * HOUR_S, "running")]
    (lane,) = model.job_view(a_state("job"), runs, WINDOW).lanes
    assert lane.path == "M158 100v-100h10v100z"


@pytest.mark.parametrize(("days", "slots"), [(0.01, 48), (1, 48), (7, 168), (30, 240), (366, 240)])
def test_a_window_has_as_many_slots_as_can_be_seen(days: float, slots: int) -> None:
    window = model.window_of(days, NOW_S)
    assert window.slots == slots
    assert window.slot(window.since_s) == window.slot(window.since_s - 1e9) == 0
    assert window.slot(NOW_S) == window.slot(NOW_S + 1e9) == slots - 1


def test_no_plot_leaves_its_frame_or_grows_with_the_number_of_runs() -> None:
    window = Window(0, 1000, 50)
    values = [[math.sin(each * number) * 1e6 for each in range(9)] for number in range(50)]
    few = "".join((bars([7] * 50, 7), band(values, 10), line(values, 10)))
    assert all(0 <= float(y) <= 100 for y in re.findall(r"[ V]([-\d.e+]+)", few))
    many = bars(counted(window, [(each % 1000, each % 1000) for each in range(100_000)]), 2000)
    assert len(many) < 50 * 30


def test_a_bar_of_one_run_is_seen_beside_one_of_many() -> None:
    heights = [int(each) for each in re.findall(r"v-(\d+)", bars([1, 0, 10_000], 10_000))]
    assert heights == [40, 100]


def test_the_examples_of_the_plots_are_right() -> None:
    assert doctest.testmod(plots) == (0, 2)


def test_a_single_value_is_drawn_too() -> None:
    assert line([[], [3], []], 6) == "M1.1 50L1.9 50"
    assert line([[]], 6) == bars([0], 1) == band([[1]], 1) == ""


@pytest.mark.parametrize("odd", [None, True, "12", [1], math.nan, math.inf, 10**400])
def test_a_statistic_that_is_no_figure_is_left_out(odd: object) -> None:
    names = ("entries_removed", "memory_freed_kb", "hit_rate", "entries_after")
    stats = dict.fromkeys(names, odd)
    runs = [a_run("job", NOW_S - 60, stats=stats)]
    view = model.job_view(a_state("job"), runs, WINDOW, is_cleanup=True)
    assert [plot.title for plot in view.plots] == ["Duration"]


def test_the_cleanup_shows_its_amounts_with_totals_and_its_levels_without() -> None:
    stats = {"entries_removed": 3, "memory_freed_kb": 8, "hit_rate": 78.5, "entries_after": 1100}
    runs = [run._replace(stats=stats) for run in hourly("job")]
    view = model.job_view(a_state("job"), runs, WINDOW, is_cleanup=True, max_size=2000)
    assert [(plot.title, plot.total, plot.top) for plot in view.plots] == [
        ("Duration", None, 2000),
        ("Entries removed", 3 * 168, 3),
        ("Memory freed", 8 * 168, 8),
        ("Hit rate", None, 100),
        ("Fill after the cleanup", None, 2000),
    ]


def test_the_day_ahead_counts_every_elapse_once_and_names_a_few_jobs_an_hour() -> None:
    elapses_s = {f"job{number:03}": [NOW_S + 60 + number, NOW_S + 2 * DAY_S] for number in range(30)}  # fmt: skip
    elapses_s["often"] = [NOW_S + 600 * each for each in range(1, 145)]
    coming = ahead(elapses_s, NOW_S)
    assert coming.total == 30 + 144 == sum(hour.count for hour in coming.hours)
    assert all(before.begin_s < after.begin_s for before, after in pairwise(coming.hours))
    first = coming.hours[0]
    assert (len(first.jobs), first.more) == (NAMED_JOBS, 31 - NAMED_JOBS)
    assert first.jobs[0] == ("job000", NOW_S + 60, 1)
    assert coming.hours[1].jobs == (("often", None, 6),)
    assert ahead({}, NOW_S).total == 0


def test_the_hours_ahead_begin_when_the_zones_clock_strikes() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    half = NOW_S // HOUR_S * HOUR_S + 1.5 * HOUR_S
    coming = ahead({"job": [half - 1, half, half + HOUR_S - 1]}, NOW_S, zone=zone)
    assert [(hour.begin_s, hour.count) for hour in coming.hours] == [(half - HOUR_S, 1), (half, 2)]


def test_the_newest_failures_come_first_and_are_not_all_of_them() -> None:
    runs = [*hourly("job", status="failed"), *hourly("other")]
    found = model.failures_of(runs)
    assert len(found) == model.NEWEST_FAILURES
    assert {run.job_id for run in found} == {"job"}
    assert found[0].start_s == max(run.start_s or 0 for run in runs)
