"""What `sereno report` costs with many jobs and runs, in a booted systemd, and how large its page is.

Run it as root, after tests/run has made the environment, on a machine with systemd-journal-remote (which writes the
journal of a week in a minute): python tests/bench/bench_report.py [jobs] [runs] [where the page goes]

Half of the jobs run at a second of each hour, half every two hours from their last run. Of the runs each 25th failed.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "boot"))

import image
from bench_operate import PYTHON, REPOSITORY, timed_s
from machine import Machine, why_not

sys.path.insert(0, str(REPOSITORY / "lib"))
from sereno.records.journal import FAILED, FINISHED, STARTED

REMOTE = "/lib/systemd/systemd-journal-remote"
DAYS = 7
ROUNDS = 3
APPLY = """
import sys
sys.path[:0] = ["/opt/sereno/lib", "/srv/bench"]
import bench_jobs
from sereno import get_scheduler
scheduler = get_scheduler(app="bench")
for number in range(int(sys.argv[1])):
    job_id = f"bench_{number:05}"
    if number % 2:
        scheduler.add_interval_job(bench_jobs.work, job_id, hours=2)
    else:
        scheduler.add_cron_job(bench_jobs.work, job_id, minute=str(number % 60), second=str(number // 60 % 60))
scheduler.start()
"""


def records(jobs: int, runs: int, now_s: float) -> Iterator[bytes]:
    """The records of the runs, in the journal's export format and in order."""
    chance = random.Random(1)
    moments = sorted(
        (now_s - 60 - chance.random() * DAYS * 86_400, number) for number in range(runs)
    )
    for at_s, number in moments:
        job, run = f"bench_{number % jobs:05}", f"{chance.getrandbits(128):032x}"
        duration_ms = 50 + 200 * chance.random()
        own = {
            "_BOOT_ID": "1" * 32, "_PID": 1000, "_UID": 999, "_SYSTEMD_UNIT": f"sereno@{job}.service",
            "_SYSTEMD_INVOCATION_ID": run, "SERENO_JOB": job, "SERENO_RUN": run, "SYSLOG_IDENTIFIER": job,
            "LOGGER": "sereno.runner", "CODE_FILE": "/opt/sereno/lib/sereno/runner.py", "PRIORITY": 6,
        }  # fmt: skip
        yield exported(
            at_s, now_s, {"MESSAGE": f"Tarea {job} iniciada", "MESSAGE_ID": STARTED, **own}
        )
        ending = {"MESSAGE": f"Tarea {job} terminada", "SERENO_DURATION_MS": f"{duration_ms:.2f}"}
        if number % 25 == 7:
            ending |= {
                "MESSAGE_ID": FAILED,
                "SERENO_STATUS": "failed",
                "SERENO_ERROR": "ConnectionError: db",
            }
        else:
            stats = json.dumps({"rows": number, "hit_rate": 78.5})
            ending |= {"MESSAGE_ID": FINISHED, "SERENO_STATUS": "success", "SERENO_STATS": stats}
        yield exported(at_s + duration_ms / 1000, now_s, {**ending, **own})


def exported(at_s: float, now_s: float, fields: dict[str, object]) -> bytes:
    times = {
        "__REALTIME_TIMESTAMP": int(at_s * 1e6),
        "__MONOTONIC_TIMESTAMP": int((at_s - now_s + (DAYS + 1) * 86_400) * 1e6),
    }
    return (
        "".join(f"{name}={value}\n" for name, value in {**times, **fields}.items()).encode() + b"\n"
    )


def cpu_s() -> float:
    """Processor time of the commands that were run until now, which other load on the machine does not change."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    if reason := why_not():
        sys.exit(f"left out: {reason}")
    _, prepared = image.trees("bookworm", tell=print)
    wheels = (image.cache_directory() / "wheels").resolve()
    with tempfile.TemporaryDirectory() as past:
        writer = subprocess.Popen(
            [REMOTE, "-o", f"{past}/past.journal", "-"], stdin=subprocess.PIPE
        )
        assert writer.stdin is not None
        with writer.stdin as to:
            to.writelines(records(jobs, runs, time.time()))
        assert writer.wait() == 0
        binds = {"/src": REPOSITORY, "/wheels": wheels, "/past": Path(past)}
        with Machine([prepared], binds=binds) as machine:
            machine.start()
            machine.run("/src/install.sh", "--wheels", "/wheels", timeout=300)
            machine.write("/srv/bench/bench_jobs.py", "def work():\n    return None\n")
            machine.write("/srv/bench/apply.py", APPLY)
            machine.run(PYTHON, "-I", "/srv/bench/apply.py", str(jobs), timeout=300)
            place = "d=/var/log/journal/$(cat /etc/machine-id) && mkdir -p $d && cp /past/* $d/"
            machine.run("sh", "-c", place, timeout=120)
            began_s = cpu_s()
            times = [
                timed_s(
                    lambda: machine.run("sereno", "report", "-o", "/root/report.html", timeout=300)
                )
                for _ in range(ROUNDS)
            ]
            used_s = (cpu_s() - began_s) / ROUNDS
            page = machine.run("cat", "/root/report.html").stdout
            listed = [timed_s(lambda: machine.run("sereno", "list")) for _ in range(ROUNDS)]
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(page)
    print(
        f"sereno report of {jobs} jobs and {runs} runs: {statistics.median(times):.2f} s,"
        f" of the processor {used_s:.2f} s"
    )
    print(
        f"its page: {len(page.encode()) / 1e6:.1f} MB; sereno list: {statistics.median(listed):.2f} s"
    )


if __name__ == "__main__":
    main()
