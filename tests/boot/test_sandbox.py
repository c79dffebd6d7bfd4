"""The sandbox of runs and of what runs beside them: how strict it is, what a job meets in it, and each way out.

The table in docs/sandbox.md is held row by row: what a process finds outside, in a run, and in a run with the way out.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from machine import Machine
from shop import FINISHED, Shop

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/sandbox.md"
# In tenths, as --threshold= wants it.
EXPOSURES = {
    "sereno@cache_cleanup_hourly.service": 5,
    "sereno-seed.service": 5,
    "sereno-notify.service": 66,
    "sereno-failed.service": 66,
}
GAMES, NOBODY = 5, 65534
# Below /srv: what the probes look for. /srv/open is games', /srv/writable the runs'.
MACHINE = """
useradd --create-home --user-group ada
groupadd readers
usermod --append --groups readers ada
install -d -o sereno -g sereno -m 770 /srv/writable
install -d -o root -g sereno -m 2777 /srv/setgid
install -d -o games -g games -m 777 /srv/open
install -m 4755 /usr/bin/id /srv/setuid-id
echo -n secret >/srv/of-games
echo -n welcome >/srv/of-readers
tar --create --file=/srv/archive.tar --owner=games --directory=/srv of-games
chown games /srv/of-games
chgrp readers /srv/of-readers
chmod 600 /srv/of-games
chmod 640 /srv/of-readers
install -o sereno -g sereno -m 666 /dev/null /srv/setgid/named
touch /tmp/of-others /dev/shm/of-others
systemd-run --quiet --service-type=notify --unit=probed --property=NotifyAccess=all python3 -c '
import ctypes, os, socket, time
ctypes.CDLL(None).msgget(4711, 0o1666)
places = (("127.0.0.1", 4711), "/srv/unix", b"\\0of-a-test")
kept = [socket.socket(family) for family in (socket.AF_INET, socket.AF_UNIX, socket.AF_UNIX)]
for one, address in zip(kept, places):
    one.bind(address)
    one.listen()
os.chmod("/srv/unix", 0o777)
os.system("systemd-notify --ready")
time.sleep(1e6)
'
"""


@dataclass(frozen=True)
class Row:
    """What a probe finds: outside, in a run, and in a run with the way out.

    Attributes:
        probe: name of a function of sandbox_probes.
        options: of the registration, and
        lines: of a drop-in, which are the way out; a row's last cell has them all.
        user: of the run and of the process outside.
    """

    probe: str
    outside: Any
    inside: Any
    options: dict[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    user: str = "sereno"


# By the first cell of each row.
ROWS = {
    "The network": Row(
        "network", ["done", "done", "done"], ["EAFNOSUPPORT", "done", "ECONNREFUSED"],
        {"network": True},
    ),
    "Homes": Row("homes", [["ada"], "done"], ["EACCES", "EACCES"], {"home": True}, user="ada"),
    "Places to write": Row("writing", "done", "EROFS", {"write_paths": ["/srv/open"]}),
    "Moving files": Row(
        "moving", ["done", "done"], ["EXDEV", "EXDEV"], {"write_paths": ["/srv"]}
    ),
    "Temporary files": Row(
        "temporary", [["of-others"], "done"], [[], "done"],
        {"write_paths": ["/tmp", "/var/tmp"]}, ("PrivateTmp=no",),
    ),
    "Shared memory": Row("shared_memory", ["of-others"], [], {"write_paths": ["/dev/shm"]}),
    "Semaphores and message queues": Row("queues", "done", "ENOENT", {}, ("PrivateIPC=no",)),
    "Other processes": Row(
        "processes", [True, "EPERM"], [False, "EPERM"], {}, ("ProtectProc=default",)
    ),
    "Other users' files": Row("owners", GAMES, NOBODY, {}, ("PrivateUsers=no",)),
    "Mode bits setuid and setgid": Row(
        "setgid", ["done", True], ["EPERM", True], {}, ("RestrictSUIDSGID=no",)
    ),
    "`chown`, `chgrp`": Row("chown", "done", "EPERM", {}, ("SystemCallFilter=@chown",)),
    "`sudo`, `su`, `sendmail`": Row("set_user_id", "root", "itself", {"user": "root"}),
    "The umask": Row("umask", "0022", "0007", {"umask": "0022"}),
    "The working directory": Row(
        "directory", "/srv/open", "/", {"working_directory": "/srv/open"}
    ),
    "Devices": Row("devices", True, False, {}, ("PrivateDevices=no",)),
    "`strace`, `gdb`, `py-spy`": Row("debugging", "done", "EPERM", {}, ("SystemCallFilter=@debug",)),
    "`unshare`, `bwrap`": Row("namespaces", "done", "EPERM", {}, ("RestrictNamespaces=no",)),
    "`setarch`": Row("personality", "done", "EPERM", {}, ("LockPersonality=no",)),
    "32-bit programs": Row(
        "other_architecture", "done", "SIGSYS", {}, ("SystemCallArchitectures=x86",)
    ),
    "Root: its rights": Row(
        "rights_of_root", "secret", "EACCES", {},
        ("CapabilityBoundingSet=CAP_DAC_READ_SEARCH", "PrivateUsers=no"), user="root",
    ),
    "Root: `tar`": Row(
        "unpacking", 0, 2, {"environment": {"TAR_OPTIONS": "--no-same-owner"}}, user="root"
    ),
    "Root: kernel settings": Row(
        "kernel_settings", "done", "EROFS", {"write_paths": ["/proc/sys/net"]}, user="root"
    ),
}  # fmt: skip
# Held by a test of its own.
LEFT_BEHIND = "Processes that it leaves behind"

LIVES = """
import asyncio, ctypes, multiprocessing.shared_memory, os, pathlib, tempfile

