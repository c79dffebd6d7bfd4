"""What one change costs systemd's manager when few and when many jobs are installed, in a booted systemd: ratios.

Run it as root, after tests/run has made the environment: python tests/bench/bench_growth.py [few] [many] [suite]

Each figure is CPU of process 1, in milliseconds: the median of the rounds, from before a call of the scheduler until
the manager has nothing left to do. Half of the jobs are intervals. Bare is the same number of hand-written timers with
services. Then come one application of so many jobs, and twenty that share as many, started one after the other; what
pruning them takes, process 1 and the caller together; the seed of a boot in which all of them are intervals; and 200
jobs that fail together, told by a webhook that takes two seconds for each message. `list` and `report` of 100 jobs come
beside themselves on an empty journal and beside one pass over the runs' records, of python-systemd and of journalctl.
The changes are also made in APScheduler's job store, by one process that alone knows of them and has nobody to tell.
The last lines are the targets.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "boot"))

import image
from machine import Machine, why_not

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = "/opt/sereno/current/venv/bin/python3"
APPS, FAILURES, RECEIVER_S = 20, 200, 2.0
# Of each of the jobs whose journal is read so many runs.
LISTED, PAST_RUNS = 100, 300
# What is compared comes in turns, and the least of them counts: others may be at work on the machine.
TURNS = 3
RELOADS = (300, 2000, 5000)

JOBS = """
def work():
    return None

def fails():
    raise ValueError("no such table: ventas")
"""
# argv: what to measure, how many jobs.
WORK = """
import json, statistics, subprocess, sys, time, resource
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

def own_ms():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used) * 1000

def registered(app, numbers, intervals=False):
    scheduler = Scheduler(app)
    for number in numbers:
        if number % 2 or intervals:
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
elif what == "reload":
    registered("bench", range(jobs)).start()
    reload = lambda: subprocess.run(["systemctl", "daemon-reload"], check=True)
    figures["reload"] = min(settled(reload) for _ in range(3))
elif what == "prune":
    for name, scheduler in (("start", registered("bench", range(jobs))), ("prune", Scheduler("bench"))):
        before = own_ms()
        figures[name] = settled(scheduler.start) + own_ms() - before
elif what == "intervals":
    registered("bench", range(jobs), intervals=True).start()
else:
    apps = int(what)
    schedulers = [registered(f"bench{n}", range(n, jobs, apps)) for n in range(apps)]
    figures[f"start() of {apps} applications"] = settled(lambda: [each.start() for each in schedulers])
print(json.dumps(figures))
"""
# argv: how many jobs, the receiver's seconds.
FAILING = """
import glob, json, os, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
sys.path[:0] = ["/opt/sereno/lib", "/srv/bench"]
import bench_jobs
from sereno.scheduler import Scheduler
jobs, receiver_s = int(sys.argv[1]), float(sys.argv[2])
told, messages, most = set(), 0, {"processes": 0, "mb": 0.0}

class Web(BaseHTTPRequestHandler):
    def do_POST(self):
        global messages
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(receiver_s)
        messages += 1
        told.update(one["job"] for one in (payload, *payload["more"]))
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

