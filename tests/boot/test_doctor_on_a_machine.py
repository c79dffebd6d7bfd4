"""`sereno doctor` on a machine that is really broken: it names the cause, and what it says mends it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from shop import STARTED, Shop, install_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from machine import Machine

TIMER = "sereno@cache_cleanup_hourly.timer"
SERVICE = "sereno@cache_cleanup_hourly.service"
UNITS = "/etc/systemd/system"
RELEASE, STORE = "/opt/sereno/current", "/srv/shop"
SCRIPT = f"{RELEASE}/bin/cache_cleanup_hourly"
CACHE = "/var/cache/sereno/metadata"
INSTALL = "/src/install.sh --wheels /wheels"
# For rows that differ from one with INSTALL by the file that is missing: an installation takes ten seconds.
ADVISES_INSTALL = f"""case "$HINT" in *"{INSTALL}"*) ;; *) exit 1 ;; esac"""
TOLD = "/etc/sereno/notify.toml"
METRICS = "/var/lib/metrics"
JOBS = (
    "add_interval_job(shop_jobs.quick, 'often', hours=1)",
    "add_cron_job(shop_jobs.quick, 'eastern', hour=3, timezone='Asia/Tokyo')",
    "add_cron_job(shop_jobs.quick, 'served', hour=4, user='app')",
    "add_cron_job(shop_jobs.quick, 'secret', hour=5, credentials={'token': '/etc/shop.token'})",
    "add_cron_job(shop_jobs.quick, 'rooted', hour=6, user='root')",
)


def drop_in(unit: str, *lines: str, name: str = "slip") -> str:
    """Shell that writes an administrator's drop-in and has it read."""
    path = f"{UNITS}/{unit}.d"
    text = "\\n".join(lines)
    return f"mkdir -p {path}; printf '{text}\\n' >{path}/'{name}.conf'; systemctl daemon-reload"


def slip_of(unit: str, name: str = "slip") -> str:
    return f"{UNITS}/{unit}.d/{name}.conf"


def mask(unit: str) -> str:
    """Shell that masks one of sereno's own units; `systemctl mask` refuses to where the unit itself is."""
    return f"ln -sf /dev/null {UNITS}/{unit}; systemctl daemon-reload"


