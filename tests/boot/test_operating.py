"""Operating jobs on a real systemd: what became of every kind of run is shown, followed and told apart."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from shop import FINISHED, SKIPPED, STARTED, Shop

if TYPE_CHECKING:
    from machine import Machine


def listed(machine: Machine) -> dict[str, dict[str, Any]]:
    """What `list` says, by job id, of what is in the journal by now."""
    machine.run("journalctl", "--sync")
    return {job["id"]: job for job in json.loads(machine.run("sereno", "list", "--json").stdout)}


def history(machine: Machine, job_id: str) -> list[dict[str, Any]]:
    machine.run("journalctl", "--sync")
    told = json.loads(machine.run("sereno", "history", job_id, "--json").stdout)
    assert told["runs"] == len(told["history"])
    runs: list[dict[str, Any]] = told["history"]
    return runs


def test_every_way_in_which_a_run_ends_is_shown_as_what_it_is(shop: Shop) -> None:
    machine = shop.machine
    machine.run("useradd", "--system", "missing")
    shop.install(
        "add_interval_job(shop_jobs.quick, 'well', hours=1)",
        "add_interval_job(shop_jobs.raises, 'raised', hours=1)",
        "add_interval_job(shop_jobs.killed, 'killed', hours=1)",
        "add_interval_job(shop_jobs.endless, 'too_long', hours=1, timeout=1)",
        "add_interval_job(shop_jobs.quick, 'nobody', hours=1, user='missing')",
        "add_interval_job(shop_jobs.quick, 'never_ran', hours=1)",
        "add_interval_job(shop_jobs.endless, 'going', hours=1)",
    )
    machine.run("userdel", "missing")
    for job_id in ("well", "raised", "killed", "too_long", "nobody"):
        machine.run("systemctl", "start", f"sereno@{job_id}.service", check=False)
    machine.run("systemctl", "start", "--no-block", "sereno@going.service")
    machine.wait_for(lambda: shop.runs("going", STARTED), what="the run that goes on")
    jobs = listed(machine)
    shown = {
        job_id: (jobs[job_id]["last_status"], jobs[job_id]["failing"], jobs[job_id]["last_error"])
        for job_id in ("well", "raised", "killed", "too_long", "nobody", "going")
    }  # fmt: skip
    raised, too_long = shown["raised"][2], shown["too_long"][2]
    assert "over its time limit: RunInterrupted: SIGTERM (shop_jobs.py:" in too_long
    assert "ValueError: no such table: ventas (shop_jobs.py:" in raised
    assert shown == {
        "well": ("success", False, None),
        "raised": ("failed", True, raised),
        "killed": ("failed", True, "killed by SIGKILL"),
        "too_long": ("failed", True, too_long),
        "nobody": ("failed", True, "its user is missing (status 217)"),
        "going": ("running", False, None),
    }
    assert (jobs["never_ran"]["last_status"], jobs["going"]["running"]) == (None, True)
    assert jobs["too_long"]["last_result"] == "timeout"
    # The record counts from the function's first line, the limit from systemd's start of the process.
    assert 0 < jobs["too_long"]["last_duration_s"] < 5
    began, ended = "ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic"
    main_process = machine.show("sereno@too_long.service", began, ended)
    assert 900_000 < int(main_process[ended]) - int(main_process[began]) < 5_000_000
    for job_id, (status, _, error) in shown.items():
        (run,) = history(machine, job_id)
        assert (run["status"], run["error"]) == (status, error)
        text = machine.run("sereno", "status", job_id).stdout
        assert f": {status}" in text
        assert error is None or error in text
    page = machine.run("sereno", "report", "-o", "-").stdout
    for job_id, (status, _, _) in shown.items():
        picture = rf"Runs of {job_id} over time</title>\s*<desc[^>]*>1 {status}, from "
        assert re.search(picture, page), job_id
    machine.run("systemctl", "stop", "sereno@going.service", check=False)
    machine.wait_for(
        lambda: history(machine, "going")[0]["status"] != "running", what="the end of the run"
    )
    before = listed(machine)
    machine.run("journalctl", "--rotate")
    machine.run("journalctl", "--vacuum-size=1")
    after = listed(machine)
    assert history(machine, "well") == []
    for job_id, job in before.items():
        assert {**after[job_id], "last_stats": None} == {
            **job,
            "last_stats": None,
            "next_run": after[job_id]["next_run"],
        }
    kept = machine.run("stat", "-c", "%a %U %G", "/var/lib/sereno/last-runs.json").stdout
    assert kept.split() == ["640", "root", "systemd-journal"]


def test_a_job_that_succeeds_again_is_failing_no_longer(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.raises, 'mended', hours=1)")
    shop.machine.run("systemctl", "start", "sereno@mended.service", check=False)
    assert listed(shop.machine)["mended"]["failing"] is True
    shop.install("add_interval_job(shop_jobs.quick, 'mended', hours=1)")
    shop.machine.run("sereno", "run", "mended", "--wait")
    assert listed(shop.machine)["mended"]["failing"] is False
    assert [run["status"] for run in history(shop.machine, "mended")] == ["failed", "success"]


def test_a_skipped_run_and_a_paused_job_are_shown_as_that(shop: Shop) -> None:
    machine = shop.machine
    shop.install(
        "add_cron_job(shop_jobs.quick, 'late', hour=0, minute=0, timezone='UTC', misfire_grace=1)"
    )
    machine.run("systemctl", "stop", "sereno@late.timer")
    machine.run("touch", "--date=3 days ago", "/var/lib/systemd/timers/stamp-sereno@late.timer")
    machine.run("systemctl", "start", "sereno@late.timer")
    machine.wait_for(lambda: shop.runs("late", SKIPPED), what="the record")
    job = listed(machine)["late"]
    assert (job["last_status"], job["failing"], job["paused"]) == ("skipped", False, False)
    machine.run("sereno", "pause", "late")
    job = listed(machine)["late"]
    assert (job["paused"], job["active"], job["next_run"]) == (True, False, None)
    assert "sereno resume late" in machine.run("sereno", "status", "late").stdout
    machine.run("sereno", "resume", "late")
    assert listed(machine)["late"]["next_run"] is not None
    assert len(shop.runs("late", FINISHED)) == 0


def test_a_run_is_followed_while_it_goes_and_its_status_is_the_commands(shop: Shop) -> None:
    machine = shop.machine
    shop.install(
        "add_interval_job(shop_jobs.slow, 'slow_one', hours=1)",
        "add_interval_job(shop_jobs.raises, 'broken', hours=1)",
    )
    stamped = (
        'sereno run slow_one --wait 2>&1 | while read -r line; do echo "$(date +%s%3N) $line"; done'
    )
    lines = machine.run("sh", "-c", stamped).stdout.splitlines()
    times = {
        word: int(line.split()[0]) for line in lines for word in ("iniciada", "terminada") if word in line
    }  # fmt: skip
    assert times["terminada"] - times["iniciada"] > 2000
    assert json.loads(lines[-1].partition(" ")[2]) == {"slept": 3}
    done = machine.run("sereno", "run", "broken", "--wait", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no such table: ventas" in done.stderr


def test_a_run_that_its_successor_follows_at_once_is_the_one_that_was_waited_for(
    shop: Shop,
) -> None:
    shop.install("add_interval_job(shop_jobs.slow_by_name, 'overrunning', seconds=1)")
    shop.machine.wait_for(lambda: shop.runs("overrunning"), what="the first run")
    first = shop.runs("overrunning")[0]["SERENO_RUN"]
    stats = json.loads(shop.machine.run("sereno", "run", "overrunning", "--wait").stdout)
    assert stats == {"run": first}
    shop.machine.wait_for(lambda: len(shop.runs("overrunning")) == 2, what="its successor")
    shop.install("add_interval_job(shop_jobs.quick, 'overrunning', hours=1)")


def test_a_timer_that_does_not_run_is_shown_as_that_with_what_starts_it(shop: Shop) -> None:
    machine = shop.machine
    shop.install(
        "add_interval_job(shop_jobs.quick, 'broken_off', seconds=1)",
        "add_interval_job(shop_jobs.quick, 'halted', hours=1)",
    )
    drop_in = "/etc/systemd/system/sereno@broken_off.service.d/typo.conf"
    machine.write(drop_in, "[Service]\nType=onshot\nExecStart=\n")
    machine.run("systemctl", "daemon-reload")
    timer = "sereno@broken_off.timer"
    machine.wait_for(
        lambda: machine.show(timer, "ActiveState") == {"ActiveState": "failed"},
        what="the failure of the timer",
    )
    machine.run("systemctl", "stop", "sereno@halted.timer")
    jobs = listed(machine)
    for job_id in ("broken_off", "halted"):
        assert (jobs[job_id]["active"], jobs[job_id]["next_run"]) == (False, None)
    active = "result = {job['id']: job['active'] for job in scheduler.get_jobs()}"
    assert shop.call(active) == {"broken_off": False, "halted": False}
    hint = machine.run("sereno", "status", "broken_off").stdout.splitlines()[-1]
    assert "sereno doctor says why" in hint
    assert timer in machine.run("sereno", "doctor", check=False).stdout
    hint = machine.run("sereno", "status", "halted").stdout.splitlines()[-1]
    machine.run(*hint.rpartition(": ")[2].split())
    assert listed(machine)["halted"]["active"] is True
    machine.run("rm", drop_in)
    machine.run("systemctl", "daemon-reload")


def test_ctrl_c_leaves_the_run_alone(shop: Shop) -> None:
    machine = shop.machine
    shop.install("add_interval_job(shop_jobs.slow, 'left_alone', hours=1)")
    done = machine.run(
        *("timeout", "--preserve-status", "--signal=INT", "1.5"),
        *("sereno", "run", "left_alone", "--wait"),
        check=False,
    )
    assert done.returncode == 130
    assert "the run goes on: sereno logs -f left_alone" in done.stderr
    machine.wait_for(lambda: shop.runs("left_alone", FINISHED), what="the end of the run")
    assert "started left_alone" in machine.run("sereno", "run", "left_alone").stdout


def test_logs_have_what_a_job_said_and_what_systemd_said_of_it_and_nothing_else(shop: Shop) -> None:
    machine = shop.machine
    shop.install(
        "add_interval_job(shop_jobs.prints, 'talks', hours=1)",
        "add_interval_job(shop_jobs.killed, 'talks_not', hours=1)",
    )
    for job_id in ("talks", "talks", "talks_not"):
        machine.run("systemctl", "start", f"sereno@{job_id}.service", check=False)
    machine.run("journalctl", "--sync")
    text = machine.run("sereno", "logs", "talks").stdout
    assert text.count("printed by the job") == 2
    assert "talks_not" not in text
    first, second = (run["run"] for run in history(machine, "talks"))
    text = machine.run("sereno", "logs", "talks", "--run", second[:12]).stdout
    assert text.count("printed by the job") == 1
    records = machine.run("sereno", "logs", "talks", "--run", first, "--json").stdout.splitlines()
    assert {
        record.get("SERENO_RUN") or record.get("INVOCATION_ID") or record["_SYSTEMD_INVOCATION_ID"]
        for record in map(json.loads, records)
    } == {first}
    assert "Failed with result 'signal'" in machine.run("sereno", "logs", "talks_not").stdout


def test_a_record_that_another_user_made_up_changes_nothing(shop: Shop) -> None:
    machine = shop.machine
    shop.install("add_interval_job(shop_jobs.quick, 'trusted', hours=1)")
    machine.run("sereno", "run", "trusted", "--wait")
    machine.run("useradd", "mallory", check=False)
    forged = (
        "import time\nfrom systemd import journal\n"
        "for kind in ('c8db476b7d964ab2bd2d7abc51d7b261', 'd9b373ed55a64feb8242e02dbe79a49c'):\n"
        "    journal.send('x', SERENO_JOB='trusted', UNIT='sereno@trusted.service', MESSAGE_ID=kind,\n"
        "        SERENO_RUN='f' * 32, SERENO_STATUS='failed', UNIT_RESULT='timeout')\n"
        "time.sleep(1)\n"
    )
    machine.run_unit("python3", "-c", forged, user="mallory")
    assert listed(machine)["trusted"]["last_status"] == "success"
    assert [run["status"] for run in history(machine, "trusted")] == ["success"]


def test_a_run_that_a_power_failure_cut_off_is_lost_and_the_job_failing(shop: Shop) -> None:
    machine = shop.machine
    shop.install("add_interval_job(shop_jobs.endless, 'cut_off', hours=100)")
    machine.run("systemctl", "start", "--no-block", "sereno@cut_off.service")
    machine.wait_for(lambda: shop.runs("cut_off", STARTED), what="its start")
    machine.crash()
    machine.start()
    job = listed(machine)["cut_off"]
    assert (job["last_status"], job["failing"], job["running"]) == ("lost", True, False)
    assert "the machine went down" in machine.run("sereno", "status", "cut_off").stdout
