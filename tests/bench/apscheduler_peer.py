"""APScheduler 3 with the jobs of bench_jobs.py, in a process of its own. Ends by SIGTERM, with its starts on stdout.

Usage: apscheduler_peer.py and the four values of a bench_loads.Load
"""

from __future__ import annotations

import signal
import sys
import time
from functools import partial

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from bench_loads import Load

starts: list[tuple[int, float]] = []


def record(number: int) -> None:
    starts.append((number, time.time()))


def main(load: Load) -> None:
    scheduler = BackgroundScheduler(timezone="UTC")
    for number in range(load.count):
        trigger = CronTrigger(timezone="UTC", **load.fields(number))
        # Without a limit for lateness, so that it too runs every job.
        scheduler.add_job(partial(record, number), trigger, id=str(number), misfire_grace_time=None)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    scheduler.start()
    signal.sigwait([signal.SIGTERM])
    for start in starts:
        print(*start)


if __name__ == "__main__":
    count, period_s, rounds, spread = map(int, sys.argv[1:])
    main(Load(count, period_s, rounds, bool(spread)))
