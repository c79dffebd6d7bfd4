"""Every check of the doctor, with facts that are made up: what it finds, what it says, and what it leaves alone."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import backend_jobs
import pytest
from fake_systemd import FakeManager

from sereno import cli, scheduler
from sereno.cache import MetadataCache
from sereno.declare.job import Job
from sereno.fleet.claim import FleetHost
from sereno.manager.names import TARGET as TARGET_UNIT
from sereno.manager.names import timer_name
from sereno.manager.systemctl import is_running, seconds
from sereno.observe import runs_of_many
from sereno.observe.doctor import CHECKS, examine, gather
from sereno.observe.doctor.cache import cache_facts
from sereno.observe.doctor.facts import CacheFacts, Code, Entry, Facts, FleetFacts, Words
from sereno.observe.doctor.files import settings_in
from sereno.observe.doctor.job_facts import JobFacts, Place
from sereno.observe.doctor.places import look, module_place, open_at, text_of
from sereno.observe.doctor.sandbox import WEAKER, weakenings
from sereno.observe.doctor.unit_checks import OWN_UNITS
from sereno.observe.job_state import JobState
from sereno.records.run_record import Run
from sereno.records.verdict import CUT_OFF, LEFT
from sereno.triggers import CronTrigger, IntervalTrigger
from sereno.units import installation
from sereno.units.unit_text import Installed, is_as_written, read, render

NOW_S = 1_800_000_000.0
HOUR_S, DAY_S = 3600.0, 86_400.0
ACTIVE = {"LoadState": "loaded", "ActiveState": "active", "SubState": "waiting"}
DONE = {"LoadState": "loaded", "ActiveState": "inactive", "Result": "success"}
FAILED = {**DONE, "ActiveState": "failed"}
TARGET = {"ActiveState": "active", "UnitFileState": "enabled"}


def installed(job_id: str = "nightly", trigger: Any = None, **changes: Any) -> Installed:
    trigger = trigger or CronTrigger.from_expression("0 3 * * *")
    job = Job(
        job_id, "shop.jobs:sync", trigger, app="shop", interpreter="/srv/shop/venv/bin/python"
    )
    found = read(job_id, render(job), enabled=True)
    assert found is not None
    return replace(found, **changes)


PYTHON, SECRET, METRICS = "/srv/shop/venv/bin/python", "/etc/token", "/var/lib/metrics"
SERVICE, UNIT = "[Service]", "[Unit]"


def service(*more: tuple[str, str, str]) -> tuple[tuple[str, str, str], ...]:
    """The lines of a job's service."""
    lines = (
        ("ExecStart", PYTHON),
        ("User", "sereno"),
        ("Group", "sereno"),
        ("ProtectSystem", "strict"),
    )
    return (*((SERVICE, key, value) for key, value in lines), *more)


def job(**changes: Any) -> JobFacts:
    """A calendar job that is well: it elapses in an hour, and ran an hour ago."""
    next_s = changes.pop("next_s", NOW_S + HOUR_S)
    last = [
        changes.pop(f"last_{name}", ended)
        for name, ended in (("status", "success"), ("error", None))
    ]
    whole = changes.get("installed") or installed()
    running = is_running(changes.get("service", DONE)["ActiveState"])
    facts = JobFacts(
        installed=whole,
        state=JobState(
            whole,
            "",
            next=None if next_s is None else datetime.fromtimestamp(next_s, UTC),
            last=Run(whole.id, "", last[0], end_s=NOW_S - HOUR_S, error=last[1]),
            running=running,
        ),
        timer=ACTIVE,
        service=DONE,
        expected_s=NOW_S + HOUR_S,
        period_s=DAY_S,
        calendars=("*-*-* 03:00:00",),
        calendars_now=("*-*-* 03:00:00",),
        settings=service(),
        installed_s=NOW_S - 90 * DAY_S,
    )
    return replace(facts, **changes)


def interval(**changes: Any) -> JobFacts:
    """An interval of two hours that is well: it started an hour ago."""
    return job(
        installed=installed("often", IntervalTrigger(hours=2)),
        expected_s=None,
        bases_s=(NOW_S - HOUR_S,),
        calendars=(),
        calendars_now=None,
        **changes,
    )


FILE = Place("file", 0o755)


def machine(*jobs: JobFacts, **changes: Any) -> Facts:
    """A machine that is well."""
    facts = Facts(
        scope="system",
        user="root",
        now_s=NOW_S,
        python=(3, 11),
        systemd="252.39-1~deb12u1",
        code=Code("1.0", "/opt/x", "1.0", "/opt/x", same=True),
        jobs=jobs or (job(), interval()),
        target=TARGET,
        apps=(("shop", True, TARGET),),
        clock_synchronized=True,
        journal_storage="persistent",
        places={PYTHON: FILE, "/opt/x": Place("directory"), SECRET: Place("file", 0o600)},
        accounts={
            "sereno": (990, frozenset({990})),
            "sereno-notify": (991, frozenset()),
            "root": (0, frozenset({0})),
        },
        groups={"sereno": 990},
        journal_begins_s=NOW_S - 100 * DAY_S,
        cache=CacheFacts(
            wanted=(0o2770, "root", "sereno"),
            directories=(Entry("/c", 0o2770, "root", "sereno"),),
            inside=(Entry("/c/data.mdb", 0o660, "web", "sereno", is_directory=False),),
            stats={"size": 1800, "max_size": 2000, "hit_rate_percent": 60.0, "total_requests": 999},
        ),
    )
    return replace(facts, **changes)


def placed(path: str, place: Place, *jobs: JobFacts, **changes: Any) -> Facts:
    """A machine where something else is true of one path."""
    facts = machine(*jobs, **changes)
    return replace(facts, places={**facts.places, path: place})


def cache(**changes: Any) -> Facts:
    facts = machine()
    assert facts.cache is not None
    return replace(facts, cache=replace(facts.cache, **changes))


def fleet(**changes: Any) -> Facts:
    return machine(fleet=FleetFacts("/f.url", **changes))


def shares(host: str, **changes: Any) -> FleetHost:
    given = {
        "machine": "a" * 32 if host != "cala" else "",
        "declaration": "at 3",
        "ahead_s": 0.0,
        **changes,
    }
    return FleetHost(app="shop", job="books", host=host, seen_s=NOW_S, **given)


