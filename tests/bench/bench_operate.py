"""What operating many jobs costs, in a booted systemd beside the bare systemctl calls of the same run: ratios.

Run it as root, after tests/run has made the environment: python tests/bench/bench_operate.py [jobs] [runs]

`list` is compared with `systemctl list-timers`, `start()` from nothing with a daemon-reload and one start call for the
same unit files: of all timers by name, and of the target that wants them. Each is a process of its own, and figures are
medians of the rounds; a round does all three from the same state, in turns, and the spread is that of the rounds'
ratios. `start()` is what `sereno apply` does for an application. The disk is a tmpfs, which has nothing to sync: what a
disk takes to do so comes on top of `start()`. The history is one job's, as it would be after so many runs.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "boot"))

import image
from machine import Machine, why_not

REPOSITORY = Path(__file__).resolve().parents[2]
UNITS = "/etc/systemd/system"
WANTED = "sereno.target.wants/sereno-app@bench.target"
ROUNDS = 5
INSTALL_ROUNDS = 7
PYTHON = "/opt/sereno/current/venv/bin/python3"

# argv: how many jobs. Prints how often the manager was asked, and for what.
APPLY = """
import json, sys
sys.path.insert(0, "/opt/sereno/lib")
sys.path.insert(0, "/srv/bench")
import bench_jobs
from sereno import get_scheduler; from sereno.manager import systemctl
asked, call = [], systemctl.asked
systemctl.asked = lambda argv, limit_s: (asked.append(argv[3]), call(argv, limit_s))[1]
scheduler = get_scheduler(app="bench")
for number in range(int(sys.argv[1])):
    if number % 2:
        scheduler.add_interval_job(bench_jobs.work, f"bench_{number:05}", hours=5 + number)
    else:
        scheduler.add_cron_job(
            bench_jobs.work, f"bench_{number:05}", cron_expression=f"{number % 60} {number // 60 % 24} 1 1 *"
        )
scheduler.start()
print(json.dumps(asked))
"""
# Records as a run and systemd send them; argv: how many runs.
PAST = """
import json, sys, uuid
from systemd import journal
for number in range(int(sys.argv[1])):
    run = uuid.uuid4().hex
    own = {
        "SERENO_JOB": "bench_past", "SERENO_RUN": run, "SYSLOG_IDENTIFIER": "bench_past", "LOGGER": "sereno.runner",
        "CODE_FILE": "/opt/sereno/lib/sereno/runner.py", "CODE_FUNC": "_run", "THREAD_NAME": "MainThread",
    }
    stats = {"entries_before": 1250, "entries_removed": number % 150, "memory_freed_kb": 300, "hit_rate": 78.5}
    duration_ms = 20 + number % 37
    journal.send("Tarea bench_past iniciada", MESSAGE_ID="5e6016bdb0a94162b63c3f18577a34a6", **own)
    journal.send("una linea de la tarea", **own)
    journal.send(
        "Tarea bench_past terminada", MESSAGE_ID="d273f3f974d24dcca798ba71c698c7c5", SERENO_STATUS="success",
        SERENO_DURATION_MS=f"{duration_ms:.2f}", SERENO_STATS=json.dumps(stats),
        **{f"SERENO_STAT_{name.upper()}": str(value) for name, value in stats.items()}, **own,
    )