TAKE_OUT = f"rm {UNITS}/sereno@*.service.d/slip.conf; systemctl daemon-reload"
# Name of the check, the fault, the subject, what mends it: None is the hint itself, "{hint}" in it stands for the hint,
# "{then}" for what follows its last ";" or "then: ".
Row = tuple[str, str, str, str | None]
FAULTS: list[Row] = [
    ("timer inactive", f"systemctl stop {TIMER}", TIMER, None),
    ("paused", f"systemctl disable --now {TIMER}", TIMER, None),
    (
        "masked",
        f"ln -sf /dev/null {UNITS}/{TIMER} && systemctl daemon-reload && systemctl stop {TIMER}",
        f"{UNITS}/{TIMER}",
        None,
    ),
    (
        "foreign file",
        f"printf '[Timer]\\nOnCalendar=daily\\n' >{UNITS}/sereno@other.timer",
        f"{UNITS}/sereno@other.timer",
        None,
    ),
    ("foreign file", f"mkfifo {UNITS}/sereno@pipe.timer", f"{UNITS}/sereno@pipe.timer", None),
    (
        "changed unit",
        f"sed -i 's/^OnCalendar=.*/OnCalendar=daily/' {UNITS}/{TIMER}; systemctl daemon-reload",
        f"{UNITS}/{TIMER}",
        None,
    ),
    ("daemon-reload", f"touch {UNITS}/{TIMER}", f"{UNITS}/{TIMER}", None),
    ("target", "systemctl stop sereno.target", "sereno.target", None),
    ("target", "systemctl disable sereno.target", "sereno.target", None),
    ("target", "systemctl stop sereno-app@sereno.target", "sereno-app@sereno.target", None),
    ("time zone", "ln -sf /usr/share/zoneinfo/Asia/Kolkata /etc/localtime", TIMER, None),
    # What a run needs.
    ("entry script", f"chmod -x {SCRIPT}", SERVICE, None),
    (
        "entry script",
        f"mv {SCRIPT} /root/script",
        SERVICE,
        f"{ADVISES_INSTALL}; mv /root/script {SCRIPT}",
    ),
    (
        "entry script",
        f"mv {STORE}/venv/lib/python3.* {STORE}/venv/lib/python3.7",
        "sereno@eastern.service",
        f"cd {STORE}/venv/lib && mv python3.7 $(basename $(realpath ../bin/python))",
    ),
    (
        "installation",
        f"mv {RELEASE}/venv/lib/python3.* {RELEASE}/venv/lib/python3.7",
        "/opt/sereno/releases/",
        # That it mends this is in test_install.py.
        f"{ADVISES_INSTALL}; cd {RELEASE}/venv/lib && mv python3.7 $(basename $(realpath ../bin/python3))",
    ),
    (
        "package",
        f"mv {STORE}/shop_jobs.py /root",
        "sereno@eastern.service",
        f"mv /root/shop_jobs.py {STORE}",
    ),
    ("needed path", "chmod 644 /etc/shop.token", "/etc/shop.token", None),
    (
        "code of root",
        f"chown app {STORE}/shop_jobs.py",
        f"{STORE}/shop_jobs.py",
        f"chown root {STORE}/shop_jobs.py",
    ),
    (
        "metrics",
        drop_in(
            "sereno@.service",
            "[Service]",
            f"Environment=SERENO_TEXTFILE_DIR={METRICS}",
            f"ReadWritePaths=-{METRICS}",
        ),
        METRICS,
        f"{{hint}}; test -d {METRICS}",
    ),
    (
        "metrics",
        f"install -d -g sereno -m 775 {METRICS};"
        + drop_in("sereno@.service", "[Service]", f"Environment=SERENO_TEXTFILE_DIR={METRICS}"),
        METRICS,
        f"echo ReadWritePaths=-{METRICS} >>{slip_of('sereno@.service')}; systemctl daemon-reload",
    ),
    ("closed", f"chmod 700 {STORE}", STORE, f"{{hint}}; runuser -u sereno -- ls {STORE}"),
    ("closed", f"chmod 600 {STORE}/shop_jobs.py", f"{STORE}/shop_jobs.py", None),
    ("closed", "chmod 700 /opt/sereno/releases", "/opt/sereno/releases", None),
    (
        "changed unit",
        f"mv {UNITS}/sereno@often.timer /root; systemctl daemon-reload",
        "sereno@often.timer",
        f"mv /root/sereno@often.timer {UNITS}; systemctl daemon-reload; sereno pause often; sereno resume often",
    ),
    (
        "versions",
        f"mv {RELEASE}/venv/lib/python3.*/site-packages/lmdb /root",
        "/opt/sereno/releases/",
        f"mv /root/lmdb {RELEASE}/venv/lib/python3.*/site-packages",
    ),
    (
        "entry script",
        f"cp -a {SCRIPT} /root/unix; sed -i '1s/ -I//; s/$/\\r/' {SCRIPT}",
        SERVICE,
        f"cp -a /root/unix {SCRIPT}",
    ),
    # What sereno itself needs.
    ("cache rights", "chmod 0755 /var/cache/sereno", "/var/cache/sereno", None),
    ("cache rights", f"rm -r {CACHE}", CACHE, None),
    (
        "stamp",
        "touch /var/lib/systemd/timers/stamp-sereno@gone.timer",
        "/var/lib/systemd/timers/stamp-sereno@gone.timer",
        None,
    ),
    (
        "sandbox",
        drop_in("sereno@.service", "[Service]", "ProtectSystem=no"),
        slip_of("sereno@.service"),
        f"rm {slip_of('sereno@.service')} && systemctl daemon-reload",
    ),
    ("messages", f"mkdir -p /etc/sereno; mkfifo {TOLD}", TOLD, None),
    ("messages", f"{{told}}; chmod 644 {TOLD}", TOLD, None),
    ("account", "userdel sereno-notify", "sereno-notify", None),
    ("both scopes", "{ada}", "sereno@often.timer", None),
    (
        "machine id",
        "rm -f /var/lib/dbus/machine-id; echo 0123456789abcdef0123456789abcdef >/var/lib/dbus/machine-id",
        "/var/lib/dbus/machine-id",
        None,
    ),
    (
        "mounts",
        "for n in $(seq 200); do mkdir -p /run/many/$n; mount -t tmpfs none /run/many/$n; done",
        "/proc/self/mountinfo",
        "{first} | grep -q /run/many; umount /run/many/*",
    ),
    (
        "disk",
        "mount -t tmpfs -o size=1m none /tmp; head -c 2M /dev/zero >/tmp/full || true",
        "/tmp",
        "{first} | grep -q /tmp; umount /tmp",
    ),
    (
        "disk",
        "mkdir -p /var/lib/sereno; mount -t tmpfs -o ro none /var/lib/sereno",
        "/var/lib/sereno",
        "{then}; umount /var/lib/sereno",
    ),
]
# More of the kind, which differ in what doctor reads.
FAULTS += [
    ("command", drop_in("sereno@often.service", "[Service]", "ExecStart=/bin/true"), "sereno@often.service", None),
    ("masked", f"systemctl mask {SERVICE}", SERVICE, None),
    ("own unit", mask("sereno.target"), "sereno.target", None),
    ("own unit", "{told}; systemctl start sereno-notify.socket; systemctl stop sereno-notify.socket",
     "sereno-notify.socket", None),
    ("own unit", f"mv {UNITS}/sereno-failed.service /root", "sereno-failed.service",
     f"{ADVISES_INSTALL}; mv /root/sereno-failed.service {UNITS}"),
    ("needed path", drop_in("sereno@.service", "[Service]", "ReadWritePaths=/gone"), "/gone", TAKE_OUT),
    ("elsewhere", drop_in("sereno@often.timer", "[Timer]", "Unit=other.service"), "sereno@often.timer", None),
    ("elsewhere", "{told}; " + drop_in("sereno@.service", "[Unit]", "OnFailure="),
     "sereno@cache_cleanup_hourly.service", None),
    ("own unit", "{told}; systemctl start sereno-notify.socket; rm -r /run/sereno", "sereno-notify.socket", None),
    ("foreign file", f"mkdir -p {UNITS}/sereno@often.service.d; mkfifo {slip_of('sereno@often.service')}",
     slip_of("sereno@often.service"), None),
    ("account", "userdel -f sereno", "sereno", None),
]  # fmt: skip
# What systemd decides, or says.
FAULTS_OF_UNITS: list[Row] = [
    ("unit file", drop_in("sereno@eastern.timer", "[Timer]", "OnCalendar=", "OnCalendar=Mon..Frid 03:00"),
     slip_of("sereno@eastern.timer"), None),
    ("unit file", drop_in("sereno@often.service", "[Service]", "Type=simple", "ExecStart=/bin/true"),
     "sereno@often.service", None),
    ("unit file", "mv /usr/share/zoneinfo/Asia/Tokyo /root", f"{UNITS}/sereno@eastern.timer",
     "mv /root/Tokyo /usr/share/zoneinfo/Asia; {then}"),
    ("dependency", drop_in("sereno@often.service", "[Unit]", "Requires=missing.service"), "sereno@often.service", None),
    # Without its seed an interval timer that has not run yet has nothing to count from.
    ("timer wedged", "rm -r /run/systemd/system/sereno@often.timer.d; systemctl daemon-reload", "sereno@often.timer",
     None),
    ("own unit", drop_in("sereno-seed.service", "[Service]", "ExecStart=", "ExecStart=/bin/false")
     + "; systemctl start sereno-seed.service || true", "sereno-seed.service",
     f"rm {slip_of('sereno-seed.service')}; systemctl daemon-reload; {{then}}"),
]  # fmt: skip

