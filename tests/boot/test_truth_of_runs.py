"""One truth of a run, by its record and by systemd's account: whatever it does, every place says the same of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from shop import FINISHED, STARTED, Shop

from sereno.errors import OVER_LIMIT
from sereno.records.verdict import LEFT, LEFT_BEHIND, STOPPED

if TYPE_CHECKING:
    from machine import Machine

JOBS = """
import atexit, os, signal, sys, threading, time

def succeeds():
    return {"rows": 3}

def crashes_at_exit():
    atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
    return {"rows": 12}

def leaves_a_thread():
    threading.Thread(target=time.sleep, args=(600,)).start()
    return {"rows": 3}

def exits_hard():
    os._exit(0)

def executes():
    os.execv("/bin/true", ["true"])

def _leaves_a_child(sigterm):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, sigterm)
        os.write(writer, b"x")
        os.execlp("sleep", "left-behind", "600")
    os.read(reader, 1)

def daemonizes():
    _leaves_a_child(signal.SIG_DFL)
    os._exit(0)

def daemonizes_deaf():
    _leaves_a_child(signal.SIG_IGN)
    os._exit(0)

def leaves_deaf_children():
    _leaves_a_child(signal.SIG_IGN)
    return {"rows": 3}

def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    while True:
        time.sleep(600)

def has_its_own_handler():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
    print("ready", flush=True)
    time.sleep(600)

def defaults():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print("ready", flush=True)
    time.sleep(600)

def kills_itself():
    os.kill(os.getpid(), signal.SIGKILL)

def slow():
    time.sleep(4)
    return {"run": os.environ["INVOCATION_ID"]}

def prints_much():
    print("x" * 10_000_000)
    print("\\x1b[31mred" * 1000)
    for number in range(20_000):
        print("line", number)
    return {"page": "y" * 60_000}

def forges():
    from systemd import journal
    kinds = ("d9b373ed55a64feb8242e02dbe79a49c", "9d1aaa27d60140bd96365438aad20286")
    for job in ("trusted", "forger"):
        for kind in kinds:
            journal.send("x", SERENO_JOB=job, UNIT=f"sereno@{job}.service", MESSAGE_ID=kind,
                SERENO_RUN=os.environ["INVOCATION_ID"], UNIT_RESULT="timeout", JOB_RESULT="done")
        journal.send("x", SERENO_JOB=job, MESSAGE_ID="c8db476b7d964ab2bd2d7abc51d7b261",
            SERENO_RUN="f" * 32, SERENO_STATUS="failed", SERENO_ERROR="forged")
    print("sereno@forger.service: start operation timed out. Terminating.")
"""
# A process that ends at once: journald cannot know its unit any more.
FORGERY = """
import os, sys
from systemd import journal
failed, started, by_systemd, stopped = (
    "c8db476b7d964ab2bd2d7abc51d7b261", "5e6016bdb0a94162b63c3f18577a34a6",
    "d9b373ed55a64feb8242e02dbe79a49c", "9d1aaa27d60140bd96365438aad20286",
)
for number in range(int(sys.argv[1])):
    if os.fork() == 0:
        for kind in (started, failed, by_systemd, stopped):
            journal.send("forged", MESSAGE_ID=kind, SERENO_JOB="trusted", SERENO_RUN=sys.argv[2],
                UNIT="sereno@trusted.service", INVOCATION_ID=sys.argv[2], SERENO_STATUS="failed",
                SERENO_ERROR="forged", SERENO_DURATION_MS="abc", UNIT_RESULT="timeout", JOB_RESULT="done")
        os._exit(0)
