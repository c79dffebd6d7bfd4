"""Periodic jobs as systemd timers beside their peers: one table, made in one run.

All run the same lines, which note in a file when the first is reached, in one booted container, one after the other,
for the loads of bench_loads.py. Nothing but the file is looked at meanwhile: the journal, if asked, takes time that
counts, and the cores that the runs wait for. Fair peers start a process for each run, without a sandbox: Debian's cron,
and a plain service of systemd. APScheduler 3 starts none. "Memory" is what waits between runs: the scheduler's process
(PSS), or what the manager's own grew by (anonymous memory of PID 1). "CPU" is that of everything that a run causes: the
scheduler's process, or the slice of the runs, PID 1 and the journal together. A run's sandbox costs by the machine's
mounts, so each row has their number, and the last ones are made with more.

cron knows minutes only: its jobs are due each minute, and what is spread is spread over whole minutes.
"""

from __future__ import annotations

import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import image
import machine as machines
from bench_loads import LOADS, QUICK, Load
from machine import Machine
from shop import Shop

if TYPE_CHECKING:
    from collections.abc import Callable

    Peer = Callable[[Machine, Load], "Figures"]


class Figures(NamedTuple):
    """`kept_kb`: what waits between runs; `cpu_s`: of one run; `delays_s`: from due to first line, of each run."""

    kept_kb: int
    cpu_s: float
    delays_s: list[float]


# Where runs of sereno may write.
STARTS = "/var/cache/sereno/starts"
JOBS = f"""
import time

def record(number):
    at = time.time()
    with open("{STARTS}", "a") as file:
        file.write(f"{{number}} {{at}}\\n")
"""
# What a process of a peer executes; argv: its number.
SCRIPT = f"""
import time
at = time.time()
import sys
with open("{STARTS}", "a") as file:
    file.write(f"{{sys.argv[1]}} {{at}}\\n")
"""
BARE = """
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I /srv/record.py %i
Slice=bare.slice
"""
BARE_TIMERS = """
import sys
sys.path.insert(0, '/src/tests/bench')
from bench_loads import Load
load = Load(*map(int, sys.argv[1:]))
for number in range(load.count):
    fields = load.fields(number)
    when = f"OnCalendar=*-*-* *:{fields['minute'].replace('-59/', '/')}:{fields['second'].replace('-59/', '/')}"
    with open(f"/run/systemd/system/bare@{number}.timer", "w") as file:
        file.write(f"[Timer]\\n{when}\\nAccuracySec=1us\\n")
"""
MORE_MOUNTS = 100
HEAD = (
    "| jobs | | mounts | memory kept, MB | CPU per run, ms | due to first line, ms: median / p99 / last |\n"
    "| --- | --- | --- | --- | --- | --- |"
)
DRAINED_S = 400.0
# A run's end comes after its line: its records, and what the manager puts away.
END_S = 1.0
MOST_OF_CRON = 1.5
CLEANUP_RUNS = 20
PROCESS_TIME = """
import os, sys
def cpu_ms(argv):
    child = os.fork()
    if not child:
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        # As systemd starts a run.
        os.execve(argv[0], argv, {"INVOCATION_ID": "0" * 32, "SYSTEMD_EXEC_PID": str(os.getpid())})
    _, status, usage = os.wait4(child, 0)
    assert status == 0, argv
    return (usage.ru_utime + usage.ru_stime) * 1000
for _ in range(int(sys.argv[1])):
    print(cpu_ms([sys.argv[2], "-I", "-c", "pass"]), cpu_ms([sys.argv[3]]))
"""


def quantiles(delays_s: list[float]) -> str:
    ordered = sorted(delay * 1000 for delay in delays_s)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return f"{statistics.median(ordered):.0f} / {p99:.0f} / {ordered[-1]:.0f}"


def memory_kb(machine: Machine, pid: str, kind: str) -> int:
    """`kind` is a line of proc_pid_smaps_rollup(5)."""
    text = machine.read(f"/proc/{pid}/smaps_rollup")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{kind}:"))


def managers_kb(machine: Machine) -> int:
    """Not its PSS: of that, each child that it forks and that is not yet the job takes a share."""
    return memory_kb(machine, "1", "Anonymous")


