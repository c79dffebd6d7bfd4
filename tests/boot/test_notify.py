"""Being told: one message a failure by every handler, recoveries, alerts, and handlers that fail themselves."""

from __future__ import annotations

import email
import email.policy
import json
import re
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from shop import FAILED, FINISHED, Shop
from sink import DOWN, HTTP_PORT, Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine import Machine

DELIVERED = "MESSAGE_ID=b82a1f12aa2447cf978f113b9238b1b8"
NOT_DELIVERED = "MESSAGE_ID=2f34b1d9ea8d4da596dc0aa613190056"
HELD_BACK = "MESSAGE_ID=b51a5728d6554f62a9dbc541e2f79cf3"
CONFIG = "/etc/sereno/notify.toml"
WEB = f"http://127.0.0.1:{HTTP_PORT}"
HOOK = f"""
[[handler]]
type = "webhook"
url = "{WEB}/hook"
headers = {{ Authorization = "Bearer geheim" }}
"""
HANDLERS = f"""{HOOK}
[[handler]]
type = "mail"
to = ["ops@example.org", "night@example.org"]

[[handler]]
type = "command"
command = ["/srv/page", "--urgent"]
"""
# The command's own log: what it gets on standard input and in its environment, and who runs it.
PAGE = f"""#!/usr/bin/python3
import json, os, sys, urllib.request
seen = {{name: value for name, value in os.environ.items() if name.startswith(("SERENO_", "CRED", "MONITOR"))}}
data = json.dumps({{"argv": sys.argv[1:], "stdin": json.load(sys.stdin), "environ": seen, "uid": os.getuid()}})
urllib.request.urlopen(urllib.request.Request("{WEB}/page", data.encode(), method="POST"))
"""
# Fails or not as the file says, which the test writes.
FLAKY = """

def flaky():
    import logging
    if open("/srv/shop/mood").read() == "bad":
        logging.getLogger().warning("about to\\x1b[31m break")
        raise ValueError("no such table:\\r\\nBcc: all@example.org")
    return {"rows": 1}

def warns():
    import logging
    logging.getLogger().warning("almost full", extra={"SERENO_ALERT": "disk"})

def warns_early():
    import logging
    warns()
    for number in range(600):
        logging.getLogger().info("row %d", number)
"""


@pytest.fixture(scope="module")
def sink(machine: Machine) -> Sink:
    machine.write("/srv/page", PAGE, 0o755)
    return Sink(machine)


@pytest.fixture
def office(machine: Machine, sink: Sink, shop: Shop) -> Iterator[Office]:
    office = Office(machine, sink, shop)
    yield office
    office.close()