def test_a_machine_that_is_well_has_no_findings() -> None:
    assert examine(machine()) == []
    assert examine(replace(machine(), scope="user", lingers=True)) == []


WITH_SECRET = job(settings=service((SERVICE, "LoadCredential", f"token:{SECRET}")))
WITH_METRICS = job(settings=service((SERVICE, "Environment", f"SERENO_TEXTFILE_DIR={METRICS}")))
STOPPED = {**ACTIVE, "ActiveState": "inactive", "SubState": "dead"}
# Name of the check, the facts, (level, subject, field, value), a part of the hint.
TOLD = "/etc/sereno/notify.toml"
CASES: list[tuple[str, Facts, tuple[str, str, str, str], str]] = [
    ("versions", machine(python=(3, 9)), ("problem", "Python", "version", "3.9"), "apt-get"),
    ("versions", machine(systemd="247.3"), ("problem", "systemd", "version", "247.3"), "upgrade"),
    ("versions", machine(has_python_systemd=False),
     ("problem", "python-systemd", "import", "fails"), "apt-get install python3-systemd"),
    ("installation", machine(has_template=False),
     ("problem", "sereno@.service", "file", "missing"), "./install.sh"),
    ("installation", machine(code=Code("1.0", "/src", None, None, same=False)),
     ("problem", "sereno@.service", "ExecStart", "missing"), "./install.sh"),
    ("installation", machine(code=Code("1.1", "/src", "1.0", "/opt/r", same=False)),
     ("warning", "/opt/r", "version", "1.0"), "/opt/r/bin/sereno"),
    ("interrupted change", machine(interrupted=("a", "b")),
     ("problem", ".sereno-pending", "jobs", "a b"), "sereno apply"),
    ("target", machine(target={**TARGET, "ActiveState": "inactive"}),
     ("problem", "sereno.target", "ActiveState", "inactive"), "systemctl start sereno.target"),
    ("target", machine(target={**TARGET, "UnitFileState": "disabled"}),
     ("problem", "sereno.target", "UnitFileState", "disabled"), "systemctl enable sereno.target"),
    ("target", machine(apps=(("shop", False, TARGET),)),
     ("warning", "sereno-app@shop.target", "enabled", "no"), "start the application shop"),
    ("target", machine(apps=(("shop", True, {"ActiveState": "inactive"}),)),
     ("problem", "sereno-app@shop.target", "ActiveState", "inactive"), "systemctl start sereno-app@shop.target"),
    ("lingering", machine(scope="user", user="ada", lingers=False),
     ("problem", "ada", "Linger", "no"), "loginctl enable-linger"),
    ("clock", machine(clock_synchronized=False),
     ("warning", "clock", "NTPSynchronized", "no"), "timedatectl set-ntp true"),
    ("journal", machine(journal_storage="volatile"),
     ("warning", "journal", "Storage", "volatile"), "Storage=persistent"),
    ("journal", machine(journal_storage="none"), ("problem", "journal", "Storage", "none"), "Storage=persistent"),
    ("journal", machine(units={"systemd-journald.service": {"ActiveState": "failed"}}),
     ("problem", "journal", "ActiveState", "failed"), "systemctl start systemd-journald.service"),
    ("disk", placed("/var", Place("directory", mount="/v r", lacks="inodes")),
     ("problem", "/v r", "free", "no inodes"), "du -x --inodes '/v r'"),
    ("disk", placed("/etc", Place("directory", is_read_only=True)), ("problem", "/", "mounted", "read-only"), "rw /"),
    ("mounts", machine(mounts=200), ("warning", "/proc/self/mountinfo", "mounts", "200"), "findmnt"),
    ("machine id", machine(machine_id=None), ("problem", "/etc/machine-id", "id", "missing"), "machine-id-setup"),
    ("machine id", machine(machine_id=""), ("problem", "/etc/machine-id", "id", "empty"), "machine-id-setup"),
    ("machine id", machine(machine_id="uninitialized"),
     ("problem", "/etc/machine-id", "id", "uninitialized"), "machine-id-setup"),
    ("machine id", machine(bus_id="1" * 32),
     ("warning", "/var/lib/dbus/machine-id", "id", "1" * 32), "ln -sf /etc/machine-id"),
    ("fleet", fleet(is_open=True), ("problem", "/f.url", "mode", "open to others"), "chmod 600 /f.url"),
    ("fleet", fleet(error="fleet: no answer"), ("problem", "fleet", "database", "not asked"), "mend the URL"),
    ("fleet", fleet(ahead_s=-1.5), ("problem", "fleet", "clock", "-1.5 s"), "set-ntp true"),
    ("fleet", fleet(hosts=(shares("alba", ahead_s=3.0),)),
     ("warning", "fleet: alba", "clock", "+3.0 s"), "on that host"),
    ("fleet", fleet(hosts=(shares("alba"), shares("brisa"), shares("cala", machine="c" * 32))),
     ("warning", "fleet", "machine id", "a" * 32), "systemd-machine-id-setup, on the copies"),
    ("fleet", fleet(hosts=(shares("alba"), shares("cala", machine="c" * 32, declaration="at 4"))),
     ("warning", "fleet: books", "declaration", "alba: at 3; cala: at 4"), "same release"),
    ("cache rights", cache(missing=("/c",)), ("problem", "/c", "directory", "missing"), "systemd-tmpfiles"),
    ("cache rights", cache(directories=(Entry("/c", 0o755, "root", "root"),)),
     ("problem", "/c", "mode, owner, group", "0755 root root"), "systemd-tmpfiles --create sereno.conf"),
    ("cache rights", cache(inside=(Entry("/c/board", 0o640, "web", "web", is_directory=False),)),
     ("problem", "/c/board", "mode, owner, group", "0640 web web"), "rm -r /c && systemd-tmpfiles"),
    ("cache rights", cache(inside=(Entry("/c/format-3", 0o700, "web", "sereno"),)),
     ("problem", "/c/format-3", "mode, owner, group", "0700 web sereno"), "rm -r /c && systemd-tmpfiles"),
    ("cache rights", machine(cache=CacheFacts(directories=(Entry("/c", 0o777, "ada", "ada"),))),
     ("problem", "/c", "mode", "0777"), "chmod o-w /c"),
    ("cache", cache(error="cut off"), ("problem", "cache", "open", "refused"), "journalctl"),
    ("cache", cache(damaged=("/c/damaged-1",)),
     ("warning", "/c/damaged-1", "files", "damaged"), "runuser -u sereno -- find /c "),
    ("cache", cache(stats={"size": 1801, "max_size": 2000, "hit_rate_percent": 99.0, "total_requests": 1}),
     ("warning", "cache", "size", "1801 of 2000"), "sereno cache clear"),
    ("cache", cache(stats={"size": 9, "max_size": None, "hit_rate_percent": 59.9, "total_requests": 101}),
     ("warning", "cache", "hit_rate_percent", "59.9"), "sereno cache stats"),
    ("stamp", machine(old_stamps=("/s/stamp-x",)), ("warning", "/s/stamp-x", "timer", "missing"), "rm /s/stamp-x"),
    ("sandbox", machine(job(drop_ins=("/e/x.conf",)), drop_ins={"/e/x.conf": ((SERVICE, "User", "root"),
     (SERVICE, "Nice", "5"), (UNIT, "User", "0"))}),
     ("warning", "/e/x.conf", "User", "root"), "daemon-reload"),
    ("messages", placed(TOLD, Place("file", 0o644)), ("problem", TOLD, "mode", "0644"), "chmod 600"),
    ("messages", placed(TOLD, Place("file", 0o600, open_at="/etc/sereno")),
     ("problem", TOLD, "owner", "0"), "chown root:"),
    ("messages", placed(TOLD, Place("other", 0o600)), ("problem", TOLD, "kind", "other"), f"mv {TOLD} {TOLD}.off"),
    ("messages", placed(TOLD, Place("file", 0o600), untold=("handler hook: refused",)),
     ("problem", "notify", "handler", "handler hook: refused"), "sereno notify --test"),
    ("not checked", machine(unread=("journal: denied",)),
     ("warning", "doctor", "not checked", "journal: denied"), "mend that first"),
    ("not checked", machine(unread=("journal: denied",), user="ada"),
     ("warning", "doctor", "not checked", "journal: denied"), "as root"),
    ("masked", machine(job(timer={**ACTIVE, "LoadState": "masked"})),
     ("problem", "sereno@nightly.timer", "LoadState", "masked"), "systemctl unmask sereno@nightly.timer"),
    ("masked", machine(job(service={**DONE, "LoadState": "masked"})),
     ("problem", "sereno@nightly.service", "LoadState", "masked"), "systemctl unmask sereno@nightly.service"),
    ("masked", machine(foreign=(("/u/sereno@x.timer", True),)),
     ("problem", "/u/sereno@x.timer", "link to", "/dev/null"), "rm /u/sereno@x.timer"),
    ("foreign file", machine(foreign=(("/u/sereno@x.timer", False),)),
     ("problem", "/u/sereno@x.timer", "[X-Sereno]", "missing"), "mv /u/sereno@x.timer"),
    ("paused", machine(job(installed=installed(enabled=False), timer=STOPPED)),
     ("warning", "sereno@nightly.timer", "enabled", "no"), "sereno resume nightly"),
    ("timer inactive", machine(job(timer=STOPPED, next_s=None)),
     ("problem", "sereno@nightly.timer", "ActiveState", "inactive"), "sereno pause nightly && sereno resume nightly"),
    ("timer inactive", machine(job(timer={**ACTIVE, "ActiveState": "failed", "Result": "resources"})),
     ("problem", "sereno@nightly.timer", "ActiveState", "failed (resources)"), "sereno resume nightly"),
    ("timer wedged", machine(interval(timer={**ACTIVE, "SubState": "elapsed"}, next_s=None)),
     ("problem", "sereno@often.timer", "SubState", "elapsed"), "sereno pause often && sereno resume often"),
    ("changed unit", machine(job(changed_files=("/u/sereno@nightly.timer",))),
     ("problem", "/u/sereno@nightly.timer", "Digest", "differs"), "/srv/shop/venv/bin/python -m sereno apply"),
    ("changed unit",
     machine(job(installed=installed(has_entry_script=True), changed_files=("/u/a",))),
     ("problem", "/u/a", "Digest", "differs"), "sereno apply"),
    ("daemon-reload", machine(stale_files=("/u/a", "/u/b")),
     ("warning", "/u/a", "changed", "after the last daemon-reload"), "systemctl daemon-reload"),
    ("time zone", machine(job(calendars_now=("*-*-* 03:30:00",))),
     ("warning", "sereno@nightly.timer", "OnCalendar", "*-*-* 03:00:00"), "start the application shop"),
    ("own unit", machine(units={"sereno-seed.service": {"LoadState": "not-found"}}),
     ("problem", "sereno-seed.service", "file", "missing"), "./install.sh"),
    ("own unit", machine(units={"sereno-failed.service": {"LoadState": "masked"}}),
     ("warning", "sereno-failed.service", "LoadState", "masked"), "systemctl unmask sereno-failed.service"),
    ("own unit", placed(TOLD, Place("file", 0o600), units={"sereno-notify.socket": {"ActiveState": "failed"}}),
     ("problem", "sereno-notify.socket", "ActiveState", "failed"), "systemctl start sereno-notify.socket"),
    ("unit file", machine(words=(Words("/u/sereno@nightly.timer.d/x y.conf", 3, "Failed to parse"),)),
     ("problem", "/u/sereno@nightly.timer.d/x y.conf", "line 3", "Failed to parse"),
     "mv '/u/sereno@nightly.timer.d/x y.conf'"),
    ("unit file", machine(words=(Words("/u/sereno@nightly.timer", 3, "Failed"), Words("/u/sereno@often.timer",
     3, "x"))),
     ("problem", "/u/sereno@nightly.timer", "line 3", "Failed"), "apt-get install tzdata-legacy"),
    ("unit file", machine(words=(Words("/u/sereno-seed.service", 3, "Failed"),)),
     ("problem", "/u/sereno-seed.service", "line 3", "Failed"), "./install.sh"),
    ("unit file", machine(job(service={**DONE, "LoadState": "bad-setting", "LoadError": "so"})),
     ("problem", "sereno@nightly.service", "LoadState", "bad-setting"), "systemctl daemon-reload"),
    ("dependency", machine(job(settings=service((UNIT, "Requires", "x.mount"))),
     units={"x.mount": {"LoadState": "masked"}}),
     ("problem", "sereno@nightly.service", "Requires", "x.mount"), "systemctl cat"),
    ("dependency", machine(job(settings=service((UNIT, "ConditionPathExists", "/x")),
                               service={**DONE, "ConditionResult": "no", "ConditionTimestamp": "@1"})),
     ("warning", "sereno@nightly.service", "ConditionResult", "no"), "systemctl cat"),
    ("command", machine(job(settings=service((SERVICE, "ExecStart", "/bin/x")), drop_ins=("/e/x.conf",)),
                        drop_ins={"/e/x.conf": ((SERVICE, "ExecStart", "/bin/x"),)}),
     ("warning", "sereno@nightly.service", "ExecStart", "/bin/x"),
     "mv /e/x.conf /e/x.conf.off && systemctl daemon-reload"),
    ("entry script", placed(PYTHON, Place()),
     ("problem", "sereno@nightly.service", "ExecStart", PYTHON), "PYTHON -m sereno apply"),
    ("entry script", placed(PYTHON, Place(), job(installed=installed(has_entry_script=True))),
     ("problem", "sereno@nightly.service", "ExecStart", PYTHON), "./install.sh"),
    ("entry script", placed(PYTHON, Place("file", 0o644)),
     ("problem", "sereno@nightly.service", "ExecStart", PYTHON), "chmod +x"),
    ("entry script", placed(PYTHON, Place("file", 0o755, is_noexec=True, mount="/srv")),
     ("problem", "sereno@nightly.service", "ExecStart", PYTHON), "mount -o remount,exec /srv"),
    ("entry script", placed(PYTHON, Place("file", 0o755, runs="3.9")),
     ("problem", "sereno@nightly.service", "ExecStart", PYTHON), "make the environment of shop again"),
    ("entry script", placed("/gone", Place(), places={PYTHON: Place("file", 0o755, interpreter="/gone")}) ,
     ("problem", "sereno@nightly.service", "ExecStart", "/gone"), "make the environment of shop again"),
    ("package", machine(job(missing_module="shop.jobs")),
     ("problem", "sereno@nightly.service", "Function", "shop.jobs"), "install it again"),
    ("account", machine(accounts={"sereno": None}), ("problem", "sereno", "user", "missing"), "systemd-sysusers"),
    ("account", machine(job(settings=service((SERVICE, "User", "web"))), accounts={"web": None}),
     ("problem", "web", "user", "missing"), "useradd --system web"),
    ("account", machine(groups={"sereno": None}), ("problem", "sereno", "group", "missing"), "systemd-sysusers"),
    ("needed path", placed(SECRET, Place(), WITH_SECRET), ("problem", SECRET, "path", "missing"),
     "write this secret again"),
    ("needed path", placed(SECRET, Place("file", 0o644), WITH_SECRET), ("warning", SECRET, "mode", "0644"),
     "chmod go-rwx"),
    ("metrics", placed(METRICS, Place(), WITH_METRICS),
     ("problem", METRICS, "SERENO_TEXTFILE_DIR", "missing"), "install -d -g sereno -m 775 /var/lib/metrics"),
    ("metrics", placed(METRICS, Place("directory", 0o755), WITH_METRICS),
     ("problem", METRICS, "SERENO_TEXTFILE_DIR", "mode 0755"), "chgrp sereno /var/lib/metrics"),
    ("metrics", placed(METRICS, Place("file", 0o777), WITH_METRICS),
     ("problem", METRICS, "SERENO_TEXTFILE_DIR", "no directory"), "another directory"),
    ("metrics", placed(METRICS, Place("directory", 0o775, gid=990), WITH_METRICS),
     ("problem", METRICS, "SERENO_TEXTFILE_DIR", "read-only"), "ReadWritePaths="),
    ("closed", placed("/srv/x.py", Place("file", 0o644, gates=(("/srv", 0o750, 0, 0),)), job(code=("/srv/x.py",))),
     ("problem", "/srv", "mode", "closed"), "chmod o+x /srv"),
    ("closed", placed("/srv", Place("directory", 0o711), job(code=("/srv",))),
     ("problem", "/srv", "mode", "closed"), "chmod o+rx /srv"),
    ("closed", placed("/root/x", Place("directory", 0o755, gates=(("/root", 0o700, 0, 0),)), job(code=("/root/x",))),
     ("problem", "/root", "mode", "closed"), "keep the code outside of homes"),
    ("closed", placed("/srv/x.py", Place("file", 0o640), job(code=("/srv/x.py",))),
     ("problem", "/srv/x.py", "mode", "closed"), "chmod o+r /srv/x.py"),
    ("closed", placed("/srv/u.py", Place("file", 0o204, uid=990), job(code=("/srv/u.py",))),
     ("problem", "/srv/u.py", "mode", "closed"), "chmod u+r /srv/u.py"),
    ("closed", placed("/srv/g", Place("directory", 0o705, gid=990), job(code=("/srv/g",))),
     ("problem", "/srv/g", "mode", "closed"), "chmod g+rx /srv/g"),
    ("elsewhere", machine(job(settings=service(("[Timer]", "Unit", "x.service")))),
     ("problem", "sereno@nightly.timer", "Unit", "x.service"), "systemctl cat"),
    ("elsewhere", placed(TOLD, Place("file", 0o600), job(settings=service((UNIT, "OnFailure", "")))),
     ("warning", "sereno@nightly.service", "OnFailure", "(empty)"), "systemctl cat"),
    ("changed unit", machine(orphans={"x": "shop"}),
     ("problem", "sereno@x.timer", "file", "missing"), "start the application shop again"),
    ("foreign file", machine(odd_files=("/u/x.conf",)), ("problem", "/u/x.conf", "kind", "no file"), "mv /u/x.conf"),
    ("masked", machine(masks=frozenset({"sereno@.service"}), has_template=False),
     ("problem", "sereno@.service", "link to", "/dev/null"), "systemctl unmask sereno@.service && ./install.sh"),
    ("own unit", machine(units={"sereno-seed.service": {"ActiveState": "activating", "SubState": "auto-restart"}}),
     ("problem", "sereno-seed.service", "ActiveState", "failed"), "systemctl start sereno-seed.service"),
    ("own unit", machine(units={"sereno.target": {"LoadState": "masked"}}),
     ("problem", "sereno.target", "LoadState", "masked"),
     "systemctl unmask sereno.target && ./install.sh && systemctl enable --now sereno.target"),
    ("versions", machine(missing_packages=("lmdb",)), ("problem", "/opt/x", "packages", "lmdb"), "./install.sh"),
    ("needed path", placed("/gone", Place(), job(settings=service((SERVICE, "WorkingDirectory", "/gone")))),
     ("problem", "/gone", "path", "missing"), "take it out of the drop-in"),
    ("code of root", placed("/srv/x.py", Place("file", 0o644, uid=7, open_at="/srv"),
                            job(settings=service((SERVICE, "User", "root")), code=("/srv/x.py",))),
     ("problem", "/srv", "owner or mode", "not root's alone"), "user="),
    ("code of root", placed("/opt/x", Place("directory", uid=7, open_at="/opt")), ("problem", "/opt", "owner", "7"),
     "root's alone"),
    ("both scopes", machine(twice=(("nightly", "ada"),)),
     ("warning", "sereno@nightly.timer", "scope", "also ada"), "runuser -l ada"),
    ("installation", placed("/opt/x/venv/bin/python3", Place("file", 0o755, runs="3.13", built_for=("3.11",))),
     ("problem", "/opt/x", "Python", "3.13"), "./install.sh"),
    ("run", machine(job(service={**FAILED, "Result": "exit-code", "ExecMainStatus": "226"})),
     ("problem", "sereno@nightly.service", "Result", "exit-code (status 226)"), "journalctl -u"),
    ("run", machine(job(service={**DONE, "ActiveState": "failed", "Result": "timeout", "ExecMainStatus": "15"})),
     ("problem", "sereno@nightly.service", "Result", "timeout (status 15)"), "sereno run nightly"),
    ("run", machine(job(last_status="failed")),
     ("problem", "sereno@nightly.service", "SERENO_STATUS", "failed"), "sereno run nightly"),
    ("run", machine(job(last_status="failed", last_error="killed by SIGSEGV")),
     ("problem", "sereno@nightly.service", "SERENO_STATUS", "failed"), "sereno run nightly"),
    ("run", machine(job(last_status="lost", last_error=LEFT)),
     ("problem", "sereno@nightly.service", "SERENO_STATUS", "missing"), "sereno logs nightly"),
    ("run", machine(job(last_status="skipped")),
     ("warning", "sereno@nightly.service", "SERENO_STATUS", "skipped"), "sereno run nightly"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "facts", "expected", "hint"), CASES,
    ids=[f"{check}: {expected[1]} {expected[3]}" for check, _, expected, _ in CASES],
)  # fmt: skip
def test_a_check_names_what_is_wrong_and_the_way_out_and_no_other_check_joins_in(
    check: str, facts: Facts, expected: tuple[str, str, str, str], hint: str
) -> None:
    (found,) = examine(facts)
    assert found.check == check
    assert (found.level, found.subject, found.field, found.value) == expected
    assert hint in found.hint
    assert found.message and "\n" not in found.message + found.hint


