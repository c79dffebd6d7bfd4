"""What one change costs systemd's manager when few and when many jobs are installed, in a booted systemd: ratios.

Run it as root, after tests/run has made the environment: python tests/bench/bench_growth.py [few] [many] [suite]

Each figure is CPU of process 1, in milliseconds: the median of the rounds, from before a call of the scheduler until
the manager has nothing left to do. Half of the jobs are intervals. The bare beside them is what systemd takes for one
daemon-reload with the same number of hand-written timers and services. The last lines are one application of a
thousand jobs, and twenty that share as many, started one after the other.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "boot"))

import image
from machine import Machine, why_not

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = "/opt/sereno/current/venv/bin/python3"
APPS = 20

# argv: what to measure, how many jobs.
WORK = """
import json, statistics, subprocess, sys, time
sys.path[:0] = ["/opt/sereno/lib", "/srv/bench"]
import bench_jobs
from sereno.scheduler import Scheduler

def cpu_ms():
    with open("/proc/1/schedstat") as file:
        return int(file.read().split()[0]) / 1e6

def settled(action):
    before = cpu_ms()
    action()
    now = cpu_ms()
    while True:
        time.sleep(0.05)
        last, now = now, cpu_ms()
        if now - last < 0.5:
            return now - before

def registered(app, numbers):
    scheduler = Scheduler(app)
    for number in numbers:
        if number % 2:
            scheduler.add_interval_job(bench_jobs.work, f"j{number}", hours=5 + number)
        else:
            scheduler.add_cron_job(bench_jobs.work, f"j{number}", minute=number % 60, hour=3, day=1)
    return scheduler

what, jobs = sys.argv[1], int(sys.argv[2])
figures = {}
if what == "changes":
    scheduler = registered("bench", range(jobs))
    figures["start() from nothing"] = settled(scheduler.start)
    figures["start() unchanged"] = settled(scheduler.start)
    calls = {
        "add a cron job": lambda n: scheduler.add_cron_job(bench_jobs.work, "new", hour=n),
        "change a cron job": lambda n: scheduler.add_cron_job(bench_jobs.work, "new", minute=n),
        "pause": lambda n: scheduler.pause_job("new"),
        "resume": lambda n: scheduler.resume_job("new"),
        "remove": lambda n: scheduler.remove_job("new"),
        "add an interval": lambda n: scheduler.add_interval_job(bench_jobs.work, "often", hours=20 + n),
        "change an interval": lambda n: scheduler.add_interval_job(bench_jobs.work, "often", hours=50 + n),
        "pause an interval": lambda n: scheduler.pause_job("often"),
        "resume an interval": lambda n: scheduler.resume_job("often"),
        "remove an interval": lambda n: scheduler.remove_job("often"),
    }
    rounds = {name: [] for name in calls}
    for number in range(3):
        for name, call in calls.items():
            rounds[name].append(settled(lambda: call(number)))
    figures |= {name: statistics.median(each) for name, each in rounds.items()}
    reload = lambda: subprocess.run(["systemctl", "daemon-reload"], check=True)
    figures["a daemon-reload"] = statistics.median(settled(reload) for _ in range(3))
else:
    apps = int(what)
    schedulers = [registered(f"bench{n}", range(n, jobs, apps)) for n in range(apps)]
    figures[f"start() of {apps} applications"] = settled(lambda: [each.start() for each in schedulers])
print(json.dumps(figures))
"""
BARE = """
import statistics, subprocess, sys, os
exec(open("/srv/bench/work.py").read().partition("def registered")[0])
for number in range(int(sys.argv[1])):
    with open(f"/etc/systemd/system/bare{number}.service", "w") as file:
        file.write("[Service]\\nType=oneshot\\nExecStart=/bin/true\\n")
    with open(f"/etc/systemd/system/bare{number}.timer", "w") as file:
        file.write("[Timer]\\nOnCalendar=*-*-01 03:00:00\\nPersistent=yes\\n")
subprocess.run(["systemctl", "daemon-reload"], check=True)
subprocess.run(["systemctl", "start", *(f"bare{n}.timer" for n in range(int(sys.argv[1])))], check=True)
reload = lambda: subprocess.run(["systemctl", "daemon-reload"], check=True)
print(json.dumps({"bare daemon-reload": statistics.median(settled(reload) for _ in range(3))}))
"""


def measured(machine: Machine, *words: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(
        machine.run(PYTHON, "-I", *words, timeout=600).stdout.splitlines()[-1]
    )
    return found


def main() -> None:
    few = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    many = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    suite = sys.argv[3] if len(sys.argv) > 3 else "bookworm"
    if reason := why_not():
        sys.exit(f"left out: {reason}")
    _, prepared = image.trees(suite, tell=print)
    wheels = (image.cache_directory() / "wheels").resolve()
    with Machine([prepared], binds={"/src": REPOSITORY, "/wheels": wheels}) as machine:
        machine.start()
        machine.run("/src/install.sh", "--wheels", "/wheels", timeout=300)
        machine.write("/srv/bench/bench_jobs.py", "def work():\n    return None\n")
        machine.write("/srv/bench/work.py", WORK)
        machine.write("/srv/bench/bare.py", BARE)
        at_few = measured(machine, "/srv/bench/work.py", "changes", str(few))
        at_many = measured(machine, "/srv/bench/work.py", "changes", str(many))
        print(f"CPU of process 1, ms: {few} jobs, {many} jobs, how many times as much")
        for name in at_few:
            print(
                f"{name:24}{at_few[name]:9.1f}{at_many[name]:10.1f}{at_many[name] / at_few[name]:8.1f}"
            )
        apps: dict[str, float] = {}
        for number in (1, APPS):
            machine.run("sereno", "remove", "--all", timeout=300)
            apps |= measured(machine, "/srv/bench/work.py", str(number), str(many))
        machine.run("sereno", "remove", "--all", timeout=300)
        machine.run("systemctl", "daemon-reload")
        apps |= measured(machine, "/srv/bench/bare.py", str(many))
        for name, figure in apps.items():
            print(f"{name:33}{figure:10.1f}")


if __name__ == "__main__":
    main()
