"""Limits, retries, inputs and order of runs in a real systemd, and how a run that is stopped ends."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from shop import FAILED, FINISHED, INTERRUPTED, SKIPPED, STARTED, TRY_FAILED, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine import Machine

pytestmark = pytest.mark.waiting

JOBS = """
import asyncio, ctypes, os, time
from sereno import credential

tries = 0

def fails_twice():
    global tries
    tries += 1
    if tries < 3:
        raise ConnectionError(f"no route {tries}")
    return {"rows": 3}

def fails():
    raise ConnectionError("no route")

def leaves():
    os._exit(0)

def fails_on_demand():
    time.sleep(0.3)
    if os.path.exists("/etc/shop-fails"):
        raise ConnectionError("no route")

def quick():
    pass

def waits():
    try:
        print("waiting", flush=True)
        while True:
            try:
                time.sleep(600)
            except Exception:
                print("taken for a failed request")
    finally:
        print("cleaned up")

async def waits_async():
    try:
        print("waiting", flush=True)
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0)
        print("cleaned up")

def hears_nothing():
    while True:
        try:
            print("waiting", flush=True)
            time.sleep(600)
        except BaseException:
            print("ignored", flush=True)

def tells(**given):
    return {"given": given, "variables": {n: v for n, v in os.environ.items() if n.startswith("SHOP_")}}

def uses_its_secret():
    text = credential("token")
    path = os.path.join(os.environ["CREDENTIALS_DIRECTORY"], "token")
    return {
        "is_right": text == "sésame4711",
        "uid": os.getuid(),
        "in_environment": any("same4711" in value for value in os.environ.values()),
        "mode": oct(os.stat(path).st_mode & 0o777),
    }

def priorities():
    # ioprio_get(2) of this process; the class is in its upper bits.
    return {"nice": os.getpriority(os.PRIO_PROCESS, 0), "io_class": ctypes.CDLL(None).syscall(252, 1, 0) >> 13}

def takes_memory():
    data = bytearray(200 << 20)
    return {"taken": len(data)}