def test_a_condition_that_is_gone_is_no_finding_although_it_kept_the_last_start_from_being_one() -> (
    None
):
    unmet = {**DONE, "ConditionResult": "no", "ConditionTimestamp": "@1"}
    assert examine(machine(job(service=unmet))) == []


def test_that_another_host_has_a_run_of_the_fleet_is_no_finding() -> None:
    shared = job(installed=installed(once_per="fleet"), last_status="skipped")
    assert examine(machine(shared)) == []


def test_every_check_has_a_case() -> None:
    assert {"next elapse", *(check for check, *_ in CASES)} == set(CHECKS)


@pytest.mark.parametrize(
    ("late_s", "slack_s", "is_found"),
    [
        (0, 1, False),
        (-5, 1, True),
        (5, 1, True),
        (DAY_S, 1, True),
        (300, 600, False),  # a random delay
        (900, 600, True),
        (-HOUR_S - 30, 1, False),  # due now: the manager is about to start it
        (-HOUR_S - 90, 1, True),  # overdue
        (-HOUR_S - 90, 120, False),  # within its accuracy
    ],
)
def test_a_calendars_next_elapse_is_compared_with_our_own_computation(
    late_s: float, slack_s: float, is_found: bool
) -> None:
    found = examine(machine(job(next_s=NOW_S + HOUR_S + late_s, slack_s=slack_s)))
    assert [each.check for each in found] == ["next elapse"] * is_found
    assert [each.hint for each in found] == ["systemctl daemon-reload"] * is_found