class Office:
    """The machine, its handlers, and the jobs that they are told of."""

    def __init__(self, machine: Machine, sink: Sink, shop: Shop) -> None:
        self.machine, self.sink, self.shop = machine, sink, shop
        text = machine.read("/srv/shop/shop_jobs.py")
        if FLAKY not in text:
            machine.write("/srv/shop/shop_jobs.py", text + FLAKY)
        sink.forget()
        # What others left failed here is nothing to tell.
        machine.run("systemctl", "reset-failed")

    def configure(self, text: str) -> None:
        self.machine.write(CONFIG, text, 0o600)

    def install(self, job_id: str, function: str = "flaky", **options: Any) -> None:
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        self.shop.install(f"add_interval_job(shop_jobs.{function}, {job_id!r}, hours=1{given})")

    def run(self, job_id: str, mood: str = "good") -> None:
        """One run, and whatever handling it causes."""
        self.machine.write("/srv/shop/mood", mood)
        self.machine.run("systemctl", "start", f"sereno@{job_id}.service", check=False)
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is left to handle: no handler is at work or about to be, and no datagram waits."""
        units = ("sereno-failed.service", "sereno-notify.service")
        ask = ("systemctl", "show", "--property=ActiveState,Job", "--", *units)
        quiet = {"ActiveState=inactive", "ActiveState=failed", "Job=", "Job=0"}

        def idle() -> bool:
            return {*self.machine.run(*ask).stdout.split()} <= quiet

        # Twice: between a datagram and the service that it starts, nothing shows.
        for _ in range(2):
            self.machine.wait_for(idle, what="the end of the handlers")

    def hooks(self) -> list[dict[str, Any]]:
        """What the webhook was told."""
        return [json.loads(entry["body"]) for entry in self.sink.got("http", "/hook")]

    def records(self, job_id: str, kind: str) -> list[dict[str, Any]]:
        return self.machine.journal(f"SERENO_JOB={job_id}", kind)

    def close(self) -> None:
        self.machine.run("rm", "-rf", "/etc/sereno", "/var/lib/sereno/notify", DOWN)
        self.machine.run("systemctl", "reset-failed")


def test_a_failure_is_told_once_by_every_handler_with_all_that_is_known(office: Office) -> None:
    office.configure(HANDLERS)
    office.install("sync")
    office.run("sync", "bad")
    (hook,) = office.hooks()
    (closing,) = office.shop.runs("sync", FAILED)
    assert hook["event"] == "failure"
    assert (hook["job"], hook["run"]) == ("sync", closing["SERENO_RUN"])
    assert (hook["result"], hook["exit_code"], hook["exit_status"]) == ("exit-code", "exited", "1")
    assert hook["error"].startswith(
        "ValueError: no such table: Bcc: all@example.org (shop_jobs.py:"
    )
    assert any("Tarea sync iniciada" in line for line in hook["log"])
    assert any("Failed with result" in line for line in hook["log"])
    (request,) = office.sink.got("http", "/hook")
    assert request["headers"]["Authorization"] == "Bearer geheim"
    assert request["headers"]["Content-Type"] == "application/json"

    (sent,) = office.sink.got("mail")
    assert sent["to"] == ["ops@example.org", "night@example.org"]
    mail = email.message_from_string(sent["body"], policy=email.policy.default)
    assert mail["Subject"] == hook["subject"]
    assert "sync fallida (exit-code, 1)" in mail["Subject"]
    assert mail["From"] == "sereno-notify@localhost"
    assert mail["Bcc"] is None
    body = mail.get_content()
    assert r"about to\x1b[31m break" in body
    assert closing["SERENO_RUN"] in body

    (page,) = [json.loads(entry["body"]) for entry in office.sink.got("http", "/page")]
    assert page["argv"] == ["--urgent"]
    assert page["stdin"] == hook
    assert page["environ"]["SERENO_JOB"] == "sync"
    assert page["environ"]["SERENO_EVENT"] == "failure"
    assert not any(
        "geheim" in value or name.startswith("CRED") for name, value in page["environ"].items()
    )
    assert page["uid"] == int(office.machine.run("id", "-u", "sereno-notify").stdout)

    delivered = office.records("sync", DELIVERED)
    assert {record["SERENO_HANDLER"] for record in delivered} == {"webhook", "mail", "command"}
    assert {record["SYSLOG_IDENTIFIER"] for record in delivered} == {"sereno-notify"}


def test_a_run_that_its_time_limit_kills_is_told(office: Office) -> None:
    office.configure(HANDLERS)
    office.install("stuck", "endless", timeout=1)
    office.run("stuck")
    (hook,) = office.hooks()
    assert hook["result"] == "timeout"
    assert "timeout" in hook["subject"]
    assert len(office.sink.got("mail")) == 1


def test_a_run_that_is_killed_is_told(office: Office) -> None:
    office.configure(HOOK)
    office.install("killed_now", "killed")
    office.run("killed_now")
    (hook,) = office.hooks()
    assert (hook["result"], hook["exit_code"], hook["exit_status"]) == ("signal", "killed", "KILL")
    assert any("Tarea killed_now iniciada" in line for line in hook["log"])


def test_a_run_that_another_program_ends_is_told(office: Office) -> None:
    office.configure(HOOK)
    office.install("ended_early", "endless")
    office.machine.run("systemctl", "start", "--no-block", "sereno@ended_early.service")
    office.machine.wait_for(lambda: office.shop.runs("ended_early"), what="the run")
    # What an early out-of-memory daemon sends; the manager knows nothing of it.
    pid = office.machine.show("sereno@ended_early.service", "MainPID")["MainPID"]
    office.machine.run("kill", "-TERM", pid)
    office.machine.wait_for(office.hooks, what="the message")
    office.settle()
    assert office.records("ended_early", "SERENO_STATUS=interrupted")
    (hook,) = office.hooks()
    assert (hook["event"], hook["result"], hook["exit_status"]) == ("failure", "exit-code", "1")


def test_a_run_that_is_stopped_by_hand_is_not_told(office: Office) -> None:
    office.configure(HANDLERS)
    office.install("stopped", "endless")
    office.machine.run("systemctl", "start", "--no-block", "sereno@stopped.service")
    office.machine.wait_for(lambda: office.shop.runs("stopped"), what="the run")
    office.machine.run("systemctl", "stop", "sereno@stopped.service")
    office.settle()
    assert office.records("stopped", "SERENO_STATUS=interrupted")
    assert office.sink.got() == []


DEAF = """