def cpu_s(machine: Machine, pid: str) -> float:
    fields = machine.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def of_the_runs_s(machine: Machine, unit: str) -> float:
    """CPU of all runs so far, which are in `unit`, of PID 1 and of the journal."""
    journald = machine.show("systemd-journald.service", "MainPID")["MainPID"]
    slice_ns = machine.show(unit, "CPUUsageNSec")["CPUUsageNSec"]
    runs_s = int(slice_ns) / 1e9 if slice_ns.isdigit() else 0.0
    return runs_s + cpu_s(machine, "1") + cpu_s(machine, journald)


def before_it_is_due(load: Load) -> None:
    """Early in a period, so that there is time to install before the first elapse."""
    while load.period_s > 2 and time.time() % load.period_s > 1:
        time.sleep(0.1)


def sereno(machine: Machine, load: Load, idle_kb: int) -> Figures:
    """`idle_kb` is PID 1's memory before any job: what it once had it may keep."""
    shop = Shop(machine, app="bench")
    before_it_is_due(load)
    shop.call(
        "import bench_jobs, sys\nsys.path.insert(0, '/src/tests/bench')\nfrom bench_loads import Load\n"
        f"load = {load!r}\nfor number in range(load.count):\n"
        "    scheduler.add_cron_job(bench_jobs.record, f'job_{number}', accuracy=0.000001,"
        " kwargs={'number': number}, **load.fields(number))\n"
        "scheduler.start()"
    )
    kept_kb = managers_kb(machine) - idle_kb
    each_s, found = drained(machine, "sereno.slice", load.count * load.rounds)
    shop.call("scheduler.shutdown(wait=True)")
    shop.remove_all()
    return Figures(kept_kb, each_s, [load.delay_s(number, at) for number, at in found])


def apscheduler(machine: Machine, load: Load) -> Figures:
    before_it_is_due(load)
    machine.run(
        *("systemd-run", "--unit=peer", "--property=StandardOutput=file:/run/peer"),
        "--setenv=PYTHONPATH=/peers",
        *("/usr/bin/python3", "/src/tests/bench/apscheduler_peer.py"),
        *(str(int(value)) for value in load),
    )
    pid = machine.show("peer", "MainPID")["MainPID"]
    time.sleep(1 if load.period_s == 2 else 8)
    kept_kb, before_s = memory_kb(machine, pid, "Pss"), cpu_s(machine, pid)
    time.sleep(load.rounds * load.period_s)
    used_s = cpu_s(machine, pid) - before_s
    machine.run("systemctl", "stop", "peer")
    found = [line.split() for line in machine.read("/run/peer").splitlines()]
    delays_s = [load.delay_s(int(number), float(start)) for number, start in found]
    return Figures(kept_kb, used_s / max(1, len(found)), delays_s)


def starts(machine: Machine) -> list[tuple[int, float]]:
    """What the processes have noted: number and time."""
    lines = machine.read(STARTS).splitlines() if machine.exists(STARTS) else []
    return [(int(number), float(at)) for number, at in map(str.split, lines)]


def drained(machine: Machine, unit: str, runs: int) -> tuple[float, list[tuple[int, float]]]:
    """CPU of each of so many runs, and their starts."""
    before_s = of_the_runs_s(machine, unit)
    machine.wait_for(lambda: len(starts(machine)) >= runs, deadline_s=DRAINED_S, what="the runs")
    time.sleep(END_S)
    used_s, found = of_the_runs_s(machine, unit) - before_s, starts(machine)
    return used_s / len(found), found


def bare(machine: Machine, load: Load, idle_kb: int) -> Figures:
    """A plain service for each job, by timers that are as exact as sereno's here."""
    machine.write("/run/systemd/system/bare@.service", BARE)
    machine.run("/usr/bin/python3", "-c", BARE_TIMERS, *(str(int(value)) for value in load))
    before_it_is_due(load)
    machine.run(
        "sh", "-c", "systemctl daemon-reload; cd /run/systemd/system; systemctl start bare@*.timer"
    )
    kept_kb = managers_kb(machine) - idle_kb
    each_s, found = drained(machine, "bare.slice", load.count * load.rounds)
    machine.run(
        "sh",
        "-c",
        "cd /run/systemd/system; systemctl stop bare@*.timer; rm bare@*; systemctl daemon-reload",
    )
    return Figures(kept_kb, each_s, [load.delay_s(number, at) for number, at in found])


