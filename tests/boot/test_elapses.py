"""Runs start when their timer elapses: neither early, nor twice, nor left out; how late is printed.

What is asserted holds on a loaded machine as well. The figures printed mean something on an idle one, where p99 is to
stay below 150 ms.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from shop import FINISHED, Shop

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.every_systemd, pytest.mark.waiting]


# PID 1's "Starting …" (sd-messages.h, SD_MESSAGE_UNIT_STARTING): the start as systemd sees it, before the sandbox and
# the interpreter.
STARTING = "MESSAGE_ID=7d4958e842da4a758f6c1cdc7b36dcc5"
FINEST = "accuracy=0.000001"
# Runs of the rarest calendar job that are waited for.
LONG = os.environ.get("SERENO_TEST_LONG") == "1"
RAREST_S, RAREST_RUNS = (60, 5) if LONG else (10, 3)
RAREST = "minute='*'" if LONG else "second='*/10', minute='*'"
# The clocks of two records of the same moment.
CLOCK_S = 0.02


def starts_s(shop: Shop, job_id: str) -> list[float]:
    """Times of the starts of a job's service, seconds since the epoch."""
    records = shop.machine.journal(f"UNIT=sereno@{job_id}.service", STARTING)
    # PID 1 sends its records itself; this is when it did.
    return [int(record["_SOURCE_REALTIME_TIMESTAMP"]) / 1e6 for record in records]


def figures(name: str, delays_s: Sequence[float]) -> str:
    ordered_ms = sorted(delay_s * 1000 for delay_s in delays_s)

    def quantile(share: float) -> str:
        return f"{ordered_ms[min(len(ordered_ms) - 1, int(share * len(ordered_ms)))]:.1f}"

    return (
        f"{name}: n={len(ordered_ms)} median {quantile(0.5)} p90 {quantile(0.9)} p99 {quantile(0.99)}"
        f" max {ordered_ms[-1]:.1f} ms"
    )


@pytest.mark.alone
def test_calendars_and_intervals_start_at_their_elapses(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.install(
        f"add_cron_job(shop_jobs.quick, 'rarest', {RAREST}, {FINEST})",
        f"add_cron_job(shop_jobs.quick, 'each_5_s', second='*/5', minute='*', {FINEST})",
        f"add_interval_job(shop_jobs.quick, 'each_2', seconds=2, {FINEST})",
        f"add_interval_job(shop_jobs.quick, 'each_7', seconds=7, {FINEST})",
    )
    shop.machine.wait_for(
        lambda: len(shop.runs("rarest")) >= RAREST_RUNS,
        deadline_s=RAREST_RUNS * RAREST_S + 60,
        what=f"{RAREST_RUNS} runs of the rarest",
    )
    shop.machine.wait_for(lambda: len(shop.runs("each_7")) >= 3, what="three runs of each_7")
    report = []
    for job_id, period_s in (("rarest", RAREST_S), ("each_5_s", 5)):
        starts = starts_s(shop, job_id)
        elapses = [start - start % period_s for start in starts]
        # One run for each elapse and none between: a late one would show as two in one period, or as a hole.
        assert [after - before for before, after in pairwise(elapses)] == [period_s] * (
            len(elapses) - 1
        )
        report.append(figures(job_id, [start % period_s for start in starts]))
    for job_id, interval_s in (("each_2", 2), ("each_7", 7)):
        delays_s = [
            after - before - interval_s for before, after in pairwise(starts_s(shop, job_id))
        ]
        assert len(delays_s) >= 2
        assert min(delays_s) > -CLOCK_S
        assert max(delays_s) < interval_s
        report.append(figures(job_id, delays_s))
    with capsys.disabled():
        # Not to standard output, which a process of xdist's has none of.
        print("\nstart after elapse: " + "; ".join(report), file=sys.stderr)


def test_an_interval_goes_on_when_the_job_fails(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.raises, 'failing', seconds=2)")
    shop.machine.wait_for(lambda: len(shop.runs("failing")) >= 4, what="four failing runs")
    distances_s = [after - before for before, after in pairwise(starts_s(shop, "failing"))]
    assert all(2 - CLOCK_S < distance_s < 4 for distance_s in distances_s), distances_s


def test_a_job_longer_than_its_interval_runs_again_at_once_and_nothing_piles_up(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.slow, 'long_run', seconds=1)")
    shop.machine.wait_for(lambda: len(shop.runs("long_run", FINISHED)) >= 3, what="three runs")
    starts = starts_s(shop, "long_run")
    ends = [int(record["__REALTIME_TIMESTAMP"]) / 1e6 for record in shop.runs("long_run", FINISHED)]
    # The job takes 3 s; counted from its end, since a busy machine may stretch a run.
    assert all(after - before > 3 - CLOCK_S for before, after in pairwise(starts)), starts
    assert all(0 < start - end < 3 for end, start in zip(ends, starts[1:], strict=False)), starts
    shop.call("scheduler.pause_job('long_run')")
    shop.machine.wait_for(
        lambda: (
            shop.machine.show("sereno@long_run.service", "ActiveState")["ActiveState"] == "inactive"
        ),
        what="the end of the run",
    )
    begun = len(shop.runs("long_run"))
    shop.machine.run("systemctl", "daemon-reload")
    shop.machine.wait_for(
        lambda: len(shop.runs("long_run", FINISHED)) == begun, what="the record of the last end"
    )
    assert len(shop.runs("long_run")) == begun


def test_elapses_missed_while_the_machine_is_off_are_made_up_by_one_run(shop: Shop) -> None:
    machine, period_s = shop.machine, 10
    shop.install(
        f"add_cron_job(shop_jobs.quick, 'kept', second='*/{period_s}', minute='*')",
        f"add_cron_job(shop_jobs.quick, 'let_go', second='*/{period_s}', minute='*', persistent=False)",
    )
    machine.wait_for(lambda: shop.runs("kept", FINISHED), what="a run before the stop")
    machine.stop()
    off_s = time.time()
    # Two elapses pass, and the machine comes back between two of them.
    while not (time.time() - off_s > 2 * period_s and 1 < time.time() % period_s < 3):
        time.sleep(0.1)
    machine.start()
    machine.wait_for(
        lambda: any(start > off_s for start in starts_s(shop, "kept")), what="the run made up"
    )
    on_s = time.time()
    machine.wait_for(
        lambda: any(start > on_s for start in starts_s(shop, "let_go")), what="the next elapse"
    )
    machine.wait_for(
        lambda: any(start > on_s for start in starts_s(shop, "kept")), what="the next elapse"
    )
    after = {
        job_id: [start for start in starts_s(shop, job_id) if start > off_s]
        for job_id in ("kept", "let_go")
    }
    elapses = {start - start % period_s for start in after["kept"]}
    # One run in each period since the boot: the first is the one made up, the others are at their elapse.
    assert len(after["kept"]) == len(elapses)
    assert after["kept"][0] < on_s
    assert all(start > on_s for start in after["let_go"])
    assert len(after["let_go"]) == len(after["kept"]) - 1