@pytest.mark.parametrize(
    ("late_s", "bases_s", "is_found"),
    [
        (0, (NOW_S - HOUR_S,), False),
        (60, (NOW_S - HOUR_S,), True),
        (-60, (NOW_S - HOUR_S,), True),
        (0, (), False),
        (HOUR_S, (NOW_S + 9 * HOUR_S,), False),  # the clock was set back: it counts from now
        (0, (NOW_S - 60, NOW_S - HOUR_S), False),  # seeded, then run by hand
    ],
)
def test_an_intervals_next_elapse_is_one_interval_after_what_it_counts_from(
    late_s: float, bases_s: tuple[float, ...], is_found: bool
) -> None:
    well = interval(next_s=NOW_S + HOUR_S + late_s)
    found = examine(machine(replace(well, bases_s=bases_s)))
    assert [each.check for each in found] == ["next elapse"] * is_found
    assert examine(machine(replace(well, bases_s=bases_s, has_own_drop_ins=True))) == []


def test_no_timer_is_blamed_for_what_is_switched_off_above_it() -> None:
    off = {**TARGET, "ActiveState": "inactive"}
    stopped = job(timer=STOPPED, next_s=None)
    for facts in (
        machine(stopped, target=off, apps=(("shop", True, off),)),
        machine(stopped, apps=(("shop", True, off),)),
        machine(stopped, apps=(("shop", False, off),)),
    ):
        assert [each.check for each in examine(facts)] == ["target"]