"""


@pytest.fixture
def jobs(shop: Shop) -> Shop:
    shop.machine.write("/srv/shop/truth_jobs.py", JOBS)
    return shop


def install(shop: Shop, *registrations: str) -> None:
    shop.install(*registrations, functions="truth_jobs")


def configure(machine: Machine, text: str, *job_ids: str) -> None:
    for job_id in job_ids:
        machine.write(f"/etc/systemd/system/sereno@{job_id}.service.d/test.conf", text)
    machine.run("systemctl", "daemon-reload")


def forget(machine: Machine, *job_ids: str) -> None:
    paths = [f"/etc/systemd/system/sereno@{job_id}.service.d/test.conf" for job_id in job_ids]
    machine.run("rm", "-f", *paths)
    machine.run("systemctl", "daemon-reload")


def waited_for(machine: Machine, job_id: str) -> tuple[int, str]:
    done = machine.run("sereno", "run", job_id, "--wait", check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def said(shop: Shop, *job_ids: str) -> dict[str, tuple[str, str | None]]:
    """What became of each job's newest run; every place that tells has to say the same."""
    machine = shop.machine
    machine.run("journalctl", "--sync")
    listed = {job["id"]: job for job in json.loads(machine.run("sereno", "list", "--json").stdout)}
    by_status = shop.call("result = {job['id']: job for job in scheduler.get_jobs()}")
    page = machine.run("sereno", "report", "-o", "-").stdout
    watched = machine.run("sereno", "watch").stdout.splitlines()
    found = {}
    for job_id in job_ids:
        job = listed[job_id]
        status, error = job["last_status"], job["last_error"]
        history = json.loads(machine.run("sereno", "history", job_id, "--json").stdout)["history"]
        last = history[-1]
        assert (last["run"], last["status"]) == (job["last_run_id"], status)
        assert (last["error"], last["hint"]) == (error, job["last_hint"])
        assert last["result"] in (None, job["last_result"])
        times = ("next_run", "last_run")
        assert {**job, **dict.fromkeys(times)} == {**by_status[job_id], **dict.fromkeys(times)}
        text = machine.run("sereno", "status", job_id).stdout
        assert f": {status}" in text
        assert error is None or error in text
        assert f" {status}, from " in page or f" {status}, " in page
        (line,) = [line for line in watched if line[2:].startswith(f"{job_id} ")]
        assert f" {status} " in f"{line} "
        found[job_id] = (status, error)
    return found


ENDS = {
    "good": ("succeeds", 0, "success", None),
    "crashes": ("crashes_at_exit", 1, "failed", "it had ended as 'success', then: killed by SIGSEGV"),
    "hard": ("exits_hard", 1, "lost", LEFT),
    "execs": ("executes", 1, "lost", LEFT),
    "forks_off": ("daemonizes", 1, "lost", LEFT),
    "leaves": ("leaves_deaf_children", 1, "failed", f"it had ended as 'success', then: {LEFT_BEHIND}"),
    "deaf_daemon": ("daemonizes_deaf", 1, "failed", LEFT_BEHIND),
    "kills": ("kills_itself", 1, "failed", "killed by SIGKILL"),
    "too_long": ("deaf", 1, "failed", OVER_LIMIT),
    "thread": ("leaves_a_thread", 1, "failed", f"it had ended as 'success', then: {OVER_LIMIT}"),
}  # fmt: skip


