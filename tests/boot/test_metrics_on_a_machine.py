"""Metrics from the sandbox of real runs: switched on in one place, for every job and user, and never worth a run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shop import FINISHED, INTERRUPTED, Shop

if TYPE_CHECKING:
    from machine import Machine

DIRECTORY = "/var/lib/prometheus/node-exporter"
STATE = "/var/lib/sereno/notify"
DROP_IN = f"""\
[Service]
Environment=SERENO_TEXTFILE_DIR={DIRECTORY}
ReadWritePaths=-{DIRECTORY}
"""


def successes(machine: Machine, job_id: str) -> float:
    """Runs of a job that succeeded, by its file."""
    text = machine.read(f"{DIRECTORY}/sereno_job_{job_id}.prom")
    (value,) = re.findall(r'^sereno_job_runs_total\{.*status="success"\} (.*)$', text, re.MULTILINE)
    return float(value)


def test_one_drop_in_has_every_job_leave_its_metrics_and_losing_them_harms_no_run(
    shop: Shop,
) -> None:
    machine = shop.machine
    machine.run("useradd", "--system", "clerk")
    # As Debian's package leaves it: another user's.
    machine.run("install", "-d", "-o", "nobody", DIRECTORY)
    machine.write("/etc/systemd/system/sereno@.service.d/metrics.conf", DROP_IN)
    machine.run("systemctl", "daemon-reload")
    shop.install(
        "add_interval_job(shop_jobs.quick, 'measured', hours=1)",
        "add_interval_job(shop_jobs.quick, 'by_clerk', hours=1, user='clerk')",
    )

    machine.run("systemctl", "start", "sereno@measured.service")
    (record,) = warnings(machine, "measured")
    assert record["MESSAGE"].startswith(f"Métricas no escritas en {DIRECTORY}/")
    assert len(shop.runs("measured", FINISHED)) == 1

    machine.run("install", "-d", "-g", "sereno", "-m", "1775", DIRECTORY)
    for job_id in ("measured", "measured", "by_clerk", "cache_cleanup_hourly"):
        machine.run("systemctl", "start", f"sereno@{job_id}.service")
    assert successes(machine, "measured") == 2
    assert successes(machine, "by_clerk") == 1
    assert successes(machine, "cache_cleanup_hourly") == 1
    assert len(warnings(machine, "measured")) == 1
    listing = machine.run("stat", "-c", "%n %a %U", *_paths(machine)).stdout.splitlines()
    assert {line.rpartition("/")[2] for line in listing} == {
        "sereno_cache_metadata.prom 644 sereno",
        "sereno_job_by_clerk.prom 644 clerk",
        "sereno_job_cache_cleanup_hourly.prom 644 sereno",
        "sereno_job_measured.prom 644 sereno",
    }
    cache = machine.read(f"{DIRECTORY}/sereno_cache_metadata.prom")
    assert 'sereno_cache_max_entries{cache="metadata"} 2000.0\n' in cache

    told = machine.run("sereno", "doctor", "--json", check=False).stdout
    assert "metrics.conf" not in told

    # A directory that is gone stops no service from starting.
    machine.run("rm", "-r", DIRECTORY)
    machine.run("systemctl", "start", "sereno@measured.service")
    assert len(warnings(machine, "measured")) == 2


def test_a_removed_job_takes_its_files_along_also_when_a_run_of_it_is_under_way(
    shop: Shop,
) -> None:
    machine = shop.machine
    machine.run("install", "-d", "-g", "sereno", "-m", "1775", DIRECTORY)
    machine.write("/etc/systemd/system/sereno@.service.d/metrics.conf", DROP_IN)
    machine.run("systemctl", "daemon-reload")
    shop.install(
        *(
            f"add_interval_job(shop_jobs.endless, '{job_id}', hours=1)"
            for job_id in ("kept", "idle", "busy")
        )
    )

    def begin(job_id: str, runs: int) -> None:
        machine.run("systemctl", "start", "--no-block", f"sereno@{job_id}.service")
        machine.wait_for(lambda: len(shop.runs(job_id)) == runs, what=f"run {runs} of {job_id}")

    def stop(job_id: str, runs: int) -> None:
        machine.run("systemctl", "stop", f"sereno@{job_id}.service")
        machine.wait_for(
            lambda: len(shop.runs(job_id, INTERRUPTED)) == runs, what=f"end {runs} of {job_id}"
        )

    for job_id in ("kept", "idle", "busy"):
        begin(job_id, 1)
        stop(job_id, 1)
        # What sereno-failed.service keeps of a job that failed.
        for name in (f"{job_id}.json", f"{job_id}.failing"):
            machine.run("install", "-D", "/dev/null", f"{STATE}/{name}")
    begin("busy", 2)
    assert left(machine, DIRECTORY, "sereno_job_*") == [
        f"sereno_job_{job_id}.prom" for job_id in ("busy", "idle", "kept")
    ]
    machine.run("sereno", "remove", "idle")
    shop.call("scheduler.remove_job('busy')")
    stop("busy", 2)
    assert left(machine, DIRECTORY, "sereno_job_*") == ["sereno_job_kept.prom"]
    assert left(machine, STATE, "*") == ["kept.failing", "kept.json"]


def left(machine: Machine, directory: str, pattern: str) -> list[str]:
    found = machine.run("find", directory, "-type", "f", "-name", pattern, "-printf", "%f\n")
    return sorted(found.stdout.split())


def warnings(machine: Machine, job_id: str) -> list[dict[str, str]]:
    return machine.journal(f"SERENO_JOB={job_id}", f"SYSLOG_IDENTIFIER={job_id}", "PRIORITY=4")


def _paths(machine: Machine) -> list[str]:
    return machine.run("find", DIRECTORY, "-type", "f").stdout.split()