def deaf():
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    while True:
        time.sleep(600)

def crashes_at_exit():
    import atexit, os, signal
    atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
    return {"rows": 12}
"""


@pytest.fixture
def deaf(office: Office) -> Office:
    text = office.machine.read("/srv/shop/shop_jobs.py")
    if DEAF not in text:
        office.machine.write("/srv/shop/shop_jobs.py", text + DEAF)
    office.configure(HANDLERS)
    return office


def grace(office: Office, job_id: str) -> None:
    drop_in = f"/etc/systemd/system/sereno@{job_id}.service.d/grace.conf"
    office.machine.write(drop_in, "[Service]\nTimeoutStopSec=1\n")
    office.machine.run("systemctl", "daemon-reload")


@pytest.mark.every_systemd
def test_a_run_that_is_stopped_and_hears_nothing_is_not_told(deaf: Office) -> None:
    deaf.install("deaf_one", "deaf")
    grace(deaf, "deaf_one")
    deaf.machine.run("systemctl", "start", "--no-block", "sereno@deaf_one.service")
    deaf.machine.wait_for(
        lambda: any(
            each["MESSAGE"] == "deaf" for each in deaf.machine.journal("SERENO_JOB=deaf_one")
        ),
        what="the run",
    )
    deaf.machine.run("systemctl", "stop", "sereno@deaf_one.service")
    assert deaf.machine.show("sereno@deaf_one.service", "Result") == {"Result": "timeout"}
    deaf.settle()
    assert deaf.sink.got() == []


@pytest.mark.every_systemd
def test_a_limit_and_a_crash_are_told_as_what_they_are(deaf: Office) -> None:
    # Long enough to have become deaf, on a busy machine too.
    deaf.install("deaf_too_long", "deaf", timeout=5)
    grace(deaf, "deaf_too_long")
    deaf.run("deaf_too_long")
    (limit,) = deaf.hooks()
    assert (limit["result"], limit["error"]) == ("timeout", "over its time limit")
    deaf.install("crashed", "crashes_at_exit")
    deaf.run("crashed")
    crash = deaf.hooks()[-1]
    assert crash["event"] == "failure"
    assert crash["error"] == "it had ended as 'success', then: killed by SIGSEGV"


def test_repeated_failures_are_counted_and_the_recovery_is_told_once(office: Office) -> None:
    office.configure(HANDLERS)
    office.install("flaps")
    for _ in range(4):
        office.run("flaps", "bad")
    assert [hook["event"] for hook in office.hooks()] == ["failure"]
    assert len(office.sink.got("mail")) == 1
    assert len(office.records("flaps", HELD_BACK)) == 3
    office.run("flaps")
    office.run("flaps")
    failure, recovery = office.hooks()
    assert (recovery["event"], recovery["failures"], recovery["untold"]) == ("recovery", 4, 3)
    assert recovery["failing_since"] == failure["time"]
    assert "flaps recuperada" in recovery["subject"]
    assert recovery["run"] == office.shop.runs("flaps", FINISHED)[0]["SERENO_RUN"]


def test_what_fails_again_while_a_failure_is_being_told_is_counted(office: Office) -> None:
    slow = '[[handler]]\ntype = "command"\ncommand = ["/bin/sleep", "5"]\n'
    office.configure(slow + HANDLERS.replace('"command"\n', '"command"\nname = "page"\n'))
    office.install("fails_fast")
    office.machine.write("/srv/shop/mood", "bad")
    for _ in range(3):
        office.machine.run("systemctl", "start", "sereno@fails_fast.service", check=False)
    office.settle()
    # What failed in the same seconds is in the message already; what came later is with the handler that is slow.
    assert len(office.hooks()) == 1
    office.run("fails_fast")
    assert [(hook["event"], hook["failures"]) for hook in office.hooks()][1:] == [("recovery", 3)]


@pytest.mark.every_systemd
def test_what_fails_together_is_told_once_by_one_process_whoever_fails_meanwhile(
    office: Office,
) -> None:
    """Two waves, the second while the first is told, by a command that takes its time; no unit for a job."""
    slow = json.dumps(["/bin/sh", "-c", "sleep 1; exec /srv/page"])
    office.configure(f'[[handler]]\ntype = "command"\ncommand = {slow}\n')
    jobs = [f"fails_{number}" for number in range(24)]
    office.shop.install(*(f"add_interval_job(shop_jobs.raises, {job!r}, hours=1)" for job in jobs))
    waves = (
        [f"sereno@{job}.service" for job in jobs[:12]],
        [f"sereno@{job}.service" for job in jobs[12:]],
    )
    for wave in waves:
        office.machine.run("systemctl", "start", *wave, check=False)
    office.settle()
    told = [json.loads(entry["body"])["stdin"] for entry in office.sink.got("http", "/page")]
    all_told = [one["job"] for message in told for one in (message, *message["more"])]
    assert sorted(all_told) == sorted(jobs)
    assert len(told) < 10
    # systemd's account of each, and the run's own words.
    assert {
        one["error"].partition(" (")[0] for message in told for one in (message, *message["more"])
    } == {"ValueError: no such table: ventas"}
    assert {message["exit_status"] for message in told} == {"1"}
    ran = office.machine.journal(
        "UNIT=sereno-failed.service", "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf"
    )
    assert not office.machine.run(
        "systemctl", "list-units", "--all", "--plain", "--no-legend", "sereno-failed@*"
    ).stdout
    assert ran


@pytest.mark.every_systemd
def test_no_failure_is_lost_between_one_process_that_tells_and_the_next(office: Office) -> None:
    """Jobs that fail one after the other, also in the moment when the process before is about to end."""
    office.configure(HOOK)
    jobs = [f"drip_{number}" for number in range(14)]
    office.shop.install(*(f"add_interval_job(shop_jobs.raises, {job!r}, hours=1)" for job in jobs))
    for number, job in enumerate(jobs):
        office.machine.run("systemctl", "start", "--no-block", f"sereno@{job}.service")
        # A process is over some four seconds after what it was started for.
        time.sleep(0.35 * (number % 5))
    office.settle()
    told = [one["job"] for hook in office.hooks() for one in (hook, *hook["more"])]
    assert sorted(told) == sorted(jobs)


def test_what_a_process_that_is_killed_had_to_tell_is_told_by_the_next(office: Office) -> None:
    slow = json.dumps(["/bin/sh", "-c", "sleep 4; exec /srv/page"])
    office.configure(f'[[handler]]\ntype = "command"\ncommand = {slow}\n')
    office.install("unlucky")
    office.machine.write("/srv/shop/mood", "bad")
    office.machine.run("systemctl", "start", "sereno@unlucky.service", check=False)
    flag = "/var/lib/sereno/notify/unlucky.failing"
    office.machine.wait_for(lambda: office.machine.exists(flag), what="the count")
    kill = ("systemctl", "kill", "--kill-whom=all", "--signal=KILL", "sereno-failed.service")
    office.machine.run(*kill)
    told = lambda: office.sink.got("http", "/page")  # noqa: E731
    office.machine.wait_for(told, what="the message", deadline_s=60)
    office.settle()
    assert len(told()) == 1


def test_a_drop_in_that_names_the_handler_of_a_job_still_has_it_told(office: Office) -> None:
    office.configure(HOOK)
    office.install("with_old_name")
    drop_in = "/etc/systemd/system/sereno@with_old_name.service.d/told.conf"
    office.machine.write(drop_in, "[Unit]\nOnFailure=\nOnFailure=sereno-failed@%i.service\n")
    office.machine.run("systemctl", "daemon-reload")
    office.run("with_old_name", "bad")
    assert [hook["job"] for hook in office.hooks()] == ["with_old_name"]


def test_what_cannot_start_for_what_it_requires_is_told(office: Office) -> None:
    office.configure(HOOK)
    office.install("needs_more")
    office.machine.write(
        "/etc/systemd/system/broken.service", "[Service]\nType=oneshot\nExecStart=false\n"
    )
    drop_in = "/etc/systemd/system/sereno@needs_more.service.d/needs.conf"
    office.machine.write(drop_in, "[Unit]\nRequires=broken.service\nAfter=broken.service\n")
    office.machine.run("systemctl", "daemon-reload")
    office.run("needs_more")
    (hook,) = office.hooks()
    assert (hook["job"], hook["event"], hook["result"]) == ("needs_more", "failure", "dependency")


def test_a_recovery_is_told_over_a_reboot(office: Office) -> None:
    office.configure(HOOK)
    office.install("weekly")
    office.run("weekly", "bad")
    office.machine.reboot()
    Sink(office.machine)
    office.run("weekly")
    assert [hook["event"] for hook in office.hooks()] == ["failure", "recovery"]


def test_an_alert_of_a_successful_run_is_told_and_then_counted(office: Office) -> None:
    office.configure(HOOK)
    office.install("disk_watch", "warns")
    office.run("disk_watch")
    office.run("disk_watch")
    (hook,) = office.hooks()
    assert (hook["event"], hook["alert"], hook["error"]) == ("alert", "disk", "almost full")
    assert "disk_watch: almost full" in hook["subject"]
    assert len(office.records("disk_watch", HELD_BACK)) == 1


def test_an_alert_is_told_however_much_the_run_logged_afterwards(office: Office) -> None:
    office.configure(HOOK)
    office.install("disk_watch_4", "warns_early")
    office.run("disk_watch_4")
    (hook,) = office.hooks()
    assert (hook["event"], hook["alert"], hook["error"]) == ("alert", "disk", "almost full")


def test_the_cleanups_alert_of_a_full_cache_is_told(office: Office) -> None:
    office.configure(HOOK)
    fill = (
        "from sereno import MetadataCache\ncache = MetadataCache(max_size=10)\n"
        "for number in range(10): cache.set(f'k{number}', 1)\n"
    )
    office.machine.run(
        "/opt/sereno/current/venv/bin/python", "-c", fill, env={"PYTHONPATH": "/opt/sereno/lib"}
    )
    office.run("cache_cleanup_hourly")
    (hook,) = office.hooks()
    assert (hook["event"], hook["alert"]) == ("alert", "capacity")
    assert "Caché al 100.0% de capacidad (10/10)." in hook["subject"]


def test_a_handler_that_fails_stops_no_other_is_visible_and_leaves_the_jobs_result(
    office: Office,
) -> None:
    broken = f"""