def square(number):
    return number * number

def lives():
    import concurrent.futures, multiprocessing, socket, sqlite3, ssl, subprocess, threading, zoneinfo
    ssl.create_default_context()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(square, range(10))[-1] == 81
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        assert pool.submit(square, 3).result() == 9
    with tempfile.TemporaryDirectory() as directory:
        with sqlite3.connect(f"{directory}/x.db") as base:
            base.execute("pragma journal_mode=wal")
            base.execute("create table t (n)")
        (left, right) = socket.socketpair()
        shared = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
        shared.close()
        shared.unlink()
    assert subprocess.run(["sh", "-c", "echo $((6 * 7))"], capture_output=True).stdout == b"42\\n"
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 3)(3, 1, 2)
    ctypes.CDLL(None).qsort(numbers, 3, 4, callback(lambda one, other: one[0] - other[0]))
    assert list(numbers) == [1, 2, 3]
    assert pathlib.Path("/proc/meminfo").read_text().startswith("MemTotal")
    zoneinfo.ZoneInfo("Europe/Madrid")
    thread = threading.Thread(target=os.cpu_count)
    thread.start()
    thread.join()
    return {"lived": asyncio.run(asyncio.sleep(0, "well"))}
"""


@pytest.fixture(scope="module")
def backend(machine: Machine) -> Shop:
    """A machine with what the probes look for, whose jobs are the functions of sandbox_probes."""
    machine.run("sh", "-euc", MACHINE)
    shop = Shop(machine)
    machine.write("/srv/shop/sandbox_probes.py", (HERE / "sandbox_probes.py").read_text())
    return shop


def registration(job_id: str, probe: str | list[str], **options: Any) -> str:
    options.setdefault("write_paths", ["/srv/writable", "/srv/setgid", "/srv/setgid/named"])
    names = [probe] if isinstance(probe, str) else probe
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    return (
        f"add_interval_job(jobs.all_of, {job_id!r}, hours=1, kwargs={{'names': {names!r}}}{given})"
    )


def install(shop: Shop, *registrations: str) -> None:
    shop.install(*registrations, functions="sandbox_probes")


def drop_in(machine: Machine, job_id: str, *lines: str) -> None:
    """As `systemctl edit` writes it."""
    path = f"/etc/systemd/system/sereno@{job_id}.service.d/override.conf"
    machine.write(path, "\n".join(["[Service]", *lines, ""]))


def remove_drop_ins(machine: Machine) -> None:
    machine.run("sh", "-c", "rm -f /etc/systemd/system/sereno@*.service.d/override.conf")


def found(shop: Shop, *job_ids: str) -> dict[str, dict[str, Any]]:
    """Run the jobs; what their probes found, by job."""
    shop.machine.run("systemctl", "daemon-reload")
    services = [f"sereno@{job_id}.service" for job_id in job_ids]
    shop.machine.run("systemctl", "start", *services)
    return {
        job_id: json.loads(shop.runs(job_id, FINISHED)[-1]["SERENO_STATS"]) for job_id in job_ids
    }


# --- how strict -------------------------------------------------------------------------------------------------------


@pytest.mark.every_systemd
@pytest.mark.parametrize("unit", EXPOSURES)
def test_a_unit_is_exposed_so_far_and_no_further(machine: Machine, unit: str) -> None:
    words = ("systemd-analyze", "security", "--no-pager")
    machine.run(*words, f"--threshold={EXPOSURES[unit]}", unit)
    stricter = machine.run(*words, f"--threshold={EXPOSURES[unit] - 1}", unit, check=False)
    assert stricter.returncode != 0, "it has become stricter: lower the figure"


def test_the_page_gives_the_figure_of_the_template() -> None:
    figure = EXPOSURES["sereno@cache_cleanup_hourly.service"] / 10
    assert f"`systemd-analyze security` rates it {figure}" in PAGE.read_text()


@pytest.mark.every_systemd
def test_a_run_can_write_nothing_of_the_kernels_and_make_none_of_the_calls_that_it_may_not(
    backend: Shop,
) -> None:
    """As its user and as root; what root could write without the sandbox shows that there is something to count."""
    names = ["writable", "forbidden"]
    install(
        backend,
        registration("as_sereno", names),
        registration("as_ada", names, user="ada"),
        registration("as_root", names, user="root"),
        registration("as_root_open", names, user="root"),
    )
    opened = ("ProtectKernelTunables=no", "ReadOnlyPaths=", "SystemCallFilter=@mount")
    drop_in(backend.machine, "as_root_open", *opened)
    runs = found(backend, "as_sereno", "as_ada", "as_root", "as_root_open")
    remove_drop_ins(backend.machine)
    for job_id in ("as_sereno", "as_ada", "as_root"):
        assert runs[job_id]["forbidden"] == []
        # From 254 on a service may ask to be told when its memory becomes scarce.
        own = f"/sys/fs/cgroup/sereno.slice/sereno@{job_id}.service/memory.pressure"
        assert set(runs[job_id]["writable"]) <= {own}
    assert len(runs["as_root_open"]["writable"]) > 20
    assert "mount" in runs["as_root_open"]["forbidden"]


@pytest.mark.every_systemd
def test_usual_python_lives_in_the_sandbox(backend: Shop) -> None:
    backend.machine.write("/srv/shop/lives_jobs.py", LIVES)
    backend.install("add_interval_job(jobs.lives, 'lives', hours=1)", functions="lives_jobs")
    assert found(backend, "lives") == {"lives": {"lived": "well"}}


@pytest.mark.every_systemd
def test_a_run_may_step_back_and_not_forward(backend: Shop) -> None:
    install(backend, registration("steps", "stepping_back"))
    assert found(backend, "steps")["steps"]["stepping_back"] == {
        **dict.fromkeys(("nice", "ionice", "taskset", "chrt --batch"), "done"),
        "chrt --rr": "EPERM",
        "before others": "EACCES",
    }


def test_a_mailer_of_roots_keeps_its_rights_where_people_are_told(backend: Shop) -> None:
    """sendmail(8) is set-user-ID in many mail systems; /srv/mailer is tee(1)."""
    machine = backend.machine
    machine.run("install", "-m", "4755", "/usr/bin/tee", "/srv/mailer")
    machine.run("install", "-d", "-m", "700", "/var/spool/of-root")
    letters = ["/var/spool/of-root/letter", "/home/ada/letter"]
    command = json.dumps(["/srv/mailer", *letters])
    machine.write(
        "/etc/sereno/notify.toml", f'[[handler]]\ntype = "command"\ncommand = {command}\n'
    )
    machine.run("sereno", "notify", "--test")
    told = [machine.read(letter) for letter in letters]
    install(backend, registration("fails", "no_such_probe"))
    machine.run("systemctl", "start", "sereno@fails.service", check=False)
    machine.wait_for(
        lambda: all(
            machine.read(letter) not in ("", before)
            for letter, before in zip(letters, told, strict=True)
        ),
        what="letters about the failure",
    )
    machine.run("rm", "/etc/sereno/notify.toml")


# --- the page ---------------------------------------------------------------------------------------------------------


def rows_of_the_page() -> dict[str, list[str]]:
    """The cells of the table's rows, by their first one."""
    table = re.search(r"^\| what \|.*\n\|[ -|]*\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE)
    assert table
    cells = [line.strip("| ").split(" | ") for line in table[1].splitlines()]
    return {name: rest for name, *rest in cells}


def test_every_row_of_the_page_is_tried_and_every_way_out_is_in_its_row() -> None:
    rows = rows_of_the_page()
    assert set(rows) == {*ROWS, LEFT_BEHIND}
    for name, row in ROWS.items():
        for word in (
            *(f"`{option}=" for option in row.options),
            *(f"`{line}`" for line in row.lines),
        ):
            assert word in rows[name][-1], f"{name}: {word}"


@pytest.fixture(scope="module")
def met(backend: Shop) -> dict[str, tuple[Any, Any, Any]]:
    """Of each row: what was found outside, inside, and with the way out, which alone needs a run of the row's own."""
    machine = backend.machine
    each = list(ROWS.values())
    probes = {
        user: [row.probe for row in each if row.user == user] for user in {row.user for row in each}
    }
    install(
        backend,
        *(registration(f"inside_{user}", names, user=user) for user, names in probes.items()),
        *(
            registration(f"{row.probe}_open", row.probe, **{"user": row.user, **row.options})
            for row in each
        ),
    )
    for row in each:
        drop_in(machine, f"{row.probe}_open", *row.lines)
    runs = found(
        backend, *(f"inside_{user}" for user in probes), *(f"{row.probe}_open" for row in each)
    )
    remove_drop_ins(machine)
    outside: dict[str, Any] = {}
    for user, names in probes.items():
        words = ["python3", "/srv/shop/sandbox_probes.py", *names]
        done = machine.run_unit(*words, user=user, properties=["WorkingDirectory=/srv/open"])
        outside.update(json.loads(done.stdout))
    return {
        row.probe: (
            outside[row.probe],
            runs[f"inside_{row.user}"][row.probe],
            runs[f"{row.probe}_open"][row.probe],
        )
        for row in each
    }


@pytest.mark.every_systemd
@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_page_is_what_a_job_meets_and_its_way_out_leads_out(
    met: dict[str, tuple[Any, Any, Any]], name: str
) -> None:
    row = ROWS[name]
    assert met[row.probe] == (row.outside, row.inside, row.outside)


@pytest.mark.every_systemd
def test_processes_that_a_run_leaves_behind_end_with_it_unless_told_otherwise(
    backend: Shop,
) -> None:
    names = ("leaves", "leaves_open")
    install(backend, *(registration(name, "left_behind") for name in names))
    drop_in(backend.machine, "leaves_open", "KillMode=process")
    runs = found(backend, *names)
    remove_drop_ins(backend.machine)
    gone, alive = (str(runs[name]["left_behind"]) for name in names)
    assert "`KillMode=process`" in rows_of_the_page()[LEFT_BEHIND][-1]
    assert not backend.machine.exists(f"/proc/{gone}")
    backend.machine.run("kill", alive)


@pytest.mark.every_systemd
def test_shared_memory_is_bounded(backend: Shop) -> None:
    install(backend, registration("shared", "shared_memory_bytes"))
    memory, shared = found(backend, "shared")["shared"]["shared_memory_bytes"]
    assert 0 < shared <= memory


# --- as whom, and where -----------------------------------------------------------------------------------------------


def test_a_run_has_its_users_own_groups_and_the_umask_and_directory_that_it_asked_for(
    backend: Shop,
) -> None:
    odd = '/srv/100% "odd" \\path $HOME ñ'
    backend.machine.run("install", "-d", "-m", "755", odd)
    place = {"write_paths": ["/srv/open"]}
    install(
        backend,
        registration("plain", "account", **place),
        registration("own", "account", user="ada", umask="0027", working_directory=odd, **place),
        registration("given", "account", user="ada", group="games", **place),
        registration("given_alone", "account", group="readers", **place),
    )
    users = {"plain": "sereno", "given_alone": "sereno", "own": "ada", "given": "ada"}
    # One after the other: they make the same file.
    runs = {job_id: found(backend, job_id)[job_id]["account"] for job_id in users}
    assert {job_id: run["user"] for job_id, run in runs.items()} == users
    made = {job_id: run["made"] for job_id, run in runs.items()}
    assert made == {
        "plain": ["sereno", "0660"],
        "own": ["ada", "0640"],
        "given": ["games", "0660"],
        "given_alone": ["readers", "0660"],
    }
    assert {job_id: run["reads"] for job_id, run in runs.items()} == {
        "plain": "EACCES",
        "own": "welcome",
        "given": "welcome",
        "given_alone": "welcome",
    }
    assert {run["directory"] for run in runs.values()} == {"/", odd}


def test_every_user_shares_the_cache_whatever_the_umask(backend: Shop) -> None:
    names = {"first": "root", "second": "ada", "third": "sereno"}
    install(
        backend,
        *(registration(name, "shares_the_cache", user=names[name], umask="0077") for name in names),
    )
    for name in names:
        seen = found(backend, name)[name]["shares_the_cache"]
        assert seen == "/var/cache/sereno/metadata well\n"


def test_a_working_directory_that_is_missing_fails_the_run_and_says_so(backend: Shop) -> None:
    install(backend, registration("lost", "directory", working_directory="/srv/missing"))
    machine = backend.machine
    assert machine.run("sereno", "run", "--wait", "lost", check=False).returncode == 1
    assert (
        "its working directory cannot be entered" in machine.run("sereno", "status", "lost").stdout
    )


def test_a_group_that_the_machine_does_not_have_is_refused(backend: Shop) -> None:
    body = """
    import sandbox_probes as jobs
    from sereno.errors import InvalidJob
    scheduler.add_interval_job(jobs.all_of, 'groupless', hours=1, kwargs={'names': []}, group='nonesuch')
    try:
        scheduler.start()
    except InvalidJob as error:
        result = str(error)
    """
    assert "group: 'nonesuch' is not a group of this machine" in backend.call(body)
    assert not backend.machine.exists("/etc/systemd/system/sereno@groupless.timer")


@pytest.mark.every_systemd
def test_a_job_finds_homes_only_if_it_says_so(backend: Shop) -> None:
    ada = {"user": "ada"}
    install(
        backend,
        registration("homeless", "homes", **ada),
        registration("homeless_root", "homes", user="root"),
        registration("guest", "homes", home="read-only", **ada),
        registration("owner", "homes", home=True, **ada),
    )
    runs = found(backend, "homeless", "homeless_root", "guest", "owner")
    assert {job_id: run["homes"] for job_id, run in runs.items()} == {
        "homeless": ["EACCES", "EACCES"],
        "homeless_root": ["EACCES", "EACCES"],
        "guest": [["ada"], "EROFS"],
        "owner": [["ada"], "done"],
    }
    assert backend.machine.read("/home/ada/state") == "x"


@pytest.mark.every_systemd
@pytest.mark.parametrize("home", ["ln -s var/homes /home", "rmdir /run/user"])
def test_homes_that_lie_elsewhere_or_are_missing_are_closed_and_fail_no_run(
    backend: Shop, home: str
) -> None:
    machine = backend.machine
    install(backend, registration("homeless", "homes", user="ada"))
    machine.run("sh", "-c", f"mv /home /var/homes; {home}")
    try:
        assert found(backend, "homeless")["homeless"]["homes"] == ["EACCES", "EACCES"]
    finally:
        machine.run("sh", "-c", "rm -d /home; mkdir -p /run/user; mv /var/homes /home")


@pytest.mark.every_systemd
class OfAnImage(Machine):
    """Its root is read-only but for /var, and has no /home; what install.sh lays in an image is laid."""

    def __init__(self, layers: Sequence[Path]) -> None:
        super().__init__(layers)
        (self._root / "home").rmdir()
        lay = ("systemd-tmpfiles", f"--root={self._root}", "--create", "sereno.conf")
        subprocess.run(lay, check=True)

    def _argv(self) -> list[str]:
        words = super()._argv()
        place = words.index("--quiet")
        more = ("--read-only", "--overlay=+/var::/var", "--tmpfs=/tmp")
        return [*words[:place], *more, *words[place:]]


@pytest.mark.every_systemd
def test_a_run_finds_a_place_to_close_homes_at_on_a_read_only_root(
    installed_layers: tuple[Path, ...],
) -> None:
    with OfAnImage(installed_layers).start() as machine:
        assert "Read-only" in machine.run("mkdir", "/x", check=False).stderr
        machine.run("systemctl", "start", "sereno@cache_cleanup_hourly.service")


def test_a_job_writes_where_it_says_and_nowhere_else(backend: Shop) -> None:
    odd = '/srv/100% "odd" \\write $HOME ñ'
    for path in ("/srv/out", "/srv/closed", odd):
        backend.machine.run("install", "-d", "-o", "sereno", path)
    paths = ["/srv/out/x", f"{odd}/x", "/srv/closed/x", "/srv/no/x"]
    backend.install(
        f"add_interval_job(jobs.writes, 'writer', hours=1, kwargs={{'paths': {paths!r}}},"
        f" write_paths=['/srv/out', {odd!r}, '/srv/no'])",
        functions="sandbox_probes",
    )
    assert [*found(backend, "writer")["writer"].values()] == ["done", "done", "EROFS", "ENOENT"]
    assert backend.machine.read(f"{odd}/x") == "x"


# --- one job and another ----------------------------------------------------------------------------------------------


@pytest.mark.every_systemd
def test_a_run_takes_nothing_away_that_its_user_keeps_in_shared_memory(backend: Shop) -> None:
    """A database has its own there; a job that saves it runs as its user."""
    machine = backend.machine
    machine.run("useradd", "--system", "--user-group", "database")
    kept = ["ipcmk --shmem 4096", "touch /dev/shm/pages"]
    machine.run("sh", "-ec", "; ".join(kept), user="database")
    install(backend, registration("saves", "umask", user="database"))
    found(backend, "saves")
    assert machine.exists("/dev/shm/pages")
    assert "database" in machine.run("ipcs", "--shmems").stdout


@pytest.mark.every_systemd
@pytest.mark.parametrize("user", ["sereno", "ada"])
def test_what_a_run_can_do_to_another_is_what_the_page_says(backend: Shop, user: str) -> None:
    """To one of its own user that, to one of another user nothing."""
    machine = backend.machine
    machine.write("/srv/token", "of the credential", mode=0o600)
    victim = (
        "add_interval_job(jobs.waits, 'victim', hours=1, environment={'MOOD': 'secret'},"
        " credentials={'token': '/srv/token'})"
    )
    backend.install(victim, functions="sandbox_probes")
    service = "sereno@victim.service"
    machine.run("systemctl", "start", "--no-block", service)
    pid = machine.wait_for(
        lambda: int(machine.show(service, "MainPID")["MainPID"]), what="the victim's process"
    )
    secret = f"/proc/{pid}/root/tmp/secret"
    machine.wait_for(lambda: machine.exists(secret), what="the victim's file")
    machine.run("systemd-run", "--quiet", "--uid=sereno", "--unit=outside", "sleep", "600")
    pids = {"pid": pid, "outside": int(machine.show("outside", "MainPID")["MainPID"])}
    backend.install(
        victim,
        f"add_interval_job(jobs.attacks, 'attacker', hours=1, user={user!r}, kwargs={pids!r})",
        functions="sandbox_probes",
    )
    done = found(backend, "attacker")["attacker"]
    machine.run("systemctl", "stop", service, "outside.service")
    machine.run("systemctl", "reset-failed")
    reached = "done" if user == "sereno" else "EPERM"
    assert done == {
        **dict.fromkeys(
            ("environment", "files", "credential", "memory", "memory of no run"), "ENOENT"
        ),
        **dict.fromkeys(("slowed", "ended", "ended, of no run"), reached),
    }