@pytest.mark.every_systemd
def test_every_end_is_one_truth_and_never_a_success_of_half(jobs: Shop) -> None:
    machine = jobs.machine
    install(
        jobs,
        *(
            f"add_interval_job(jobs.{function}, {job_id!r}, hours=1, timeout={2 if OVER_LIMIT in str(error) else 60})"
            for job_id, (function, _, _, error) in ENDS.items()
        ),
    )
    configure(machine, "[Service]\nTimeoutStopSec=1\n", *ENDS)
    waited = {job_id: waited_for(machine, job_id) for job_id in ENDS}
    found = said(jobs, *ENDS)
    assert found == {job_id: (status, error) for job_id, (_, _, status, error) in ENDS.items()}
    for job_id, (_, exit_status, _, error) in ENDS.items():
        assert waited[job_id][0] == exit_status, job_id
        assert error is None or error in waited[job_id][1]
    stats = "result = scheduler.run_job('good')"
    assert jobs.call(stats) == {"rows": 3}
    raised = """
    from sereno.errors import JobFailed
    result = []
    for job_id in ("crashes", "hard"):
        try:
            scheduler.run_job(job_id)
        except JobFailed as error:
            result.append(str(error))
    """
    crashed, left = jobs.call(raised)
    assert "killed by SIGSEGV" in crashed
    assert LEFT in left
    findings = {
        finding["subject"]: finding
        for finding in json.loads(machine.run("sereno", "doctor", "--json", check=False).stdout)["findings"]
        if finding["check"] == "run"
    }  # fmt: skip
    for job_id, (_, _, status, error) in ENDS.items():
        finding = findings.get(f"sereno@{job_id}.service")
        assert (finding is None) is (status == "success")
        assert finding is None or error in finding["message"]
    forget(machine, *ENDS)


STOPS = {
    "deaf": "it was stopped, then: ",
    "has_its_own_handler": "it was stopped, then: exit status 3",
    "defaults": STOPPED,
}


@pytest.mark.parametrize("function", STOPS)
def test_what_somebody_stopped_is_interrupted_whatever_it_does_with_sigterm(
    jobs: Shop, function: str
) -> None:
    machine, job_id = jobs.machine, f"stopped_{function}"
    install(jobs, f"add_interval_job(jobs.{function}, {job_id!r}, hours=1)")
    configure(machine, "[Service]\nTimeoutStopSec=1\n", job_id)
    machine.run(
        "systemd-run", "--quiet", "--on-active=3s", "--timer-property=AccuracySec=100ms",
        "systemctl", "stop", f"sereno@{job_id}.service",
    )  # fmt: skip
    status, words = waited_for(machine, job_id)
    assert status == 143
    became, error = said(jobs, job_id)[job_id]
    assert became == "interrupted"
    assert error is not None
    assert error.startswith(STOPS[function])
    assert OVER_LIMIT not in error
    assert error in words
    listed = json.loads(machine.run("sereno", "list", "--json").stdout)
    assert [job["failing"] for job in listed if job["id"] == job_id] == [False]
    findings = json.loads(machine.run("sereno", "doctor", "--json", check=False).stdout)["findings"]
    assert [each for each in findings if each["subject"] == f"sereno@{job_id}.service"] == []
    forget(machine, job_id)


@pytest.mark.every_systemd
def test_a_run_that_a_shutdown_stopped_is_interrupted_and_not_lost(jobs: Shop) -> None:
    machine = jobs.machine
    install(jobs, "add_interval_job(jobs.deaf, 'shut_down', hours=100)")
    configure(machine, "[Service]\nTimeoutStopSec=1\n", "shut_down")
    machine.run("systemctl", "start", "--no-block", "sereno@shut_down.service")
    machine.wait_for(
        lambda: [
            each for each in machine.journal("SERENO_JOB=shut_down") if each["MESSAGE"] == "deaf"
        ],
        what="the run",
    )
    machine.reboot()
    assert said(jobs, "shut_down")["shut_down"][0] == "interrupted"
    forget(machine, "shut_down")


NOTHING_RAN = {
    "masked": "masked",
    "[Unit]\nRequires=not-there.service\nAfter=not-there.service\n": "not-there.service",
    "[Unit]\nAssertPathExists=/not/there\n": "ssert",
    "[Unit]\nConditionPathExists=/not/there\n": "a condition of its unit",
}