def watch():
    places = [f"/sys/fs/cgroup/{place}sereno-[fn]*.service/cgroup.procs"
              for place in ("system.slice/", "systemd/system.slice/", "unified/system.slice/", "*/*.slice/")]
    while True:
        pids = {pid for place in places for path in glob.glob(place) for pid in open(path).read().split()}
        kb = 0
        for pid in pids:
            try:
                rows = open(f"/proc/{pid}/smaps_rollup").read().splitlines()
                kb += sum(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
            except OSError:
                pass
        most["processes"], most["mb"] = max(most["processes"], len(pids)), max(most["mb"], kb / 1024)
        time.sleep(0.05)

server = ThreadingHTTPServer(("127.0.0.1", 8099), Web)
for target in (server.serve_forever, watch):
    threading.Thread(target=target, daemon=True).start()
os.makedirs("/etc/sereno", exist_ok=True)
with open("/etc/sereno/notify.toml", "w") as file:
    file.write('[[handler]]\\ntype = "webhook"\\nurl = "http://127.0.0.1:8099/"\\ntimeout_s = 60\\n')
scheduler = Scheduler("bench")
for number in range(jobs):
    scheduler.add_interval_job(bench_jobs.fails, f"f{number}", hours=5)
scheduler.start()
begin = time.monotonic()
subprocess.run(["systemctl", "start", *(f"sereno@f{n}.service" for n in range(jobs))], capture_output=True)
last = time.monotonic()
while len(told) < jobs and time.monotonic() < last + 300:
    time.sleep(0.05)
print(json.dumps({"told": len(told), "messages": messages, "ran_s": last - begin,
                  "told_s": time.monotonic() - last, **most}))
"""
# argv: the job, how many of its runs. As its service it is who is believed.
PAST = """
import os, sys, uuid
from systemd import journal
job = sys.argv[1]
for number in range(int(sys.argv[2])):
    own = {"SERENO_JOB": job, "SERENO_RUN": uuid.uuid4().hex, "SYSLOG_IDENTIFIER": job}
    journal.send(f"Tarea {job} iniciada", MESSAGE_ID="5e6016bdb0a94162b63c3f18577a34a6", **own)
    journal.send(os.urandom(2500).hex(), **own)
    journal.send(f"Tarea {job} terminada", MESSAGE_ID="d273f3f974d24dcca798ba71c698c7c5", SERENO_STATUS="success",
                 SERENO_DURATION_MS=f"{20 + number % 37:.2f}", SERENO_STATS='{"entries_removed": 7}', **own)
"""
# Each figure is the least of three, in seconds of CPU of the command.
READING = """
import json, resource, subprocess
kinds = [f"MESSAGE_ID={one}" for one in ("5e6016bdb0a94162b63c3f18577a34a6", "d273f3f974d24dcca798ba71c698c7c5")]
reader = f"from systemd import journal; r = journal.Reader(); [r.add_match(k) for k in {kinds}]; [0 for _ in r]"
def cpu_s(*words):
    def used_s():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime
    spent = []
    for _ in range(3):
        before = used_s()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        spent.append(used_s() - before)
    return min(spent)
print(json.dumps({
    "sereno list": cpu_s("sereno", "list"), "sereno report": cpu_s("sereno", "report", "-o", "/root/report.html"),
    "one pass of python-systemd": cpu_s("/usr/bin/python3", "-I", "-c", reader),
    "one pass of journalctl": cpu_s("journalctl", "--output=export", *kinds)}))
"""
# argv: how many timers, whether their services have the sandbox of sereno's.
BARE = """
import subprocess, sys
exec(open("/srv/bench/work.py").read().partition("def registered")[0])
template = open("/etc/systemd/system/sereno@.service").read()
sandbox = "".join(template.partition("NoNewPrivileges=")[1:]) if sys.argv[2:] else ""
for number in range(int(sys.argv[1])):
    with open(f"/etc/systemd/system/bare{number}.service", "w") as file:
        file.write("[Service]\\nType=oneshot\\nExecStart=/bin/true\\n" + sandbox)
    with open(f"/etc/systemd/system/bare{number}.timer", "w") as file:
        file.write("[Timer]\\nOnCalendar=*-*-01 03:00:00\\nPersistent=yes\\n")
subprocess.run(["systemctl", "daemon-reload"], check=True)
subprocess.run(["systemctl", "start", *(f"bare{n}.timer" for n in range(int(sys.argv[1])))], check=True)
reload = lambda: subprocess.run(["systemctl", "daemon-reload"], check=True)
print(json.dumps({"reload": min(settled(reload) for _ in range(3))}))
subprocess.run(["systemctl", "stop", "bare*.timer"], check=True)
subprocess.run("rm /etc/systemd/system/bare*; systemctl daemon-reload", shell=True, check=True)
"""


class Figure(NamedTuple):
    name: str
    value: float
    most: float


def measured(machine: Machine, *words: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(
        machine.run(PYTHON, "-I", *words, timeout=600).stdout.splitlines()[-1]
    )
    return found


def of_changes(machine: Machine, few: int, many: int) -> list[Figure]:
    at_few = measured(machine, "/srv/bench/work.py", "changes", str(few))
    at_many = measured(machine, "/srv/bench/work.py", "changes", str(many))
    print(f"CPU of process 1, ms: {few} jobs, {many} jobs, how many times as much")
    for name in at_few:
        print(
            f"{name:24}{at_few[name]:9.1f}{at_many[name]:10.1f}{at_many[name] / at_few[name]:8.1f}"
        )
    ratios = (
        "add a cron job",
        "add an interval",
        "pause",
        "pause an interval",
        "remove",
        "remove an interval",
    )
    found = [
        Figure(f"{name}: {many} jobs / {few}", at_many[name] / at_few[name], 3) for name in ratios
    ]
    for name in ("change an interval", "resume an interval"):
        found.append(
            Figure(f"{name} / change a cron job", at_many[name] / at_many["change a cron job"], 1.2)
        )
    return found


def of_job_store(few: int, many: int) -> None:
    """APScheduler 3 with its jobs in SQLite. They end with the process that has them, and only it may change them."""
    try:
        at_few, at_many = map(changes_in_a_job_store, (few, many))
    except ImportError as error:
        print(f"left out: APScheduler's job store: {error}")
        return
    print(f"CPU of APScheduler's process, ms: {few} jobs, {many} jobs")
    for name in at_few:
        print(f"{name:24}{at_few[name]:9.1f}{at_many[name]:10.1f}")


def changes_in_a_job_store(jobs: int) -> dict[str, float]:
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.background import BackgroundScheduler

    with tempfile.TemporaryDirectory() as place:
        store = SQLAlchemyJobStore(f"sqlite:///{place}/jobs")
        scheduler = BackgroundScheduler(jobstores={"default": store}, timezone="UTC")
        scheduler.start(paused=True)
        for number in range(jobs):
            scheduler.add_job("time:time", "cron", id=f"j{number}", day=1, minute=number % 60)
        calls: dict[str, Callable[[], object]] = {
            "add a cron job": lambda: scheduler.add_job("time:time", "cron", id="new", hour=3),
            "change a cron job": lambda: scheduler.reschedule_job("new", None, "cron", hour=4),
            "pause": lambda: scheduler.pause_job("new"),
            "resume": lambda: scheduler.resume_job("new"),
            "remove": lambda: scheduler.remove_job("new"),
        }
        least_ms = dict.fromkeys(calls, math.inf)
        for name in [*calls] * TURNS:
            before_s = time.process_time()
            calls[name]()
            least_ms[name] = min(least_ms[name], (time.process_time() - before_s) * 1000)
        scheduler.shutdown()
    return least_ms


def of_journal(machine: Machine) -> list[Figure]:
    machine.run("sereno", "remove", "--all", timeout=300)
    measured(machine, "/srv/bench/work.py", "intervals", str(LISTED))
    empty = measured(machine, "/srv/bench/reading.py")
    past = f"/usr/bin/python3 /srv/bench/past.py %i {PAST_RUNS}"
    drop_in = "/etc/systemd/system/sereno@.service.d/99-bench.conf"
    machine.write(drop_in, f"[Service]\nExecStart=\nExecStart={past}\nUser=root\n")
    # Many files, as a journal of gigabytes has.
    limits = "SystemMaxUse=2G\nSystemKeepFree=1M\nSystemMaxFileSize=8M\n"
    machine.write("/etc/systemd/journald.conf.d/bench.conf", f"[Journal]\n{limits}")
    machine.run("systemctl", "restart", "systemd-journald")
    machine.run("systemctl", "daemon-reload")
    units = [f"sereno@j{number}.service" for number in range(LISTED)]
    machine.run("systemctl", "start", *units, timeout=600)
    machine.run("journalctl", "--sync")
    full = measured(machine, "/srv/bench/reading.py")
    machine.run("rm", drop_in)
    print(f"CPU, s: an empty journal, one of {LISTED} jobs with {PAST_RUNS} runs each")
    for name in full:
        print(f"{name:28}{empty[name]:8.2f}{full[name]:8.2f}")
    return [
        Figure("list, full journal / empty", full["sereno list"] / empty["sereno list"], 3),
        Figure("report / one pass", full["sereno report"] / full["one pass of python-systemd"], 3),
    ]


def of_many(machine: Machine, many: int) -> list[Figure]:
    apps: dict[int, list[float]] = {1: [], APPS: []}
    for number in (1, APPS) * TURNS:
        machine.run("sereno", "remove", "--all", timeout=300)
        apps[number] += measured(machine, "/srv/bench/work.py", str(number), str(many)).values()
    machine.run("sereno", "remove", "--all", timeout=300)
    one, twenty = map(min, apps.values())
    pruned = measured(machine, "/srv/bench/work.py", "prune", str(many))
    measured(machine, "/srv/bench/work.py", "intervals", str(many))
    machine.reboot()
    at = "ExecMainExitTimestampMonotonic"
    machine.wait_for(lambda: machine.show("sereno-seed.service", at)[at] != "0", what="the seed")
    seed_s = int(machine.show("sereno-seed.service", "CPUUsageNSec")["CPUUsageNSec"]) / 1e9
    machine.run("sereno", "remove", "--all", timeout=300)
    return [
        Figure(f"start of {APPS} applications / of one with as many jobs", twenty / one, 2),
        Figure(f"pruning {many} / starting them", pruned["prune"] / pruned["start"], 2),
        Figure(f"seed at boot with {many} intervals, s of CPU", seed_s, 0.5),
    ]


def of_reloads(machine: Machine) -> list[Figure]:
    found = []
    for number in RELOADS:
        machine.run("sereno", "remove", "--all", timeout=300)
        ours = measured(machine, "/srv/bench/work.py", "reload", str(number))["reload"]
        machine.run("sereno", "remove", "--all", timeout=300)
        bare = measured(machine, "/srv/bench/bare.py", str(number))["reload"]
        boxed = measured(machine, "/srv/bench/bare.py", str(number), "sandboxed")["reload"]
        print(
            f"daemon-reload, {number} jobs: {ours:.0f} ms, bare timers {bare:.0f} ms,"
            f" of services with the sandbox {boxed:.0f} ms"
        )
        found.append(Figure(f"daemon-reload with {number} jobs / bare", ours / bare, 1.5))
    return found


def of_failures(machine: Machine) -> list[Figure]:
    told = measured(machine, "/srv/bench/failing.py", str(FAILURES), str(RECEIVER_S))
    print(
        f"{told['told']:.0f} of {FAILURES} failures told in {told['messages']:.0f} messages,"
        f" {told['told_s']:.1f} s after the last"
    )
    late_s = told["told_s"] - RECEIVER_S * told["messages"]
    return [
        Figure(f"{FAILURES} failures: processes that tell", told["processes"], 8),
        Figure(f"{FAILURES} failures: MB of these", told["mb"], 100),
        Figure(f"{FAILURES} failures: s after the last, less the receiver's own", late_s, 10),
    ]


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
        for name, text in (
            ("bench_jobs", JOBS),
            ("work", WORK),
            ("bare", BARE),
            ("failing", FAILING),
            ("past", PAST),
            ("reading", READING),
        ):
            machine.write(f"/srv/bench/{name}.py", text)
        figures = of_changes(machine, few, many)
        of_job_store(few, many)
        figures += of_many(machine, many)
        figures += of_failures(machine)
        figures += of_reloads(machine)
        figures += of_journal(machine)
    print("target")
    for name, value, most in figures:
        print(f"{name:66}{value:8.2f}  ≤ {most:g}  {'met' if value <= most else 'missed'}")


if __name__ == "__main__":
    main()
