"""Jobs of a user, without root: the same laws in the user's own manager, which lingering keeps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from shop import install_for

from pseudo_terminal import PseudoTerminal
from sereno.records.verdict import LEFT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine import Machine

JOBS = """
import os

def quick():
    return {"rows": 3}

def killed():
    os.kill(os.getpid(), 9)

def moody():
    import os
    if os.path.exists("/home/ada/bad"):
        raise ValueError("bad mood")
"""
NOTIFY = """
[[handler]]
type = "command"
command = ["/bin/sh", "-c", "cat >>/home/ada/json; echo $SERENO_EVENT $SERENO_JOB $SERENO_EXIT_STATUS >>/home/ada/told"]
"""
SCHEDULE = """
import json, os, sys
sys.path[:0] = [os.path.expanduser("~/.local/share/sereno/lib"), os.path.expanduser("~/shop")]
import shop_jobs
from sereno import get_scheduler
scheduler = get_scheduler(app="shop")
"""


@pytest.fixture(scope="module")
def ada(machine: Machine) -> Iterator[Machine]:
    """The installed machine, with sereno installed for the lingering user ada as well."""
    machine.add_lingering_user("ada")
    install_for(machine, "ada")
    machine.run("runuser", "-u", "ada", "--", "mkdir", "/home/ada/shop")
    machine.write("/home/ada/shop/shop_jobs.py", JOBS)
    return machine


def call(machine: Machine, body: str) -> object:
    code = f"{SCHEDULE}\nresult = None\n{body}\nprint(json.dumps(result, default=str))\n"
    python = "/home/ada/.local/share/sereno/current/venv/bin/python3"
    return json.loads(machine.run(python, "-c", code, user="ada").stdout.splitlines()[-1])


def jobs(machine: Machine) -> dict[str, dict[str, object]]:
    found = call(machine, "result = scheduler.get_jobs()")
    assert isinstance(found, list)
    return {job["id"]: job for job in found}


@pytest.mark.every_systemd
def test_a_users_interval_and_calendar_fire_and_are_stopped_by_their_owner(ada: Machine) -> None:
    call(
        ada,
        "scheduler.add_interval_job(shop_jobs.quick, 'mine', seconds=2)\n"
        "scheduler.add_cron_job(shop_jobs.quick, 'nightly', hour=3)\n"
        "scheduler.start()",
    )
    assert {name: job["active"] for name, job in jobs(ada).items()} == {
        "mine": True,
        "nightly": True,
    }
    ada.wait_for(
        lambda: len(ada.journal("SERENO_JOB=mine", "SERENO_STATUS=success")) >= 2,
        what="two runs of ada's interval",
    )
    assert call(ada, "result = scheduler.run_job('nightly')") == {"rows": 3}
    record = ada.journal("SERENO_JOB=nightly", "SERENO_STATUS=success")[-1]
    assert record["_UID"] == ada.run("id", "-u", "ada").stdout.strip()
    call(ada, "scheduler.shutdown(wait=True)\nresult = scheduler.is_running")
    assert not any(job["active"] for job in jobs(ada).values())
    system = ada.run("sereno", "list").stdout
    assert "cache_cleanup_hourly" in system
    assert "nightly" not in system


@pytest.mark.every_systemd
def test_a_users_timers_and_the_phase_of_an_interval_survive_a_reboot_which_runs_its_jobs_of_each_boot(
    ada: Machine,
) -> None:
    call(
        ada,
        "scheduler.add_interval_job(shop_jobs.quick, 'weekly', hours=168)\n"
        "scheduler.add_cron_job(shop_jobs.quick, 'warm_up', cron_expression='@reboot')\n"
        "scheduler.start()",
    )
    before = jobs(ada)["weekly"]["next_run"]
    assert before is not None
    ada.reboot()
    ada.wait_for_manager_of("ada")
    after = ada.wait_for(lambda: jobs(ada)["weekly"]["next_run"], what="a next run")
    assert str(after)[:18] == str(before)[:18]
    assert ada.journal("SERENO_JOB=weekly") == []
    success = ("SERENO_JOB=warm_up", "SERENO_STATUS=success")
    ada.wait_for(lambda: ada.journal(*success), what="the run of this boot")
    ada.run("systemctl", "--user", "restart", "sereno@warm_up.timer", user="ada")
    assert len(ada.journal(*success)) == 1


def test_a_users_run_that_comes_too_late_is_skipped_and_one_by_hand_is_not(ada: Machine) -> None:
    call(
        ada,
        "scheduler.add_cron_job(shop_jobs.quick, 'late', hour=0, timezone='UTC', misfire_grace=1)\n"
        "scheduler.start()",
    )
    assert call(ada, "result = scheduler.run_job('late')") == {"rows": 3}
    stamp = "/home/ada/.local/share/systemd/timers/stamp-sereno@late.timer"
    ada.run("systemctl", "--user", "stop", "sereno@late.timer", user="ada")
    ada.run("touch", "--date=3 days ago", stamp, user="ada")
    ada.run("systemctl", "--user", "start", "sereno@late.timer", user="ada")
    ada.wait_for(lambda: ada.journal("SERENO_JOB=late", "SERENO_STATUS=skipped"), what="the record")
    assert len(ada.journal("SERENO_JOB=late", "SERENO_STATUS=success")) == 1
    call(ada, "scheduler.shutdown(wait=True)")


LIMITED = """
import os, time
from sereno import credential