# Of those that systemd has a word in: it is the same part of it that another row tries on each release.
FAULTS += [
    (
        "unit file",
        drop_in("sereno@often.timer", "[Timer]", "OnCalendar=Mon..Frid 03:00"),
        slip_of("sereno@often.timer"),
        None,
    ),
    (
        "unit file",
        drop_in("sereno@.timer", "[Timer]", "OnCalendar=", "OnCalendar=Mon..Frid 03:00"),
        slip_of("sereno@.timer"),
        None,
    ),
    (
        "unit file",
        drop_in("sereno@often.service", "[Service]", "MemoryMax=lots"),
        slip_of("sereno@often.service"),
        None,
    ),
    (
        "unit file",
        drop_in("sereno@.service", "[Servic]", "MemoryMax=1G", name="a $(id) b"),
        slip_of("sereno@.service", "a $(id) b"),
        None,
    ),
    (
        "unit file",
        drop_in("sereno-notify.socket", "[Socket]", "SocketMode=rw"),
        slip_of("sereno-notify.socket"),
        None,
    ),
    (
        "unit file",
        "mv /usr/share/zoneinfo/Asia/Tokyo /root; systemctl daemon-reload",
        f"{UNITS}/sereno@eastern.timer",
        "mv /root/Tokyo /usr/share/zoneinfo/Asia; {then}",
    ),
    (
        "dependency",
        drop_in("sereno@often.service", "[Unit]", "ConditionPathExists=/missing")
        + "; systemctl start sereno@often.service",
        "sereno@often.service",
        None,
    ),
    (
        "unit file",
        drop_in("sereno@often.timer", "[Timer]", "OnUnitActiveSec="),
        "sereno@often.timer",
        None,
    ),
]
# Others of a kind that a row above is of: another unit, file or mode that the same check reads in the same way
# (tests/unit/observe/test_doctor.py). The lost environment, token and account are in test_doctor_on_refused_runs.py.
MORE_FAULTS: list[Row] = [
    (
        "entry script",
        f"mv {STORE}/venv {STORE}/gone",
        "sereno@eastern.service",
        f"mv {STORE}/gone {STORE}/venv",
    ),
    ("needed path", "mv /etc/shop.token /root", "/etc/shop.token", "mv /root/shop.token /etc"),
    ("code of root", f"chmod 777 {STORE}", STORE, f"chmod 755 {STORE}"),
    (
        "metrics",
        f"mkdir -p {METRICS}; chgrp root {METRICS}; chmod 755 {METRICS};"
        + drop_in(
            "sereno@.service",
            "[Service]",
            f"Environment=SERENO_TEXTFILE_DIR={METRICS}",
            f"ReadWritePaths=-{METRICS}",
        ),
        METRICS,
        None,
    ),
    ("closed", f"chmod 711 {STORE}", STORE, None),
    (
        "changed unit",
        f"mv {UNITS}/sereno@often.service.d/50-sereno.conf /root; systemctl daemon-reload",
        "sereno@often.service.d/50-sereno.conf",
        f"mv /root/50-sereno.conf {UNITS}/sereno@often.service.d; systemctl daemon-reload",
    ),
    ("cache rights", f"chown nobody {CACHE}", CACHE, None),
    ("cache rights", f"chmod 0640 {CACHE}/open.lock", f"{CACHE}/open.lock", None),
    ("messages", f"{{told}}; chgrp sereno {TOLD}; chmod 640 {TOLD}", TOLD, None),
    ("messages", f"{{told}}; chown app {TOLD}", TOLD, None),
    (
        "disk",
        "mount -t tmpfs -o nr_inodes=9 none /tmp; for n in 1 2 3 4 5 6 7 8 9; do touch /tmp/$n || true; done",
        "/tmp",
        "{first} | grep -q /tmp; umount /tmp",
    ),
    ("masked", f"systemctl mask --runtime {SERVICE}", SERVICE, None),
    ("own unit", mask("sereno-seed.service"), "sereno-seed.service", None),
    (
        "own unit",
        "{told}; systemctl stop sereno-notify.socket; " + mask("sereno-notify.socket"),
        "sereno-notify.socket",
        None,
    ),
    ("own unit", f"mv {UNITS}/sereno-seed.service /root", "sereno-seed.service", INSTALL),
    (
        "needed path",
        drop_in("sereno@often.service", "[Service]", "WorkingDirectory=/gone"),
        "/gone",
        TAKE_OUT,
    ),
    (
        "needed path",
        drop_in("sereno@often.service", "[Service]", "EnvironmentFile=/gone"),
        "/gone",
        TAKE_OUT,
    ),
    ("masked", mask("sereno@.service"), "sereno@.service", None),
    ("own unit", "systemctl stop sereno.slice; " + mask("sereno.slice"), "sereno.slice", None),
    (
        "foreign file",
        f"mkdir -p {UNITS}/sereno@often.service.d; ln -s /gone {slip_of('sereno@often.service')}",
        slip_of("sereno@often.service"),
        None,
    ),
    ("account", "userdel app", "app", None),
]