def test_a_job_that_runs_at_this_moment_is_neither_wedged_nor_late() -> None:
    running = {**DONE, "ActiveState": "activating"}
    assert (
        examine(machine(job(service=running, timer={**ACTIVE, "SubState": "running"}, next_s=None)))
        == []
    )
    assert examine(machine(job(service=running, next_s=NOW_S - DAY_S))) == []


def test_a_calendar_that_is_over_is_not_wedged() -> None:
    elapsed = {**ACTIVE, "SubState": "elapsed"}
    assert examine(machine(job(timer=elapsed, next_s=None, expected_s=None))) == []
    (found,) = examine(machine(job(timer=elapsed, next_s=None)))
    assert found.check == "timer wedged"


@pytest.mark.parametrize(
    ("begins_days", "period_days", "installed_days", "is_found"),
    [
        (100, 1, 90, False),
        (6, 1, 90, True),  # less than a week
        (8, 1, 90, False),
        (8, 7, 90, True),  # less than two of its periods
        (15, 7, 90, False),
        (1, 7, 0.5, False),  # it was installed after that
    ],
)
def test_the_journal_must_reach_back_over_a_week_and_two_periods_of_the_slowest_job(
    begins_days: float, period_days: float, installed_days: float, is_found: bool
) -> None:
    facts = machine(
        job(period_s=period_days * DAY_S, installed_s=NOW_S - installed_days * DAY_S),
        journal_begins_s=NOW_S - begins_days * DAY_S,
    )
    found = examine(facts)
    assert [(each.check, each.field) for each in found] == [("journal", "begins")] * is_found