def cron(machine: Machine, load: Load) -> Figures:
    minutes = max(1, load.period_s // 60) if load.spread else 1
    lines = (
        f"{number % minutes}-59/{minutes} * * * * root /usr/bin/python3 -I /srv/record.py {number}\n"
        for number in range(load.count)
    )
    # Its own PAM service, without which each run would be a session of logind's.
    prepare = "mkdir -p /var/spool/cron/crontabs; cp /peers/cron/etc/pam.d/cron /etc/pam.d"
    machine.run("sh", "-c", prepare)
    machine.write("/etc/cron.d/bench", "".join(lines))
    before_it_is_due(Load(1, 60, 1))
    machine.run(
        "systemd-run", "--unit=peer", "--slice=peer.slice", "/peers/cron/usr/sbin/cron", "-f"
    )
    pid = machine.show("peer", "MainPID")["MainPID"]
    time.sleep(2)
    kept_kb = memory_kb(machine, pid, "Pss")
    each_s, found = drained(machine, "peer.slice", load.count * (1 if load.count > 1 else 2))
    machine.run("sh", "-c", "rm /etc/cron.d/bench; systemctl stop peer")
    return Figures(kept_kb, each_s, [at % 60 for _, at in found])


def mounts(machine: Machine) -> int:
    return len(machine.read("/proc/self/mountinfo").splitlines())


def add_mounts(machine: Machine) -> None:
    words = f"for n in $(seq {MORE_MOUNTS}); do mkdir -p /run/more/$n; mount -t tmpfs none /run/more/$n; done"
    machine.run("sh", "-c", words)


def cleanup_ratio(machine: Machine) -> str:
    python = "/opt/sereno/current/venv/bin/python3"
    words = (python, "-c", PROCESS_TIME, str(CLEANUP_RUNS), "/usr/bin/python3")
    done = machine.run(*words, "/opt/sereno/current/bin/cache_cleanup_hourly")
    pairs = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    bare, job = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = f"{job / bare:.1f} times the {bare:.1f} ms of python3 -I -c pass (at most 2.9)"
    return f"process time of the cleanup job: {job:.1f} ms, {ratio}"


def compare(machine: Machine, load: Load, peers: dict[str, Peer]) -> None:
    when = f"spread over {load.period_s} s" if load.spread else "due together"
    jobs = f"{load.count:,}, {when}" if load.count > 1 else "1"
    last_s = {}
    for name, measure in peers.items():
        machine.run("rm", "-f", STARTS)
        kept_kb, cpu_s, delays_s = measure(machine, load)
        figures = f"{kept_kb / 1024:.1f} | {cpu_s * 1000:.1f} | {quantiles(delays_s)}"
        print(f"| {jobs} | {name} | {mounts(machine)} | {figures} |", flush=True)
        last_s[name] = max(delays_s)
    if load.count > 1 and not load.spread:
        ratio = last_s["sereno"] / last_s["Debian's cron"]
        print(
            f"last first line: {ratio:.1f} times Debian's cron (at most {MOST_OF_CRON})", flush=True
        )


def main(peers: Path, loads: tuple[Load, ...]) -> None:
    tree = image.trees("bookworm", print)[1]
    binds = {
        "/src": Path(__file__).parents[2], "/peers": peers, "/wheels": (image.cache_directory() / "wheels").resolve(),
    }  # fmt: skip
    with machines.Machine([tree], binds=binds) as machine:
        machine.start()
        machine.run("/src/install.sh", "--wheels", "/wheels", timeout=300)
        Shop(machine)
        machine.write("/srv/shop/bench_jobs.py", JOBS)
        machine.write("/srv/record.py", SCRIPT)
        print(HEAD)
        idle_kb = managers_kb(machine)
        peers_of = {
            "sereno": partial(sereno, idle_kb=idle_kb),
            "Debian's cron": cron,
            "bare systemd": partial(bare, idle_kb=idle_kb),
            "APScheduler 3": apscheduler,
        }
        for load in loads:
            compare(machine, load, peers_of)
        add_mounts(machine)
        # A process without a sandbox pays nothing for mounts.
        compare(machine, loads[0], {name: peers_of[name] for name in ("sereno", "bare systemd")})
        print("\n" + cleanup_ratio(machine))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), QUICK if "--quick" in sys.argv else LOADS)