def examine(machine: Machine, *words: str, user: str | None = None) -> list[dict[str, Any]]:
    done = machine.run("sereno", "doctor", "--json", *words, check=False, user=user)
    assert done.stdout, done.stderr
    shown = json.loads(done.stdout)
    assert done.returncode == (1 if shown["findings"] else 0), done.stderr
    assert shown["well"] is (not shown["findings"])
    found: list[dict[str, Any]] = shown["findings"]
    return found


def when_settled(
    machine: Machine, is_expected: Callable[[list[dict[str, Any]]], bool], deadline_s: float = 60.0
) -> list[dict[str, Any]]:
    """The findings when they are what is expected, or at the deadline: a target's start returns before its timers are
    up."""
    end_s = time.monotonic() + deadline_s
    while not is_expected(found := examine(machine)) and time.monotonic() < end_s:
        time.sleep(0.5)
    return found


@pytest.fixture
def well(machine: Machine) -> Machine:
    assert examine(machine) == []
    return machine


@pytest.fixture(scope="module")
def faulty(store: Machine) -> Iterator[Machine]:
    """The store's machine, whose faults are mended in the end."""
    yield store
    # A machine that has written so much no longer has its oldest records.
    left = when_settled(store, lambda found: {one["check"] for one in found} <= {"journal"})
    assert [one for one in left if one["check"] != "journal"] == []