def test_the_last_run_is_told_of_in_the_words_of_everywhere() -> None:
    for status in ("failed", "lost"):
        (finding,) = examine(machine(job(last_status=status, last_error="killed by SIGSEGV")))
        assert finding.message.endswith(": killed by SIGSEGV")
    killed = {**DONE, "ActiveState": "failed", "Result": "timeout", "ExecMainStatus": "9"}
    (finding,) = examine(machine(job(service=killed, last_error="over its time limit")))
    assert finding.message == "the last run failed: over its time limit"


def test_a_run_that_goes_on_or_was_stopped_is_no_finding() -> None:
    running = {**DONE, "ActiveState": "activating"}
    assert examine(machine(job(service=running, last_status="lost"))) == []
    # What did not heed the stop was killed, so that the unit has failed.
    killed = {**DONE, "ActiveState": "failed", "Result": "timeout", "ExecMainStatus": "9"}
    assert examine(machine(job(service=killed, last_status="interrupted"))) == []


def test_problems_come_before_warnings_and_commands_name_the_users_scope() -> None:
    found = examine(
        machine(job(last_status="failed"), scope="user", old_stamps=("/s",), lingers=True)
    )
    assert [each.level for each in found] == ["problem", "warning"]
    assert found[0].hint.endswith("sereno run nightly --user")
    (stopped,) = examine(machine(job(timer=STOPPED), scope="user", lingers=True))
    assert stopped.hint == "sereno pause nightly --user && sereno resume nightly --user"


@pytest.mark.parametrize(
    ("line", "is_weaker"),
    [
        ("ProtectSystem=no", True), ("ProtectSystem=full", True), ("ProtectSystem=strict", False),
        ("NoNewPrivileges=off", True), ("NoNewPrivileges=yes", False), ("User=root", True), ("User=", True),
        ("User=web", False), ("Group=", False), ("Group=root", True), ("SupplementaryGroups=web 0", True),
        ("SupplementaryGroups=web", False), ("ReadOnlyPaths=", True), ("ReadOnlyPaths=/etc", False),
        ("TemporaryFileSystem=", True), ("TemporaryFileSystem=/x", False), ("ReadWritePaths=/sys", True),
        ("CapabilityBoundingSet=CAP_NET_ADMIN", True), ("CapabilityBoundingSet=", False),
        ("CapabilityBoundingSet=~CAP_SYS_ADMIN", False), ("SystemCallFilter=", True),
        ("SystemCallFilter=@privileged", True), ("SystemCallFilter=~@mount", False), ("ReadWritePaths=/", True),
        ("ReadWritePaths=-/etc/shop", True), ("ReadWritePaths=/srv/shop", False), ("PrivateNetwork=no", True),
        ("IPAddressAllow=any", True), ("RestrictAddressFamilies=AF_INET", True), ("MemoryMax=1G", False),
    ],
)  # fmt: skip
def test_a_drop_in_weakens_the_sandbox_if_it_allows_what_the_template_does_not(
    line: str, is_weaker: bool
) -> None:
    key, _, value = line.partition("=")
    assert bool(list(weakenings([(key, value)]))) is is_weaker


def test_every_setting_of_the_templates_sandbox_is_judged() -> None:
    template = Path(gather.__file__).parents[4] / "systemd/system/sereno@.service"
    lines = settings_in(template.read_text())
    settings = [(key, value) for section, key, value in lines if section == SERVICE]
    plain = """
    Type ExecStart Slice TimeoutStartSec TimeoutStopSec SyslogIdentifier LogExtraFields LogRateLimitIntervalSec UMask
    RemoveIPC SystemCallErrorNumber SuccessExitStatus NotifyAccess Environment
    """.split()
    assert {key for key, _ in settings} - set(plain) <= set(WEAKER)
    # What the template itself says is weak by no rule, but for the list that it lets through.
    weak = [pair for pair in weakenings(settings) if pair[0] != "SystemCallFilter"]
    assert weak == []


def test_settings_of_a_drop_in_are_read_as_systemd_reads_them() -> None:
    text = "[Unit]\nUser=no\n[Service]\n# User=x\nUser = root \nReadWritePaths=/a \\\n; note\n  /b\n\n[X]\nUser=y\n"
    expected = (("User", "root"), ("ReadWritePaths", "/a  /b"))
    assert [
        (key, value) for section, key, value in settings_in(text) if section == SERVICE
    ] == list(expected)