def given(**kwargs):
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    return {**kwargs, "token": credential("token"), "variable": os.environ["SHOP"], "nice": nice}

def waits():
    time.sleep(600)

def quick():
    return {}

def fails():
    raise ConnectionError("no route")
"""


def test_a_users_job_has_limits_inputs_and_credentials_and_can_be_stopped(ada: Machine) -> None:
    ada.write("/home/ada/shop/limited.py", LIMITED)
    ada.write("/home/ada/token", "s3cr3t\n")
    call(
        ada,
        "import limited\n"
        "scheduler.add_interval_job(limited.given, 'given', hours=1, kwargs={'rows': [1]}, nice=5,"
        " environment={'SHOP': 'a %h'}, credentials={'token': '/home/ada/token'}, retries=1)\n"
        "scheduler.add_interval_job(limited.waits, 'stopped', hours=1)\n"
        "scheduler.add_interval_job(limited.fails, 'fails', hours=1, retries=1, retry_delay=0.1)\n"
        "scheduler.add_cron_job(limited.quick, 'skipped', second='*', after='fails', only_if_success=True)\n"
        "scheduler.start()",
    )
    ran = call(ada, "result = scheduler.run_job('given')")
    assert ran == {"rows": [1], "token": "s3cr3t", "variable": "a %h", "nice": 5}
    ada.run("systemctl", "--user", "start", "--no-block", "sereno@stopped.service", user="ada")
    ada.wait_for(lambda: ada.journal("SERENO_JOB=stopped"), what="the start")
    ada.run("systemctl", "--user", "stop", "sereno@stopped.service", user="ada")
    assert ada.journal("SERENO_JOB=stopped")[-1]["SERENO_STATUS"] == "interrupted"
    status = call(ada, "result = scheduler.get_job_status('stopped')")
    assert isinstance(status, dict)
    assert status["last_result"] == "interrupted"
    ada.run("systemctl", "--user", "start", "sereno@fails.service", user="ada", check=False)
    ada.wait_for(
        lambda: any(
            "fails falló (exit-code)" in record["MESSAGE"]
            for record in ada.journal("SERENO_JOB=skipped", "SERENO_STATUS=skipped")
        ),
        what="a skipped run",
    )
    call(ada, "scheduler.shutdown(wait=True)")


def sereno(machine: Machine, *words: str, check: bool = True) -> Any:
    command = "/home/ada/.local/share/sereno/current/bin/sereno"
    machine.run("journalctl", "--sync")
    return machine.run(command, *words, user="ada", check=check)


def test_a_users_runs_are_that_users_and_not_those_of_a_system_job_of_the_same_name(
    ada: Machine,
) -> None:
    job_id = "cache_cleanup_hourly"
    (before,) = json.loads(ada.run("sereno", "list", "--json").stdout)
    call(ada, "scheduler.add_interval_job(shop_jobs.killed, 'dies', hours=1)\nscheduler.start()")
    stats = json.loads(sereno(ada, "run", job_id, "--wait").stdout)
    assert stats["entries_removed"] == 0
    assert sereno(ada, "run", "dies", "--wait", check=False).returncode == 1
    jobs = {job["id"]: job for job in json.loads(sereno(ada, "list", "--json").stdout)}
    assert jobs[job_id]["last_status"] == "success"
    assert (jobs["dies"]["last_status"], jobs["dies"]["failing"]) == ("failed", True)
    assert jobs["dies"]["last_error"] == "killed by SIGKILL"
    assert "Failed with result 'signal'" in sereno(ada, "logs", "dies").stdout
    assert "killed by SIGKILL" in sereno(ada, "status", "dies").stdout
    (run,) = json.loads(sereno(ada, "history", "dies", "--json").stdout)["history"]
    assert run["run"] == jobs["dies"]["last_run_id"]
    (after,) = json.loads(ada.run("sereno", "list", "--json").stdout)
    assert after["last_run_id"] == before["last_run_id"]
    call(ada, "scheduler.shutdown(wait=True)")


ENDS = """
import atexit, os, signal, time