@pytest.fixture(scope="module")
def store(machine: Machine) -> Machine:
    """Jobs of every kind, each with what it needs."""
    machine.run("useradd", "--system", "app")
    machine.write("/etc/shop.token", "hunter2", 0o600)
    machine.add_lingering_user("ada")
    Shop(machine, app="store").install(*(line.replace("shop_jobs", "jobs") for line in JOBS))
    return machine


TELL = (
    'mkdir -p /etc/sereno; printf \'[[handler]]\\ntype = "command"\\ncommand = ["/bin/true"]\\n\''
    f" >{TOLD}; chmod 600 {TOLD}"
)
ADA = (
    "mkdir -p ~ada/.config/systemd/user;"
    f" cp {UNITS}/sereno@often.timer ~ada/.config/systemd/user; chown -R ada: ~ada"
)


def mend(machine: Machine, hint: str, cure: str | None) -> None:
    hint = hint.replace("./install.sh", INSTALL)
    after = hint.replace("then: ", ";").rpartition(";")[2]
    script = (cure or "{hint}").replace("{hint}", hint).replace("{then}", after)
    script = script.replace("{first}", hint.partition(";")[0])
    machine.run("sh", "-ec", script, env={"HINT": hint}, timeout=180)


SETTLED = 'for n in 1 2 3 4 5 6 7 8 9; do test "$(systemctl list-jobs --no-legend)" || break; sleep 0.2; done'