"""


def timed_s(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    if reason := why_not():
        sys.exit(f"left out: {reason}")
    _, prepared = image.trees("bookworm", tell=print)
    wheels = (image.cache_directory() / "wheels").resolve()
    with Machine([prepared], binds={"/src": REPOSITORY, "/wheels": wheels}) as machine:
        machine.start()
        machine.run("/src/install.sh", "--wheels", "/wheels", timeout=300)
        machine.write("/srv/bench/bench_jobs.py", "def work():\n    return None\n")
        machine.write("/srv/bench/apply.py", APPLY)
        machine.write("/srv/bench/past.py", PAST)
        bench_apply(machine, jobs)
        bench_list(machine, jobs)
        bench_history(machine, runs)


def bench_apply(machine: Machine, jobs: int) -> None:
    def apply() -> list[str]:
        done = machine.run(PYTHON, "-I", "/srv/bench/apply.py", str(jobs), timeout=300)
        asked: list[str] = json.loads(done.stdout)
        return asked

    def restore() -> None:
        link = f"ln -s /etc/systemd/system/sereno-app@.target {UNITS}/{WANTED}"
        machine.run("sh", "-c", f"cp -a /root/kept/* {UNITS}/ && {link}")

    def bare(*units: str) -> None:
        machine.run("systemctl", "daemon-reload", timeout=300)
        machine.run("systemctl", "start", "sereno-app@bench.target", *units, timeout=300)

    names = [f"sereno@bench_{number:05}.timer" for number in range(jobs)]
    asked = apply()
    kept = f"mkdir /root/kept && cd {UNITS} && cp -a sereno@bench_* sereno-app@bench* /root/kept/"
    machine.run("sh", "-c", kept)
    ways: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("start()", lambda: None, apply),
        ("daemon-reload and start of all by name", restore, lambda: bare(*names)),
        ("daemon-reload and start of their target", restore, bare),
    ]
    measured: dict[str, list[float]] = {name: [] for name, _, _ in ways}
    for number in range(INSTALL_ROUNDS):
        turn = number % len(ways)
        for name, prepare, action in ways[turn:] + ways[:turn]:
            clear(machine)
            prepare()
            measured[name].append(timed_s(action))
    ours, *others = measured.items()
    for against, theirs in others:
        report(f"start() of {jobs} jobs from nothing", ours[1], against, theirs)
    print(f"  the manager was asked: {', '.join(asked)}")
    again_s = timed_s(apply)
    print(f"start() without a change: {again_s:.3f} s; the manager was asked: {', '.join(apply())}")


def clear(machine: Machine) -> None:
    machine.run("systemctl", "stop", "sereno-app@bench.target", timeout=300)
    gone = f"{UNITS}/sereno@bench_* {UNITS}/sereno-app@bench* {UNITS}/{WANTED}"
    gone += " /run/systemd/system/sereno@bench_* /var/lib/systemd/timers/stamp-sereno@bench_*"
    machine.run("sh", "-c", f"rm -rf {gone}")
    machine.run("systemctl", "daemon-reload", timeout=300)
    machine.run("systemctl", "reset-failed")


def bench_list(machine: Machine, jobs: int) -> None:
    measured: dict[str, list[float]] = {"list": [], "timers": []}
    for _ in range(ROUNDS):
        measured["timers"].append(timed_s(lambda: machine.run("systemctl", "list-timers")))
        measured["list"].append(timed_s(lambda: machine.run("sereno", "list")))
    report(
        f"sereno list of {jobs} jobs", measured["list"], "systemctl list-timers", measured["timers"]
    )


def bench_history(machine: Machine, runs: int) -> None:
    code = "scheduler.add_cron_job(bench_jobs.work, 'bench_past', cron_expression='0 0 1 1 *')\nscheduler.start()"
    machine.write(
        "/srv/bench/one.py",
        "import sys\nsys.path[:0] = ['/opt/sereno/lib', '/srv/bench']\nimport bench_jobs\n"
        f"from sereno import get_scheduler\nscheduler = get_scheduler(app='past')\n{code}\n",
    )
    machine.run(PYTHON, "-I", "/srv/bench/one.py")
    drop_in = f"{UNITS}/sereno@bench_past.service.d/99-bench.conf"
    machine.write(
        drop_in,
        f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 /srv/bench/past.py {runs}\nUser=root\n",
    )
    # The journal may take a tenth of the disk, which is small here.
    machine.write(
        "/etc/systemd/journald.conf.d/bench.conf", "[Journal]\nSystemMaxUse=2G\nSystemKeepFree=1M\n"
    )
    machine.run("systemctl", "restart", "systemd-journald")
    machine.run("systemctl", "daemon-reload", timeout=300)
    machine.run("systemctl", "start", "sereno@bench_past.service", timeout=300)
    machine.run("journalctl", "--sync")
    told = json.loads(machine.run("sereno", "history", "bench_past", "--json").stdout)
    measured = [
        timed_s(lambda: machine.run("sereno", "history", "bench_past")) for _ in range(ROUNDS)
    ]
    print(f"sereno history of {told['runs']} runs: {statistics.median(measured):.3f} s")


def report(what: str, ours: list[float], against: str, theirs: list[float]) -> None:
    mine_s, other_s = statistics.median(ours), statistics.median(theirs)
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    print(
        f"{what}: {mine_s:.3f} s, {against}: {other_s:.3f} s, ratio {mine_s / other_s:.2f}"
        f" ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