@pytest.mark.every_systemd
@pytest.mark.parametrize("obstacle", NOTHING_RAN)
def test_where_nothing_ran_systemds_own_words_are_said(jobs: Shop, obstacle: str) -> None:
    """Of a job that has run before, whose last run stays the one that it is, and of a new one."""
    machine = jobs.machine
    ran, new = (f"{which}_{len(obstacle)}" for which in ("ran", "new"))
    services = [f"sereno@{job_id}.service" for job_id in (ran, new)]
    install(
        jobs, *(f"add_interval_job(jobs.succeeds, {job_id!r}, hours=1)" for job_id in (ran, new))
    )
    assert waited_for(machine, ran)[0] == 0
    if obstacle == "masked":
        machine.run("systemctl", "mask", "--runtime", *services)
    else:
        configure(machine, obstacle, ran, new)
    for job_id in (ran, new):
        status, words = waited_for(machine, job_id)
        assert NOTHING_RAN[obstacle] in words
        assert "did not start" in words
        assert status == (77 if "Condition" in obstacle else 1)
        assert len(jobs.runs(job_id)) == (job_id == ran)
    machine.run("systemctl", "unmask", "--runtime", *services)
    forget(machine, ran, new)
    assert said(jobs, ran) == {ran: ("success", None)}


@pytest.mark.every_systemd
def test_a_run_that_somebody_restarts_is_the_one_that_is_judged(jobs: Shop) -> None:
    install(jobs, "add_interval_job(jobs.slow, 'restarted', hours=1)")
    jobs.machine.run(
        "systemd-run", "--quiet", "--on-active=2s", "--timer-property=AccuracySec=100ms",
        "systemctl", "restart", "sereno@restarted.service",
    )  # fmt: skip
    status, words = waited_for(jobs.machine, "restarted")
    assert status == 143, words
    first, second = jobs.runs("restarted", STARTED)
    assert first["SERENO_RUN"] in words or "interrumpida" in words
    (end,) = jobs.machine.wait_for(
        lambda: jobs.runs("restarted", FINISHED), what="the end of the second run"
    )
    assert end["SERENO_RUN"] == second["SERENO_RUN"]


READERS = (
    ("list",), ("status", "trusted"), ("history", "trusted"), ("watch",), ("report", "-o", "-"),
    ("logs", "trusted"),
)  # fmt: skip


@pytest.mark.parametrize("named", ["own", "made up"])
def test_records_of_an_unprivileged_user_are_not_believed_however_many(
    jobs: Shop, named: str
) -> None:
    """In bursts, from processes that end at once, with the id of the real run or another, and fields that are none."""
    machine = jobs.machine
    install(jobs, "add_interval_job(jobs.succeeds, 'trusted', hours=1)")
    assert waited_for(machine, "trusted")[0] == 0
    machine.run("useradd", "mallory", check=False)
    before = said(jobs, "trusted")
    run_id = jobs.runs("trusted", FINISHED)[-1]["SERENO_RUN"] if named == "own" else "f" * 32
    # From a unit, and from where journald knows none.
    machine.run_unit("python3", "-c", FORGERY, "30", run_id, user="mallory")
    machine.run("python3", "-c", FORGERY, "30", run_id, user="mallory")
    bare = [
        record for record in machine.journal("SERENO_ERROR=forged") if "_SYSTEMD_UNIT" not in record
    ]
    assert len(bare) >= 30
    assert said(jobs, "trusted") == before == {"trusted": ("success", None)}
    for words in READERS:
        done = machine.run("sereno", *words)
        assert "forged" not in done.stdout + done.stderr, words
    doctor = machine.run("sereno", "doctor", check=False)
    assert "Traceback" not in doctor.stderr
    assert "trusted" not in doctor.stdout
    assert waited_for(machine, "trusted")[0] == 0


def test_a_job_speaks_for_no_other_and_not_for_systemd(jobs: Shop) -> None:
    install(
        jobs,
        "add_interval_job(jobs.succeeds, 'trusted', hours=1)",
        "add_interval_job(jobs.forges, 'forger', hours=1)",
    )
    assert waited_for(jobs.machine, "trusted")[0] == 0
    assert waited_for(jobs.machine, "forger")[0] == 0
    found = said(jobs, "trusted")
    assert found == {"trusted": ("success", None)}
    status = jobs.call("result = scheduler.get_job_status('forger')")
    assert (status["last_status"], status["last_error"]) == ("success", None)