"""


@pytest.fixture
def jobs(shop: Shop) -> Shop:
    """The shop with the functions of these tests as `jobs`."""
    shop.machine.write("/srv/shop/limit_jobs.py", JOBS)
    return shop


def install(shop: Shop, *registrations: str) -> None:
    shop.install(*registrations, functions="limit_jobs")


def service(job_id: str) -> str:
    return f"sereno@{job_id}.service"


def run_stats(shop: Shop, job_id: str) -> Any:
    return json.loads(shop.machine.run("sereno", "run", "--wait", job_id).stdout)


def start_and_wait(shop: Shop, job_id: str) -> None:
    shop.machine.run("systemctl", "start", "--no-block", service(job_id))
    shop.machine.wait_for(
        lambda: shop.machine.journal(f"SERENO_JOB={job_id}", "MESSAGE=waiting"),
        what=f"the start of {job_id}",
    )


# --- retries ----------------------------------------------------------------------------------------------------------


def test_all_tries_are_one_run_with_one_result(jobs: Shop) -> None:
    install(
        jobs,
        "add_interval_job(jobs.fails_twice, 'twice', hours=1, retries=5, retry_delay=0.1)",
    )
    assert run_stats(jobs, "twice") == {"rows": 3}
    first, second = jobs.runs("twice", TRY_FAILED)
    assert first["MESSAGE"].startswith(
        "Tarea twice: intento 1 de 6 fallido, el siguiente en 0.1s: ConnectionError: no route 1 ("
    )
    assert "el siguiente en 0.2s" in second["MESSAGE"]
    assert (second["PRIORITY"], second["SERENO_TRY"]) == ("4", "2")
    assert "Traceback" in second["EXCEPTION_TEXT"]
    (closing,) = jobs.runs("twice", FINISHED)
    assert (closing["SERENO_STATUS"], closing["SERENO_TRIES"]) == ("success", "3")
    assert 300 < float(closing["SERENO_DURATION_MS"]) < 5000
    assert " y 3 intentos: {" in closing["MESSAGE"]
    assert {record["SERENO_RUN"] for record in (first, second)} == {closing["SERENO_RUN"]}
    assert len(jobs.runs("twice", STARTED)) == 1


def test_a_job_that_keeps_failing_fails_each_run_and_no_elapse_is_refused(jobs: Shop) -> None:
    install(
        jobs,
        "add_cron_job(jobs.fails, 'keeps_failing', second='*/2', retries=2, retry_delay=0.05)",
    )
    # The default start limit, 5 starts in 10 s, would have refused the sixth of these starts.
    failed = jobs.machine.wait_for(
        lambda: len(found := jobs.runs("keeps_failing", FAILED)) >= 7 and found,
        what="seven failed runs",
    )
    assert {record["SERENO_TRIES"] for record in failed} == {"3"}
    tries = Counter(record["SERENO_RUN"] for record in jobs.runs("keeps_failing", TRY_FAILED))
    assert {tries[record["SERENO_RUN"]] for record in failed} == {2}
    jobs.call("scheduler.pause_job('keeps_failing')")
    # The run under way has no result yet.
    jobs.machine.wait_for(
        lambda: (
            jobs.machine.show(service("keeps_failing"), "ActiveState") == {"ActiveState": "failed"}
        ),
        what="the end of the last run",
    )
    shown = jobs.machine.show(service("keeps_failing"), "Result", "NRestarts")
    assert shown == {"Result": "exit-code", "NRestarts": "0"}


def test_a_run_that_waits_for_its_next_try_is_stopped_at_once(jobs: Shop) -> None:
    install(
        jobs, "add_interval_job(jobs.fails, 'patient', hours=1, retries=3, retry_delay='10min')"
    )
    jobs.machine.run("systemctl", "start", "--no-block", service("patient"))
    jobs.machine.wait_for(lambda: jobs.runs("patient", TRY_FAILED), what="the first failed try")
    jobs.machine.run("systemctl", "stop", service("patient"))
    (closing,) = jobs.runs("patient", INTERRUPTED)
    assert closing["SERENO_TRIES"] == "1"
    assert "no route" in closing["SERENO_ERROR"]
    assert jobs.runs("patient", FAILED) == []


# --- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["waits", "waits_async"])
def test_a_run_that_an_administrator_stops_cleans_up_and_is_interrupted_not_failed(
    jobs: Shop, function: str
) -> None:
    job_id = f"stopped_{function}"
    install(jobs, f"add_interval_job(jobs.{function}, {job_id!r}, hours=1)")
    start_and_wait(jobs, job_id)
    jobs.machine.run("systemctl", "stop", service(job_id))
    messages = [record["MESSAGE"] for record in jobs.machine.journal(f"SERENO_JOB={job_id}")]
    assert "cleaned up" in messages
    assert "taken for a failed request" not in messages
    (closing,) = jobs.runs(job_id, INTERRUPTED)
    assert closing["MESSAGE"].startswith(f"Tarea {job_id} interrumpida tras ")
    assert (closing["PRIORITY"], closing["SERENO_STATUS"]) == ("4", "interrupted")
    if function == "waits":
        assert "limit_jobs.py:" in closing["MESSAGE"]
        assert ", waits)" in closing["MESSAGE"]
    shown = jobs.machine.show(service(job_id), "ActiveState", "Result", "ExecMainStatus")
    assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "143"}
    status = jobs.call(f"result = scheduler.get_job_status({job_id!r})")
    assert status["last_result"] == "interrupted"


def test_whoever_waits_for_a_run_learns_that_it_was_stopped(jobs: Shop) -> None:
    install(jobs, "add_interval_job(jobs.waits, 'waited_for', hours=1)")
    jobs.machine.run(
        "systemd-run", "--quiet", "--on-active=2s", "--timer-property=AccuracySec=100ms",
        "systemctl", "stop", service("waited_for"),
    )  # fmt: skip
    done = jobs.machine.run("sereno", "run", "--wait", "waited_for", check=False)
    assert done.returncode == 143
    assert "Tarea waited_for interrumpida tras " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_hears_nothing_is_ended_ten_seconds_later(jobs: Shop) -> None:
    install(jobs, "add_interval_job(jobs.hears_nothing, 'deaf', hours=1)")
    start_and_wait(jobs, "deaf")
    jobs.machine.run("systemctl", "stop", service("deaf"))
    messages = [record["MESSAGE"] for record in jobs.machine.journal("SERENO_JOB=deaf")]
    assert messages.count("ignored") == 1
    assert len(jobs.runs("deaf", INTERRUPTED)) == 1
    shown = jobs.machine.show(service("deaf"), "Result", "ExecMainStatus")
    assert shown == {"Result": "success", "ExecMainStatus": "143"}


@pytest.mark.parametrize("function", ["waits", "waits_async"])
def test_a_run_over_its_time_limit_cleans_up_and_has_failed(jobs: Shop, function: str) -> None:
    job_id = f"limited_{function}"
    install(jobs, f"add_interval_job(jobs.{function}, {job_id!r}, hours=1, timeout='2s')")
    done = jobs.machine.run("systemctl", "start", service(job_id), check=False)
    assert done.returncode != 0
    assert jobs.machine.show(service(job_id), "Result") == {"Result": "timeout"}
    messages = [record["MESSAGE"] for record in jobs.machine.journal(f"SERENO_JOB={job_id}")]
    assert "cleaned up" in messages
    (closing,) = jobs.runs(job_id, FAILED)
    assert closing["SERENO_ERROR"].startswith("over its time limit: ")
    assert "límite de tiempo superado: " in closing["MESSAGE"]
    assert "Traceback" in closing["EXCEPTION_TEXT"]
    assert jobs.runs(job_id, INTERRUPTED) == []


def test_a_signal_that_the_manager_did_not_send_makes_a_failed_unit(jobs: Shop) -> None:
    install(jobs, "add_interval_job(jobs.waits, 'shot', hours=1)")
    start_and_wait(jobs, "shot")
    jobs.machine.run("systemctl", "kill", "--signal=TERM", service("shot"))
    jobs.machine.wait_for(lambda: jobs.runs("shot", INTERRUPTED), what="the closing record")
    jobs.machine.wait_for(
        lambda: jobs.machine.show(service("shot"), "Result") == {"Result": "exit-code"},
        what="a failed unit",
    )


def test_a_run_that_a_shutdown_stops_leaves_its_record(jobs: Shop) -> None:
    install(jobs, "add_interval_job(jobs.waits, 'at_shutdown', hours=1)")
    start_and_wait(jobs, "at_shutdown")
    jobs.machine.reboot()
    (closing,) = jobs.runs("at_shutdown", INTERRUPTED)
    assert closing["SERENO_STATUS"] == "interrupted"


# --- inputs -----------------------------------------------------------------------------------------------------------

NASTY = "a b\t'\"\\ $HOME ${HOME} %i %% `id` \n#;ñ=€ \\n"


def test_arguments_and_variables_arrive_as_they_were_given(jobs: Shop) -> None:
    kwargs = {"text": NASTY + "\x7f\x01", "deep": {"list": [1, 2.5, None, True, NASTY]}}
    variables = {"SHOP_NASTY": NASTY, "SHOP_EMPTY": "", "SHOP_PLAIN": "plain"}
    install(
        jobs,
        f"add_interval_job(jobs.tells, 'told', hours=1, kwargs={kwargs!r}, environment={variables!r})",
    )
    assert run_stats(jobs, "told") == {"given": kwargs, "variables": variables}
    assert jobs.call("result = scheduler.get_job_status('told')")["kwargs"] == kwargs
    install(jobs, "add_interval_job(jobs.tells, 'told', hours=1)")
    assert run_stats(jobs, "told") == {"given": {}, "variables": {}}


@pytest.fixture
def secret(machine: Machine) -> Iterator[str]:
    # Searched for as "same4711", which neither an escape changes nor the digits of a time can be.
    machine.write("/etc/shop-token", "sésame4711\n", mode=0o600)
    yield "/etc/shop-token"
    machine.run("rm", "/etc/shop-token")


def test_a_secret_reaches_the_run_and_is_in_neither_unit_nor_environment(
    jobs: Shop, secret: str
) -> None:
    install(
        jobs,
        f"add_interval_job(jobs.uses_its_secret, 'secretive', hours=1, credentials={{'token': {secret!r}}})",
    )
    stats = run_stats(jobs, "secretive")
    assert stats == {
        "is_right": True,
        "uid": int(jobs.machine.run("id", "-u", "sereno").stdout),
        "in_environment": False,
        "mode": stats["mode"],
    }
    assert stats["mode"] in ("0o400", "0o440")
    for words in (("cat",), ("show",)):
        assert "same4711" not in jobs.machine.run("systemctl", *words, service("secretive")).stdout
    jobs.machine.run("mv", secret, f"{secret}.away")
    assert jobs.machine.run("sereno", "run", "--wait", "secretive", check=False).returncode == 1
    shown = jobs.machine.show(service("secretive"), "Result", "ExecMainStatus")
    assert shown == {"Result": "exit-code", "ExecMainStatus": "243"}
    jobs.machine.run("mv", f"{secret}.away", secret)


def test_a_user_that_the_machine_does_not_have_is_refused_and_nothing_changes(jobs: Shop) -> None:
    body = """
    import limit_jobs as jobs
    from sereno.errors import InvalidJob
    scheduler.add_interval_job(jobs.quick, 'nobodys', hours=1, user={!r})
    try:
        scheduler.start()
    except InvalidJob as error:
        result = str(error)
    """
    for user in ("shopkeeperr", "64999"):
        assert "is not a user of this machine" in jobs.call(body.format(user))
    assert not jobs.machine.exists("/etc/systemd/system/sereno@nobodys.timer")
    assert jobs.call(body.format("65534")) is None


# --- limits -----------------------------------------------------------------------------------------------------------


def test_priorities_act_on_the_run(jobs: Shop) -> None:
    install(
        jobs,
        "add_interval_job(jobs.priorities, 'humble', hours=1, nice=7, io_class='idle')",
        "add_interval_job(jobs.priorities, 'proud', hours=1, nice=-5, io_class='best-effort')",
    )
    assert run_stats(jobs, "humble") == {"nice": 7, "io_class": 3}
    assert run_stats(jobs, "proud") == {"nice": -5, "io_class": 2}


def test_memory_and_processor_limits_are_set_and_the_first_acts_where_its_controller_is(
    jobs: Shop,
) -> None:
    install(
        jobs,
        "add_interval_job(jobs.takes_memory, 'greedy', hours=1, memory_max='64M', cpu_quota='50%')",
    )
    shown = jobs.machine.show(service("greedy"), "MemoryMax", "CPUQuotaPerSecUSec")
    assert shown == {"MemoryMax": str(64 << 20), "CPUQuotaPerSecUSec": "500ms"}
    done = jobs.machine.run("sereno", "run", "--wait", "greedy", check=False)
    result = jobs.machine.show(service("greedy"), "Result")["Result"]
    if "memory" in jobs.machine.read("/sys/fs/cgroup/cgroup.controllers").split():
        assert (done.returncode, result) == (1, "oom-kill")
    else:
        # The controllers are on version 1 of the host and not the container's: set, and without effect.
        assert (done.returncode, result) == (0, "success")


def test_changed_limits_take_effect_with_the_next_start_and_touch_no_timer(jobs: Shop) -> None:
    install(jobs, "add_interval_job(jobs.priorities, 'changing', hours=1, nice=3)")
    before = jobs.next_elapse("changing")
    install(jobs, "add_interval_job(jobs.priorities, 'changing', hours=1, nice=4)")
    assert jobs.next_elapse("changing") == before
    assert run_stats(jobs, "changing")["nice"] == 4


# --- order ------------------------------------------------------------------------------------------------------------


def test_a_job_waits_for_the_run_of_the_job_it_comes_after(jobs: Shop) -> None:
    install(
        jobs,
        "add_cron_job(jobs.quick, 'upload', second='*/3', after='backup')",
        "add_cron_job(jobs.fails_on_demand, 'backup', second='*/3')",
    )
    jobs.machine.wait_for(lambda: len(jobs.runs("upload", FINISHED)) >= 3, what="three uploads")
    jobs.machine.run("systemctl", "stop", "sereno-app@shop.target")
    order = [
        (record["SERENO_JOB"], record["MESSAGE_ID"] == STARTED.partition("=")[2])
        for record in jobs.machine.journal(
            "SERENO_JOB=upload", "SERENO_JOB=backup", STARTED, FINISHED
        )
    ]
    # On a busy machine the elapse of a job that still runs is left out.
    assert order[0] == ("backup", True)
    backups = 0
    for job_id, begins in order:
        if job_id == "backup":
            backups += 1 if begins else -1
        assert not (job_id == "upload" and begins and backups), order


@pytest.mark.every_systemd
def test_only_if_success_leaves_a_run_out_unless_the_other_jobs_latest_run_succeeded(
    jobs: Shop,
) -> None:
    machine = jobs.machine
    install(
        jobs,
        "add_interval_job(jobs.fails_on_demand, 'dump', hours=1)",
        "add_cron_job(jobs.quick, 'send', second='*/4', after='dump', only_if_success=True)",
        "add_cron_job(jobs.quick, 'tell', second='*/4', after=['send'], only_if_success=True)",
        "add_interval_job(jobs.leaves, 'left', hours=1)",
        "add_cron_job(jobs.quick, 'goes_by_left', second='*/4', after='left', only_if_success=True)",
    )

    def latest(job_id: str, says: str) -> None:
        def said() -> bool:
            # systemd's own words about the unit have the field too, from 257 on.
            own = [
                record["MESSAGE"]
                for record in machine.journal(f"SERENO_JOB={job_id}")
                if record["MESSAGE"].startswith("Tarea ")
            ]
            return bool(own) and says in own[-1]

        machine.wait_for(said, what=f"{says!r} from {job_id}")

    latest("send", "Tarea send omitida: dump no se ha ejecutado desde el arranque")
    latest("tell", "Tarea tell omitida: send fue omitida")
    (skipped, *_) = jobs.runs("send", SKIPPED)
    assert (skipped["SERENO_STATUS"], skipped["SERENO_AFTER"]) == ("skipped", "dump")
    expected = {"Result": "success", "ExecMainStatus": "77"}
    machine.wait_for(  # between two of its runs
        lambda: machine.show(service("send"), "Result", "ExecMainStatus") == expected,
        what="the status of a skipped run",
    )
    # By hand a job is run whatever the other one did.
    machine.run("systemctl", "stop", "sereno@send.timer")
    machine.run("sereno", "run", "--wait", "send")
    machine.run("systemctl", "start", "sereno@send.timer")
    machine.run("sereno", "run", "--wait", "dump")
    latest("send", "Tarea send terminada")
    latest("tell", "Tarea tell terminada")
    # The manager has its last word; of one that leaves without, a good status is none.
    told = ("Result", "ExecMainStatus", "StatusText")
    machine.run("systemctl", "start", service("left"))
    for job_id, word in (("dump", "success"), ("left", "running")):
        assert machine.show(service(job_id), *told) == dict(
            zip(told, ("success", "0", word), strict=True)
        )
    latest("goes_by_left", "Tarea goes_by_left omitida: left no dejó registro de su fin")
    machine.write("/etc/shop-fails", "")
    try:
        assert machine.run("sereno", "run", "--wait", "dump", check=False).returncode == 1
        latest("send", "Tarea send omitida: dump falló (exit-code)")
        machine.run("systemctl", "reset-failed")
        latest("send", "Tarea send omitida: dump terminó con estado 1")
    finally:
        machine.run("rm", "/etc/shop-fails")


def test_a_job_that_nobody_knows_cannot_be_waited_for(jobs: Shop) -> None:
    body = """
    import limit_jobs as jobs
    from sereno.errors import InvalidJob
    scheduler.add_interval_job(jobs.quick, 'lonely', hours=1, after='never_was')
    try:
        scheduler.start()
    except InvalidJob as error:
        result = str(error)
    """
    assert "'lonely' comes after 'never_was', and no job of that id" in jobs.call(body)
    assert not jobs.machine.exists("/etc/systemd/system/sereno@lonely.timer")