def leaves():
    os._exit(0)

def crashes():
    atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
    return {"rows": 12}

def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    while True:
        time.sleep(600)
"""


@pytest.mark.every_systemd
def test_a_users_runs_are_judged_by_that_users_manager_too(ada: Machine) -> None:
    ada.write("/home/ada/shop/ends.py", ENDS)
    call(
        ada,
        "import ends\n"
        "scheduler.add_interval_job(ends.leaves, 'leaves', hours=1)\n"
        "scheduler.add_interval_job(ends.crashes, 'crashes', hours=1)\n"
        "scheduler.add_interval_job(ends.deaf, 'unheard', hours=1)\n"
        "scheduler.start()",
    )
    for job_id, words in (("leaves", LEFT), ("crashes", "killed by SIGSEGV")):
        done = sereno(ada, "run", job_id, "--wait", check=False)
        assert done.returncode == 1
        assert words in done.stderr
    service = "sereno@unheard.service"
    ada.run("systemctl", "--user", "start", "--no-block", service, user="ada")
    ada.wait_for(
        lambda: any(
            each["MESSAGE"] == "deaf" for each in ada.journal(f"_SYSTEMD_USER_UNIT={service}")
        ),
        what="the run",
    )
    ada.run("systemctl", "--user", "stop", service, user="ada")
    jobs = {job["id"]: job for job in json.loads(sereno(ada, "list", "--json").stdout)}
    shown = {
        name: (jobs[name]["last_status"], jobs[name]["failing"])
        for name in ("leaves", "crashes", "unheard")
    }
    assert shown == {
        "leaves": ("lost", True), "crashes": ("failed", True), "unheard": ("interrupted", False),
    }  # fmt: skip
    call(ada, "scheduler.shutdown(wait=True)")


def test_a_user_sees_the_users_own_jobs_live(ada: Machine) -> None:
    call(ada, "scheduler.add_interval_job(shop_jobs.killed, 'dying', hours=1)\nscheduler.start()")
    watch = ("/home/ada/.local/bin/sereno", "watch", "--interval", "0.5")
    with PseudoTerminal(*ada.command(*watch, user="ada", env={"TERM": "xterm"})) as terminal:
        terminal.wait_for(lambda: terminal.line("user scope"))
        assert terminal.line("  dying ")
        ada.run("systemctl", "--user", "start", "sereno@dying.service", user="ada", check=False)
        terminal.wait_for(lambda: terminal.line("dying: killed by SIGKILL"))
        assert "failed" in terminal.line("! dying ")
        call(ada, "scheduler.remove_job('dying')")
        terminal.wait_for(lambda: not terminal.line("dying"))
        terminal.press("q")
        assert terminal.ended() == 0
    call(ada, "scheduler.shutdown(wait=True)")


def test_a_user_is_told_by_a_file_of_the_users_own(ada: Machine) -> None:
    owned = ("runuser", "-u", "ada", "--", "sh", "-c")
    ada.run(
        *owned,
        "mkdir -p ~/.config/sereno; cat >~/.config/sereno/notify.toml",
        env={"HOME": "/home/ada"},
        input=NOTIFY,
    )
    call(ada, "scheduler.add_interval_job(shop_jobs.moody, 'moody', hours=1)\nscheduler.start()")
    ada.run("touch", "/home/ada/bad")
    for _ in range(2):
        ada.run("systemctl", "--user", "start", "sereno@moody.service", user="ada", check=False)
        ada.wait_for(
            lambda: (
                "failure moody 1\n"
                in (ada.read("/home/ada/told") if ada.exists("/home/ada/told") else "")
            ),
            what="the message",
        )
    ada.run("rm", "/home/ada/bad")
    ada.run("systemctl", "--user", "start", "sereno@moody.service", user="ada")
    ada.wait_for(lambda: "recovery" in ada.read("/home/ada/told"), what="the recovery")
    # Of the minutes before there was a handler, its first message tells too: what other tests had fail.
    lines = [line for line in ada.read("/home/ada/told").splitlines() if "moody" in line]
    assert lines == ["failure moody 1", "recovery moody"]
    told = ada.read("/home/ada/json")
    assert "ValueError: bad mood" in told
    assert "Failed with result 'exit-code'" in told
    sereno = "/home/ada/.local/bin/sereno"
    assert ada.run(sereno, "notify", "--test", user="ada").stdout == "command: delivered\n"
    call(ada, "scheduler.shutdown(wait=True)")


@pytest.mark.every_systemd
def test_a_users_runs_are_confined_as_far_as_a_users_manager_can(ada: Machine) -> None:
    """What is asked for is let through, as in the system scope; what is not asked for fails here as there."""
    code = (
        "\nimport pathlib, socket\n"
        "def tried(action):\n"
        "    try:\n        action()\n"
        "    except OSError as error:\n        return error.strerror\n"
        "    return 'done'\n"
        "def reaches():\n"
        "    return {'home': tried(pathlib.Path('/home/ada/written').touch),\n"
        "            'out': tried(pathlib.Path('/home/ada/out/written').touch),\n"
        "            'cache': tried(pathlib.Path('/home/ada/.cache/sereno/written').touch),\n"
        "            'network': tried(lambda: socket.socket(socket.AF_INET).close())}\n"
    )
    ada.write("/home/ada/shop/shop_jobs.py", JOBS + code)
    ada.run("runuser", "-u", "ada", "--", "mkdir", "-p", "/home/ada/out")
    call(
        ada,
        "scheduler.add_cron_job(shop_jobs.reaches, 'confined', hour=3)\n"
        "scheduler.add_cron_job(shop_jobs.reaches, 'let_through', hour=3, network=True, home='read-only',"
        " write_paths='/home/ada/out')\n"
        "scheduler.start()",
    )

    def stats(job_id: str) -> Any:
        return json.loads(ada.run("sereno", "run", "--wait", job_id, user="ada").stdout)

    read_only, refused = "Read-only file system", "Address family not supported by protocol"
    assert stats("confined") == {
        "home": read_only,
        "out": read_only,
        "cache": "done",
        "network": refused,
    }
    assert stats("let_through") == {
        "home": read_only,
        "out": "done",
        "cache": "done",
        "network": "done",
    }


def test_where_the_kernel_gives_users_no_namespaces_their_jobs_run_and_start_says_so(
    ada: Machine,
) -> None:
    body = (
        "from sereno.declare import options\n"
        "from sereno.units import cautions\n"
        "for module in (options, cautions):\n"
        "    module.namespaces_refused = lambda: 'user.max_user_namespaces=0'\n"
        "import logging, io\nsaid = io.StringIO()\nlogging.basicConfig(stream=said)\n"
        "scheduler.add_cron_job(shop_jobs.quick, 'unconfined', hour=3)\nscheduler.start()\n"
        "result = said.getvalue()"
    )
    assert "user.max_user_namespaces=0" in str(call(ada, body))
    done = ada.run("sereno", "run", "--wait", "unconfined", user="ada")
    assert json.loads(done.stdout) == {"rows": 3}


def test_one_id_in_both_scopes_is_noticed_from_either_side(ada: Machine) -> None:
    register = (
        "import logging, io\nsaid = io.StringIO()\nlogging.basicConfig(stream=said)\n"
        "scheduler.add_cron_job(shop_jobs.quick, 'twice', hour=3)\nscheduler.start()\n"
        "result = said.getvalue()"
    )
    assert "twice" not in str(call(ada, register))
    ada.run("mkdir", "-p", "/srv/shop")
    ada.write("/srv/shop/shop_jobs.py", JOBS)
    code = f"{SCHEDULE.replace('~/shop', '/srv/shop')}\n{register}\nprint(json.dumps(result))"
    python = "/opt/sereno/current/venv/bin/python3"
    said = ada.run(python, "-c", code, env={"PYTHONPATH": "/opt/sereno/lib"}).stdout
    assert "'twice' is installed in the scope of the user ada too" in said
    assert 'scope=\\"system\\"' in said
    said = str(call(ada, register))
    assert "'twice' is installed in the system scope too" in said
    call(ada, "scheduler.start()")
    ada.run("sereno", "remove", "twice")