def check_row(machine: Machine, row: Row) -> None:
    """That this fault is the only finding shows, too, that the hint of the row before has mended that row's."""
    check, fault, subject, cure = row
    machine.run("sh", "-ec", fault.replace("{told}", TELL).replace("{ada}", ADA))
    found = when_settled(machine, lambda found: [each["check"] for each in found] == [check])
    assert [each["check"] for each in found] == [check], found
    assert found[0]["subject"].startswith(subject)
    runs = machine.journal(STARTED)
    mend(machine, found[0]["hint"], cure)
    machine.run("sh", "-ec", SETTLED)
    # install.sh runs the cleanup, as it says.
    installs = "install.sh" in (cure or found[0]["hint"]) and ADVISES_INSTALL not in (cure or "")
    new = [] if installs else machine.journal(STARTED)[len(runs) :]
    assert new == []
    if any(word in fault for word in ("{told}", TOLD, "sereno@.service.d")):
        # What tells people, and administrators' drop-ins, are no part of the next row, nor what mends this one.
        machine.wait_for(lambda: examine(machine) == [], what="a machine that is well")
        tidy = f"rm -rf /etc/sereno {UNITS}/sereno@.service.d; systemctl daemon-reload"
        machine.run("sh", "-ec", tidy)


# The fault, what checks find of it, what mends it, and the jobs whose run systemd could not begin for it.
def of(rows: list[Row]) -> Any:
    return pytest.mark.parametrize("row", rows, ids=[f"{row[0]}: {row[1][:50]}" for row in rows])


@of(FAULTS)
def test_a_fault_is_one_finding_and_its_hint_mends_it_and_runs_no_job(
    faulty: Machine, row: Row
) -> None:
    check_row(faulty, row)


@pytest.mark.long
@of(MORE_FAULTS)
def test_another_fault_of_a_kind_is_one_finding_and_its_hint_mends_it_and_runs_no_job(
    faulty: Machine, row: Row
) -> None:
    check_row(faulty, row)


@pytest.mark.every_systemd
@of(FAULTS_OF_UNITS)
def test_what_systemd_makes_of_units_is_one_finding_and_its_hint_mends_it_and_runs_no_job(
    faulty: Machine, row: Row
) -> None:
    check_row(faulty, row)


def test_a_failed_run_is_a_problem_until_the_next_one_succeeds(well: Machine) -> None:
    shop = Shop(well)
    code = "/srv/shop/mended_jobs.py"
    well.write(code, "def mended():\n    return {'error': 'no disk'}\n")
    shop.install("add_interval_job(jobs.mended, 'mended', hours=1)", functions="mended_jobs")
    well.run("sereno", "run", "--wait", "mended", check=False)
    (found,) = examine(well)
    assert (found["check"], found["subject"]) == ("run", "sereno@mended.service")
    # The manager's memory of it may be wiped; the journal's is not.
    well.run("systemctl", "reset-failed")
    (found,) = examine(well)
    assert (found["field"], found["value"]) == ("SERENO_STATUS", "failed")
    well.write(code, "def mended():\n    return {}\n")
    well.run("sh", "-ec", found["hint"].partition("then: ")[2])
    # It starts a run and does not wait; the next test may stop what this run needs.
    well.run("sereno", "run", "--wait", "mended")
    assert examine(well) == []


# Two records that any user may send: the job's last run failed, and a message did not leave.
FORGED = """
import time
from systemd import journal
journal.send("x", MESSAGE_ID="c8db476b7d964ab2bd2d7abc51d7b261", SERENO_JOB="cache_cleanup_hourly",
    SERENO_RUN="f" * 32, SERENO_STATUS="failed")
journal.send("x", MESSAGE_ID="2f34b1d9ea8d4da596dc0aa613190056", SERENO_HANDLER="command", SERENO_ERROR="x")
time.sleep(1)  # journald is to see whose they are
"""


def test_what_any_user_can_write_into_the_journal_is_no_finding(well: Machine) -> None:
    well.write(
        "/etc/sereno/notify.toml",
        '[[handler]]\ntype = "command"\ncommand = ["/bin/true"]\n',
        0o600,
    )
    well.run_unit("python3", "-c", FORGED, user="daemon")
    well.wait_for(lambda: len(well.journal("MESSAGE=x")) == 2, what="the forged records")
    assert examine(well) == []
    well.run("rm", "-r", "/etc/sereno")