[[handler]]
type = "webhook"
name = "gone"
url = "http://127.0.0.1:9/token"
retries = 0
[[handler]]
type = "webhook"
name = "refuses"
url = "{WEB}/status/403"
[[handler]]
type = "command"
command = ["/bin/sh", "-c", "echo pager is out of order >&2; exit 3"]
[[handler]]
type = "webhook"
name = "busy"
url = "{WEB}/busy"
"""
    office.configure(broken + HANDLERS.replace('"command"\n', '"command"\nname = "page"\n'))
    office.install("sync_2")
    office.run("sync_2", "bad")
    assert len(office.hooks()) == len(office.sink.got("mail")) == 1
    assert len(office.sink.got("http", "/busy")) == 2
    assert len(office.sink.got("http", "/status/403")) == 1
    errors = {
        record["SERENO_HANDLER"]: record["SERENO_ERROR"]
        for record in office.records("sync_2", NOT_DELIVERED)
    }
    assert errors.keys() == {"gone", "refuses", "command"}
    assert "Connection refused" in errors["gone"]
    assert "token" not in errors["gone"]
    assert "HTTP 403" in errors["refuses"]
    assert errors["command"] == "/bin/sh: exit status 3: pager is out of order"
    assert office.machine.show("sereno-failed.service", "Result") == {"Result": "exit-code"}
    shown = office.machine.show("sereno@sync_2.service", "Result", "ExecMainStatus")
    assert shown == {"Result": "exit-code", "ExecMainStatus": "1"}
    check = "from sereno.notify.health import problems\nresult = problems(False)"
    assert sorted(line.split(": ")[1] for line in office.shop.call(check)) == [
        "handler command",
        "handler gone",
        "handler refuses",
    ]


def test_a_file_that_cannot_be_right_is_visible_and_holds_up_nothing(office: Office) -> None:
    office.configure('[[handler]]\ntype = "mail"\nto = "ops"\n')
    office.install("sync_3")
    office.run("sync_3", "bad")
    why = "handler 1 (mail): to: 'ops' is not a list of mail addresses"
    assert any(why in record["MESSAGE"] for record in office.machine.journal(NOT_DELIVERED))
    assert office.machine.show("sereno@sync_3.service", "Result") == {"Result": "exit-code"}
    office.install("disk_watch_2", "warns")
    office.run("disk_watch_2")
    state = office.machine.run("systemctl", "is-active", "sereno-notify.socket", check=False)
    assert state.stdout == "active\n"


def test_without_a_file_no_handler_is_started_and_runs_send_nothing(office: Office) -> None:
    started = office.machine.show("sereno-failed.service", "ActiveEnterTimestamp")
    office.install("quiet")
    office.run("quiet", "bad")
    office.run("quiet")
    office.install("disk_watch_3", "warns")
    office.run("disk_watch_3")
    shown = office.machine.show("sereno-failed.service", "ConditionResult", "ActiveEnterTimestamp")
    assert shown == {"ConditionResult": "no", **started}
    assert office.sink.got() == []
    done = office.machine.run("sereno", "notify", "--test", check=False)
    assert done.returncode == 2
    assert f"{CONFIG}: there is no such file" in done.stderr


def test_the_test_message_takes_the_real_way_and_reports_every_handler(office: Office) -> None:
    office.configure(HANDLERS)
    done = office.machine.run("sereno", "notify", "--test")
    assert sorted(done.stdout.splitlines()) == [
        "command: delivered",
        "mail: delivered",
        "webhook: delivered",
    ]
    assert [hook["event"] for hook in office.hooks()] == ["test"]
    assert len(office.sink.got("mail")) == 1
    # Who is at work goes by the file as it was.
    office.settle()
    office.configure('[[handler]]\ntype = "command"\ncommand = ["/bin/false"]\n')
    done = office.machine.run("sereno", "notify", "--test", check=False)
    assert done.returncode == 1
    assert done.stdout == "command: /bin/false: exit status 1\n"


def test_a_job_cannot_read_the_handlers_secrets_nor_ask_for_a_test(office: Office) -> None:
    office.configure(HANDLERS)
    office.machine.run("systemctl", "start", "sereno-notify.socket")
    spy = (
        "import sys; sys.path.insert(0, '/opt/sereno/lib')\n"
        "from sereno.notify import wake\nwake.send('/run/sereno/notify', 'test', 'sereno', 'x' * 32)\n"
        "try: open('/etc/sereno/notify.toml')\nexcept PermissionError: print('refused')"
    )
    done = office.machine.run_unit("python3", "-c", spy, user="sereno")
    assert done.stdout == "refused\n"
    office.settle()
    office.machine.wait_for(
        lambda: office.machine.journal("UNIT=sereno-notify.service"), what="the service"
    )
    assert office.sink.got() == []


def test_a_run_that_has_nothing_to_tell_starts_nothing(office: Office) -> None:
    office.configure(HANDLERS)
    office.install("plain", "quick")
    office.run("plain")
    before = len(office.machine.journal("UNIT=sereno-notify.service"))
    sockets = len(office.machine.journal("UNIT=sereno-notify.socket"))
    for _ in range(3):
        office.run("plain")
    assert len(office.machine.journal("UNIT=sereno-notify.service")) == before
    assert len(office.machine.journal("UNIT=sereno-notify.socket")) == sockets


@pytest.fixture(params=["none", "volatile"])
def without_journal(machine: Machine, request: pytest.FixtureRequest) -> Iterator[None]:
    """A machine that keeps no journal, or one whose journal is emptied all the time."""
    machine.write("/etc/systemd/journald.conf.d/test.conf", f"[Journal]\nStorage={request.param}\n")
    machine.run("systemctl", "restart", "systemd-journald.service")
    yield
    machine.run("rm", "-r", "/etc/systemd/journald.conf.d")
    machine.run("systemctl", "restart", "systemd-journald.service")


@pytest.mark.usefixtures("without_journal")
def test_without_a_journal_failures_and_recoveries_are_told_all_the_same(office: Office) -> None:
    office.configure(HANDLERS)
    office.install("nightly")
    for mood in ("bad", "bad", "good", "good", "bad", "good"):
        office.run("nightly", mood)
        office.machine.run("journalctl", "--rotate", "--vacuum-size=1")
    # What failed in the minutes before there was a file is told as well.
    hooks = [hook for hook in office.hooks() if hook["job"] == "nightly"]
    told = [(hook["event"], hook["failures"]) for hook in hooks]
    assert told == [("failure", 1), ("recovery", 2), ("failure", 1), ("recovery", 1)]
    mails = [mail["body"] for mail in office.sink.got("mail")]
    assert sum("X-Sereno-Job: nightly" in mail for mail in mails) == 4
    shown = office.machine.run("sereno", "notify", "--test").stdout.splitlines()
    assert sorted(shown) == ["command: delivered", "mail: delivered", "webhook: delivered"]


def test_a_success_before_the_last_failure_is_no_recovery_whoever_names_it(office: Office) -> None:
    office.configure(HOOK)
    office.install("flips")
    for mood in ("bad", "good", "bad"):
        office.run("flips", mood)
    (good,) = office.shop.runs("flips", FINISHED)
    replay = (
        "import sys; sys.path.insert(0, '/opt/sereno/lib')\nfrom sereno.notify import wake\n"
        f"wake.send('/run/sereno/notify', 'succeeded', 'flips', {good['SERENO_RUN']!r})"
    )
    office.machine.run_unit("python3", "-c", replay, user="sereno")
    office.settle()
    assert [hook["event"] for hook in office.hooks()] == ["failure", "recovery", "failure"]
    office.run("flips")
    assert [hook["event"] for hook in office.hooks()][3:] == ["recovery"]


TWO = f"""
[[handler]]
type = "webhook"
name = "hook"
url = "{WEB}/hook"
[[handler]]
type = "webhook"
name = "down"
url = "{WEB}/down"
retries = 0
"""


def test_a_handler_that_was_down_tells_the_next_failure_and_hides_none_of_the_other(
    office: Office,
) -> None:
    office.configure(TWO)
    office.install("shaky")
    office.machine.write(DOWN, "")
    office.run("shaky", "bad")
    office.machine.run("rm", DOWN)
    office.sink.forget()
    office.run("shaky", "bad")
    (late,) = [json.loads(entry["body"]) for entry in office.sink.got("http", "/down")]
    assert (late["event"], late["failures"], late["untold"]) == ("failure", 2, 1)
    assert office.hooks() == []
    office.machine.write(DOWN, "")
    office.run("shaky")
    assert [hook["event"] for hook in office.hooks()] == ["recovery"]
    office.machine.run("rm", DOWN)
    office.sink.forget()
    office.run("shaky")
    (late,) = [json.loads(entry["body"]) for entry in office.sink.got("http", "/down")]
    assert (late["event"], late["failures"]) == ("recovery", 2)
    assert office.hooks() == []


def test_a_handler_that_hangs_keeps_no_message_of_another_waiting(office: Office) -> None:
    office.configure(
        TWO.replace("/down", "/hang").replace("retries = 0", "retries = 0\ntimeout_s = 20")
    )
    office.install("hasty")
    start = time.monotonic()
    for mood in ("bad", "good"):
        office.machine.write("/srv/shop/mood", mood)
        office.machine.run("systemctl", "start", "sereno@hasty.service", check=False)
    office.machine.wait_for(lambda: len(office.hooks()) == 2, what="both messages")
    assert time.monotonic() - start < 20
    assert [hook["event"] for hook in office.hooks()] == ["failure", "recovery"]
    office.settle()


FLOOD = """
import json, socket, sys, time
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
rubbish = [b"[" * 60_000, b"\\xff" * 100, b"\\0" * 60_000, b'["succeeded","\\\\ud800","x"]']
rubbish += [json.dumps(["succeeded", f"job_{n}", f"{n:032x}", "disk"]).encode() for n in range(500)]
give_up, sent = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < give_up:
    for data in rubbish:
        try:
            sender.sendto(data, "/run/sereno/notify")
            sent += 1
        except ConnectionRefusedError:
            time.sleep(0.1)