def test_a_line_of_ten_megabytes_and_very_many_lines_are_shown_in_bounds(jobs: Shop) -> None:
    machine = jobs.machine
    install(jobs, "add_interval_job(jobs.prints_much, 'talks', hours=1)")
    machine.run("systemctl", "start", "sereno@talks.service")
    machine.run("journalctl", "--sync")
    for words in (("status", "talks"), ("history", "talks"), ("list",), ("watch",)):
        text = machine.run("sereno", *words).stdout
        assert len(text) < 30_000, words
        assert "\x1b" not in text
    page = machine.run("sereno", "report", "-o", "-").stdout
    assert len(page) < 1_000_000


def test_get_job_status_knows_the_last_run_after_a_pause_and_after_a_reboot(jobs: Shop) -> None:
    machine = jobs.machine
    install(
        jobs,
        "add_interval_job(jobs.succeeds, 'known', hours=1)",
        "add_interval_job(jobs.crashes_at_exit, 'crashed', hours=1)",
    )
    for job_id in ("known", "crashed"):
        waited_for(machine, job_id)
    keys = (
        *("last_run", "last_run_id", "last_status", "last_result"),
        *("last_error", "last_duration_s", "last_exit_status"),
    )
    ask = (
        f"result = [[scheduler.get_job_status(j)[k] for k in {keys}] for j in ('known', 'crashed')]"
    )
    before = jobs.call(ask)
    assert [each[2] for each in before] == ["success", "failed"]
    assert None not in before[0][:4]
    # As the run itself measured it, and not in whole seconds.
    measured = float(jobs.runs("known", FINISHED)[0]["SERENO_DURATION_MS"]) / 1000
    assert before[0][5] == measured != round(measured)
    for job_id in ("known", "crashed"):
        jobs.call(f"scheduler.pause_job({job_id!r})")
    assert jobs.call(ask) == before
    for job_id in ("known", "crashed"):
        jobs.call(f"scheduler.resume_job({job_id!r})")
    machine.run("systemctl", "reset-failed")
    assert jobs.call(ask) == before
    machine.reboot()
    assert jobs.call(ask) == before
    assert said(jobs, "known", "crashed")["crashed"][0] == "failed"


@pytest.mark.every_systemd
def test_without_a_journal_a_run_is_known_by_the_manager(jobs: Shop) -> None:
    machine = jobs.machine
    install(
        jobs,
        "add_interval_job(jobs.succeeds, 'unseen', hours=1)",
        "add_interval_job(jobs.kills_itself, 'unseen_crash', hours=1)",
    )
    machine.write("/etc/systemd/journald.conf.d/test.conf", "[Journal]\nStorage=none\n")
    machine.run("systemctl", "restart", "systemd-journald.service")
    machine.run(
        "sh", "-c", "mv /var/log/journal /var/log/kept 2>/dev/null; rm -rf /run/log/journal"
    )
    try:
        assert waited_for(machine, "unseen")[0] == 0
        status, words = waited_for(machine, "unseen_crash")
        assert (status, "killed by SIGKILL" in words) == (1, True)
        found: dict[str, Any] = {
            job["id"]: job["last_status"]
            for job in json.loads(machine.run("sereno", "list", "--json").stdout)
        }
        assert (found["unseen"], found["unseen_crash"]) == ("success", "failed")
        asked = "result = scheduler.get_job_status('unseen_crash')"
        assert jobs.call(asked)["last_error"].endswith("killed by SIGKILL")
    finally:
        machine.run("rm", "/etc/systemd/journald.conf.d/test.conf")
        machine.run("sh", "-c", "mv /var/log/kept /var/log/journal 2>/dev/null || :")
        machine.run("systemctl", "restart", "systemd-journald.service")