def test_jobs_of_every_kind_are_well_before_and_after_a_reboot_and_after_a_run_by_hand(
    well: Machine,
) -> None:
    shop = Shop(well)
    shop.install(
        "add_interval_job(shop_jobs.quick, 'hourly', hours=1)",
        "add_interval_job(shop_jobs.quick, 'spread', hours=2, jitter=600)",
        "add_cron_job(shop_jobs.quick, 'nightly', hour=3, jitter=900, timezone='Europe/Berlin')",
        "add_cron_job(shop_jobs.quick, 'either', cron_expression='30 4 1,15 * 5', accuracy=60)",
        "add_cron_job(shop_jobs.quick, 'seconds', second='*/2')",
        "add_cron_job(shop_jobs.quick, 'warm_up', cron_expression='@reboot')",
    )
    assert examine(well) == []
    for job_id in ("hourly", "spread", "nightly", "warm_up"):
        well.run("sereno", "run", "--wait", job_id)
    assert examine(well) == []
    well.reboot()
    assert examine(well) == []
    well.run("sereno", "run", "--wait", "hourly")
    assert examine(well) == []
    shop.remove_all()


def test_a_full_cache_is_named_before_it_evicts(well: Machine) -> None:
    fill = (
        "import sys; sys.path.insert(0, '/opt/sereno/lib'); from sereno import MetadataCache\n"
        f"cache = MetadataCache({CACHE!r}, max_size=int(sys.argv[1]))\n"
        "for n in range(int(sys.argv[2])): cache.set(str(n), n)"
    )
    python = "/opt/sereno/current/venv/bin/python3"
    well.run(python, "-c", fill, "20", "20")
    (found,) = examine(well)
    assert (found["check"], found["value"]) == ("cache", "20 of 20")
    well.run("sereno", "cache", "clear")
    assert examine(well) == []
    well.run(python, "-c", fill, "2000", "0")


def test_a_command_of_another_version_than_the_jobs_says_so(well: Machine) -> None:
    module = "/opt/sereno/current/lib/sereno/__init__.py"
    text = well.read(module)
    well.write(module, text.replace("__version__ = ", "__version__ = '9.9'  # "))
    done = well.run("/src/bin/sereno", "doctor", "--json", check=False)
    found = [
        each for each in json.loads(done.stdout)["findings"] if each["check"] == "installation"
    ]
    assert len(found) == 1
    assert found[0]["subject"].startswith("/opt/sereno/releases/")
    well.write(module, text)
    assert examine(well) == []


def test_a_users_scope_is_examined_without_root(well: Machine) -> None:
    well.add_lingering_user("eve")
    install_for(well, "eve")
    assert examine(well, "--user", user="eve") == []
    well.run("rm", "/var/lib/systemd/linger/eve")
    (found,) = examine(well, "--user", user="eve")
    assert (found["check"], found["hint"]) == ("lingering", "loginctl enable-linger")
    well.run_unit("loginctl", "enable-linger", "eve")
    well.run("systemctl", "--user", "stop", TIMER, user="eve")
    (found,) = examine(well, "--user", user="eve")
    well.run("sh", "-ec", found["hint"], user="eve")
    assert examine(well, "--user", user="eve") == []
    # What he may not look at he is told.
    assert {each["check"] for each in examine(well, "--system", user="eve")} == {"not checked"}


JOURNALD = "/etc/systemd/journald.conf.d"
STORED = (
    f"rm -f {JOURNALD}/*; mkdir -p {JOURNALD}; echo '[Journal]' >{JOURNALD}/x.conf; echo Storage="
)


@pytest.mark.parametrize(
    "fault",
    [
        "rm -r /var/log/journal",
        f"{STORED}none >>{JOURNALD}/x.conf",
        f"{STORED}volatile >>{JOURNALD}/x.conf",
    ],
)
def test_a_journal_that_keeps_nothing_is_named(machine: Machine, fault: str) -> None:
    well = machine
    well.run(
        "sh",
        "-ec",
        f"{fault}; systemctl reset-failed systemd-journald; systemctl restart systemd-journald",
    )
    (found,) = [each for each in examine(well) if each["field"] == "Storage"]
    # The rows restart it more often than its start limit allows.
    well.run("systemctl", "reset-failed", "systemd-journald")
    well.run("sh", "-ec", found["hint"])
    assert [each for each in examine(well) if each["field"] == "Storage"] == []