print(sent)
"""


def test_a_flood_of_the_socket_by_a_member_of_the_group_delays_a_recovery_by_seconds_only(
    office: Office,
) -> None:
    office.configure(HOOK)
    office.install("flooded")
    office.run("flooded", "bad")
    office.machine.write("/srv/flood.py", FLOOD)
    web = ["--uid=nobody", "--property=SupplementaryGroups=sereno"]
    office.machine.run("systemd-run", "--unit=flood", *web, "python3", "/srv/flood.py", "4")
    office.machine.write("/srv/shop/mood", "good")

    def recovered() -> bool:
        # The kernel's queue may be full at the moment when a run has something to tell: the next one tells it.
        office.machine.run("systemctl", "start", "sereno@flooded.service")
        return "recovery" in [hook["event"] for hook in office.hooks()]

    office.machine.wait_for(recovered, what="the recovery", deadline_s=60)
    office.machine.wait_for(
        lambda: office.machine.show("flood.service", "ActiveState")["ActiveState"] == "inactive",
        what="the end of the flood",
    )
    office.settle()
    state = office.machine.show("sereno-notify.service", "ActiveState", "Result")
    assert state == {"ActiveState": "inactive", "Result": "success"}


def test_what_a_server_says_is_shown_without_what_a_terminal_obeys(office: Office) -> None:
    office.configure(f'[[handler]]\ntype = "webhook"\nurl = "{WEB}/evil"\n')
    done = office.machine.run("sereno", "notify", "--test", check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("webhook: 127.0.0.1: HTTP 302 \\x1b]0;owned")
    assert done.stdout.rstrip("\n").isprintable()
    assert len(done.stdout) < 250
    assert "L0CATION" not in done.stdout
    record = office.records("sereno", NOT_DELIVERED)[-1]
    assert record["SERENO_ERROR"].isprintable()
    assert "L0CATION" not in str(record)


def test_the_command_of_the_page_works(office: Office) -> None:
    page = (Path(__file__).parents[2] / "docs/notify.md").read_text()
    (text,) = re.findall(
        r"<!-- file: /etc/sereno/notify.toml -->\n```toml\n(.*?)```", page, re.DOTALL
    )
    (handler,) = (one for one in tomllib.loads(text)["handler"] if one["type"] == "command")
    office.configure(f'[[handler]]\ntype = "command"\ncommand = {json.dumps(handler["command"])}\n')
    office.install("as_shown")
    office.run("as_shown", "bad")
    (record,) = office.machine.journal("SYSLOG_IDENTIFIER=sereno-alarm")
    told = json.loads(record["MESSAGE"])
    assert (told["event"], told["job"], told["result"]) == ("failure", "as_shown", "exit-code")
    assert office.records("as_shown", NOT_DELIVERED) == []