def test_a_generated_file_tells_whether_it_was_changed() -> None:
    for text in render(
        Job(id="x", function="m:f", trigger=IntervalTrigger(hours=1), timeout_s=5)
    ).values():
        assert is_as_written(text)
        assert not is_as_written(text.replace("x", "y", 1))
        assert not is_as_written(text + "\n")
        assert not is_as_written(text + "[Timer]\n")
        assert not is_as_written(text.rpartition("Digest=")[0])


@pytest.mark.parametrize(
    ("text", "expected_s"), [("1s", 1), ("1min 500ms", 60.5), ("0", 0), ("", 0), ("infinity", 0), ("1h 2min", 3720)]
)  # fmt: skip
def test_a_span_of_systemctl_is_read(text: str, expected_s: float) -> None:
    assert seconds(text) == expected_s


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the user's own with entries in several pages; its directory."""
    monkeypatch.setenv("SERENO_CACHE_DIR", str(tmp_path))
    cache = MetadataCache()
    for number in range(50):
        cache.set(f"k{number}", number)
    cache.close()
    return tmp_path / "metadata"


def test_a_damaged_cache_is_named_at_once_and_until_somebody_has_looked(own_cache: Path) -> None:
    with open(own_cache / "format-3/data.mdb", "r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * 6 * 4096)
    for _ in range(2):
        found = cache_facts(True)
        assert found is not None
        (path,) = found.damaged
        assert Path(path, "data.mdb").exists()
        assert {entry.path for entry in found.inside} >= {f"{own_cache}/format-3/data.mdb"}
        assert not any("damaged-" in entry.path for entry in found.inside)


def test_files_of_a_cache_that_vanish_meanwhile_hide_nothing(own_cache: Path) -> None:
    # Left by a process that was killed while it made them: whoever opens the cache removes them.
    (own_cache / "new-1").mkdir()
    (own_cache / "new-1/data.mdb").touch()
    (own_cache / "format-3/gone").symlink_to("nowhere")
    found = cache_facts(True)
    assert found is not None
    assert found.stats is not None
    assert found.stats["size"] == 50
    assert found.damaged == ()


class AskedManager(FakeManager):
    """Answers for each unit as a machine that is well does, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, ...]] = []

    def list_units(self, *patterns: str) -> dict[str, dict[str, str]]:
        self.asked.append(patterns)
        timers = {unit: ACTIVE for unit in self.active if unit.endswith(".timer")}
        failed = {**FAILED, "SubState": "failed"}
        return timers | {"sereno-app@shop.target": ACTIVE, "sereno@c.service": failed}

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        return TARGET

    def show_all(self, units: Any, *properties: str) -> dict[str, dict[str, str]]:
        self.asked.append(tuple(units))
        return {unit: {"Result": "timeout", "ExecMainStatus": "15"} for unit in self.asked[-1]}

    def loaded_s(self) -> float:
        return 9e9

    def version(self) -> str:
        return "252.39"


class JournalOfTheUser:
    """A journal in which a run of the user's own job `a` failed last."""

    def __init__(self, *, user: bool) -> None:
        assert user

    def __enter__(self) -> JournalOfTheUser:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def latest(self, job_ids: Any, count: int) -> dict[str, list[Run]]:
        return {"a": [Run("a", "r", "failed", NOW_S - 1, NOW_S)]}

    def begins_s(self) -> float:
        return NOW_S - 100 * DAY_S


def test_the_facts_of_any_number_of_jobs_are_asked_for_at_once(
    units: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manager = AskedManager()
    monkeypatch.setattr(installation, "Systemctl", lambda user: manager)
    monkeypatch.setattr(gather.journal, "installed", lambda: True)
    for module in (gather, runs_of_many):
        monkeypatch.setattr(module, "RunsOfMany", JournalOfTheUser)
    backend = scheduler.Scheduler("shop", scope="user", manager=manager)
    for job_id in "abc":
        backend.add_cron_job(backend_jobs.report, job_id, hour=3)
    backend.start()
    (units / timer_name("b")).write_text((units / timer_name("b")).read_text().replace("03", "04"))
    manager.asked.clear()
    assert cli.main(["doctor", "--user"]) == 1
    said = capsys.readouterr().out
    assert f"problem: {units / timer_name('b')}: the file is not as sereno wrote it" in said
    assert "problem: sereno@a.service: the last run, 2027-01-15 " in said
    assert "problem: sereno@c.service: the last run failed (Result: timeout (status 15))" in said
    # One question for all, one for those that leave one open, and one about what is not a job's.
    assert manager.asked == [
        ("sereno@*.timer", "sereno@*.service", "sereno-app@*", TARGET_UNIT),
        ("sereno@c.timer", "sereno@c.service"),
        ("systemd-journald.service", *OWN_UNITS),
    ]


def test_what_others_name_is_told_on_one_printable_line() -> None:
    name = "/u/sereno@x.timer\n\x1b[2J $HOME"
    (found,) = examine(machine(foreign=((name, False),)))
    assert found.subject == "/u/sereno@x.timer\\n\\x1b[2J $HOME"
    assert found.hint.isprintable()
    (found,) = examine(machine(foreign=(("/u/$(id) x", False),)))
    assert found.hint.startswith("mv '/u/$(id) x' ~/")


def test_a_check_that_fails_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Facts) -> Any:
        raise ValueError("x")

    monkeypatch.setitem(CHECKS, "clock", fails)
    found = examine(machine(old_stamps=("/s",)))
    assert [(each.check, each.field) for each in found] == [("clock", "clock"), ("stamp", "timer")]


def test_many_jobs_with_one_cause_are_one_finding() -> None:
    jobs = [replace(job(), installed=installed(name)) for name in "abcdef"]
    failed = {**FAILED, "Result": "exit-code"}
    for status, changes in [
        ("203", {"places": {PYTHON: Place()}}),
        ("217", {"accounts": {"sereno": None}}),
        ("226", {}),
    ]:
        broken = [replace(each, service={**failed, "ExecMainStatus": status}) for each in jobs]
        (found,) = examine(machine(*broken, **changes))
        assert "6 jobs (a, …)" in found.message


IN_ALL = "/etc/systemd/system/sereno@.service.d/x.conf"


def of_all(*lines: tuple[str, str, str]) -> dict[str, Any]:
    """What a drop-in of the template makes of a job."""
    return {"settings": service(*lines), "drop_ins": (IN_ALL,)}


@pytest.mark.parametrize(
    ("check", "changes", "of_machine"),
    [
        ("timer inactive", {"timer": STOPPED}, {}),
        ("timer wedged", {"timer": {**ACTIVE, "SubState": "elapsed"}, "next_s": None}, {}),
        ("next elapse", {"next_s": NOW_S + 9 * HOUR_S}, {}),
        ("time zone", {"calendars_now": ("*-*-* 03:30:00",)}, {}),
        ("masked", {"service": {**DONE, "LoadState": "masked"}}, {}),
        ("changed unit", {"changed_files": ("/u/a",)}, {}),
        ("package", {"missing_module": "shop.jobs"}, {}),
        ("dependency", of_all((UNIT, "Requires", "x.mount")), {"units": {"x.mount": {"LoadState": "masked"}}}),
        ("dependency", {**of_all((UNIT, "ConditionPathExists", "/x")),
                        "service": {**DONE, "ConditionResult": "no", "ConditionTimestamp": "@1"}}, {}),
        ("command", of_all((SERVICE, "ExecStart", "/bin/x")), {}),
        ("elsewhere", of_all(("[Timer]", "Unit", "x.service")), {}),
        ("needed path", of_all((SERVICE, "WorkingDirectory", "/gone")), {"places": {"/gone": Place()}}),
        ("run", {"last_status": "lost", "last_error": CUT_OFF}, {}),
        ("run", {"last_status": "skipped"}, {}),
        ("paused", {"installed": None, "timer": STOPPED}, {}),
    ],
)  # fmt: skip
def test_a_hundred_jobs_with_one_cause_are_one_finding_with_one_way_out(
    check: str, changes: dict[str, Any], of_machine: dict[str, Any]
) -> None:
    names = [f"job{number}" for number in range(100)]
    is_paused = "installed" in changes
    jobs = [
        job(**{**changes, "installed": installed(name, enabled=not is_paused)}) for name in names
    ]
    own_lines = {"drop_ins": {IN_ALL: changes.get("settings", ())[4:]}}
    (found,) = examine(machine(*jobs, **own_lines, **of_machine))
    assert found.check == check
    assert "systemctl cat" not in found.hint
    assert "100 jobs (job0, …)" in found.message or check == "changed unit"
    if "$job" in found.hint:
        assert found.hint.count("for job in") == 1
        assert {*names} <= {*found.hint.replace(";", " ").split()}


def test_a_module_that_is_there_for_another_python_is_the_installations_and_no_matter_of_rights() -> (
    None
):
    attempts = gather._Attempts()
    wanted = "lmdb.cpython"

    def ask() -> None:
        raise ModuleNotFoundError(f"No module named {wanted!r}", name=wanted)

    assert attempts.ask("cache", ask, None) is None
    assert (attempts.failed, attempts.lacking) == ([], {"lmdb"})
    lacking = machine(missing_packages=("lmdb",), user="ada")
    for facts in (lacking, placed("/opt/x/venv/bin/python3", Place(runs="3.13", kind="file", built_for=("3.11",)),
                                missing_packages=("lmdb",), user="ada")):  # fmt: skip
        (found,) = examine(facts)
        assert found.hint == "./install.sh"


def test_findings_that_differ_in_their_subject_alone_are_one() -> None:
    changed = [job(changed_files=(f"/u/{name}",)) for name in "abc"]
    (found,) = examine(machine(*changed))
    assert (found.subject, found.message.partition("; the same")[2]) == (
        "/u/a",
        " of /u/b and 1 more",
    )


@pytest.mark.parametrize("makes", [os.mkfifo, os.mkdir, lambda path: os.symlink("nowhere", path)])
def test_what_is_no_file_is_looked_at_without_waiting(tmp_path: Path, makes: Any) -> None:
    makes(tmp_path / "x")
    assert look(str(tmp_path / "x")).kind in ("other", "directory", "missing")
    with pytest.raises(OSError):
        text_of(tmp_path / "x")


def test_a_script_names_its_interpreter_and_an_environment_the_versions_that_it_is_for(
    tmp_path: Path,
) -> None:
    script = tmp_path / "job"
    script.write_text("#! /srv/venv/bin/python -I\n")
    script.chmod(0o755)
    assert look(str(script)).interpreter == "/srv/venv/bin/python"
    for place in ("bin", "lib/python3.11/site-packages"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "pyvenv.cfg").touch()
    (tmp_path / "python3.13").write_text("")
    (tmp_path / "bin/python").symlink_to(tmp_path / "python3.13")
    found = look(str(tmp_path / "bin/python"))
    assert (found.built_for, found.runs) == (("3.11",), "3.13")


def test_the_first_path_on_the_way_that_another_may_change_is_found_also_behind_a_link(
    tmp_path: Path,
) -> None:
    top = tmp_path / "a"
    (top / "b").mkdir(parents=True)
    (top / "b/code.py").touch()
    (tmp_path / "link").symlink_to("a/b/../b/code.py")
    assert open_at(str(tmp_path / "link")) is None
    top.chmod(0o777)
    assert open_at(str(tmp_path / "link")) == str(top)
    top.chmod(0o755)
    (top / "b").chmod(0o775)
    os.chown(top / "b", -1, 4711) if os.geteuid() == 0 else (top / "b").chmod(0o777)
    assert open_at(str(tmp_path / "link")) == str(top / "b")


def test_a_module_is_found_as_a_file_a_package_or_an_extension(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    for name in ("shop/jobs.py", "fast.cpython-311-x86_64-linux-gnu.so"):
        (tmp_path / name).touch()
    places = ("/nowhere", str(tmp_path))
    assert module_place("shop", places) == f"{tmp_path}/shop"
    assert module_place("shop.jobs", places) == f"{tmp_path}/shop/jobs.py"
    assert module_place("fast", places) is not None
    assert module_place("shop.gone", places) is None
