"""install.sh on servers that run: new ones, installed ones, upgraded ones, for a user, and without systemd."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from busy_apt import DOWNLOADING, INSTALLING, UPDATING, busy_apt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from machine import Machine

pytestmark = pytest.mark.waiting

JOB = "cache_cleanup_hourly"
INSTALL = ("/src/install.sh", "--wheels", "/wheels")
INSTALL_DEADLINE_S = 180.0
# What the job and systemd themselves leave, wherever they run.
DATA = ("/var/cache/sereno", "/var/lib/systemd/timers/stamp-sereno")


def traces(machine: Machine) -> set[str]:
    """Every path with sereno in its name, outside the sources and the kernel's own file systems."""
    found = machine.run(
        *("find", "/", "-xdev", "(", "-path", "/src", "-o", "-path", "/root/newer", "-o"),
        *("-path", "/usr/share/doc", ")", "-prune", "-o", "-name", "*sereno*", "-print"),
    ).stdout.splitlines()
    return {path for path in found if not path.startswith("/var/log/")}


def runs(machine: Machine) -> list[dict[str, str]]:
    return [
        record
        for record in machine.journal(f"SERENO_JOB={JOB}")
        if "Limpieza completada" in record["MESSAGE"]
    ]


def timer(machine: Machine) -> dict[str, object]:
    """With a next elapse. Waited for: a start of `sereno.target` and a boot are over before the timers of the
    applications are up."""
    name = f"sereno@{JOB}.timer"
    rows: list[dict[str, object]] = machine.wait_for(
        lambda: [row for row in machine.list_timers() if row["unit"] == name and row["next"]],
        what=name,
    )
    return rows[0]


def assert_no_unit_failed(machine: Machine) -> None:
    assert machine.run("systemctl", "--failed", "--no-legend").stdout == ""


@pytest.mark.every_systemd
def test_one_command_takes_a_new_server_to_a_timer_that_runs(fresh_machine: Machine) -> None:
    machine = fresh_machine
    assert machine.run("python3", "-c", "import ensurepip", check=False).returncode != 0
    done = machine.run(*INSTALL, timeout=INSTALL_DEADLINE_S)
    assert "Limpieza completada: 0 entradas eliminadas" in done.stdout
    stats = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    assert json.loads(stats)["entries_removed"] == 0
    assert re.search(rf"sereno@{JOB}\.timer +sereno@{JOB}\.service", done.stdout)
    assert "\nLAST of an interval that has not elapsed yet is the moment " in done.stdout
    assert len(runs(machine)) == 1
    assert timer(machine)["next"] is not None
    assert machine.run("systemctl", "is-enabled", "sereno.target").stdout == "enabled\n"
    assert machine.run("stat", "-c", "%a %U %G", "/var/cache/sereno").stdout == "2770 root sereno\n"
    assert_no_unit_failed(machine)

    # The same again: nothing to install, to write, to reload or to run.
    changed = "InactiveExitTimestampMonotonic", "NeedDaemonReload"
    before = machine.show(f"sereno@{JOB}.timer", *changed), timer(machine)["next"]
    again = machine.run(*INSTALL)
    assert again.stdout.endswith("\nunchanged\n")
    assert f"sereno@{JOB}.timer" in again.stdout
    assert "Limpieza completada" in again.stdout
    assert (machine.show(f"sereno@{JOB}.timer", *changed), timer(machine)["next"]) == before
    assert len(runs(machine)) == 1


def test_without_the_packages_a_user_is_told_the_line_to_type(fresh_machine: Machine) -> None:
    machine = fresh_machine
    machine.add_lingering_user("ada")
    done = machine.run(*INSTALL, "--user", user="ada", check=False)
    assert done.returncode == 1
    assert "sudo apt-get install python3-venv python3-systemd" in done.stderr
    assert not machine.exists("/home/ada/.local/share/sereno")


@pytest.mark.parametrize("lock", [INSTALLING, DOWNLOADING, UPDATING])
def test_an_apt_that_is_busy_is_waited_for(
    boot: Callable[..., Machine], trees: tuple[Path, Path], environment_layer: Path, lock: str
) -> None:
    """On a new server, but for the environment, which is there."""
    with boot(environment_layer, trees[0]) as machine:
        check_that_apt_is_waited_for(machine, lock)


def check_that_apt_is_waited_for(machine: Machine, lock: str) -> None:
    if lock == UPDATING:
        # A package that no list has: new lists are fetched first.
        machine.run("sh", "-c", "rm -r /var/lib/apt/lists/*")
    words, environment = machine.command(*INSTALL)
    with busy_apt(machine, lock):
        install = subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert install.stdout
        assert install.stdout.readline() == "Installing python3-venv python3-systemd\n"
        told = install.stdout.readline()
        assert told.startswith("apt is busy; waiting up to 10 minutes: ")
        assert lock in told
        assert install.poll() is None
    said, _ = install.communicate(timeout=INSTALL_DEADLINE_S)
    if lock == UPDATING:
        # There is no network.
        assert install.returncode == 1
        assert re.match(
            r"install\.sh: this failed: apt-get .*: Unable to locate package python3-\w+\n  ", said
        ), said
        assert not machine.exists("/opt/sereno/current")
    else:
        assert install.returncode == 0, said
        assert "apt is busy" not in said
        assert timer(machine)["next"] is not None


def everything(machine: Machine) -> dict[str, str]:
    """Every path outside the kernel's file systems, with type, mode and owner; not what a system writes by itself, nor
    the environment that a machine had beforehand."""
    words = (
        "find",
        "/",
        "/run",
        "-xdev",
        "(",
        *"-path /src -o -path /wheels -o -path /var/log -o -path /tmp".split(),
        ")",
    )
    listed = machine.run(*words, "-prune", "-o", "-printf", "%p\t%y %m %U:%G\n").stdout
    own = re.compile(
        "/run/(systemd|log|udev|user)/|/var/(tmp|lib/systemd/catalog)/|/etc/(passwd|group|g?shadow|subuid|subgid)-|/etc/.pwd.lock|/root/|/opt/sereno"
    )
    return dict(line.split("\t") for line in listed.splitlines() if not own.match(line))


def test_purge_leaves_nothing_but_what_the_administrator_wrote_and_names_that(
    half_installed_machine: Machine,
) -> None:
    machine = half_installed_machine
    before = everything(machine)
    machine.run(*INSTALL, timeout=INSTALL_DEADLINE_S)
    machine.run("install", "-d", "-g", "sereno", "-m", "775", "/srv/metrics")
    his = "/etc/systemd/system/sereno@.service.d/metrics.conf"
    machine.write(
        his,
        "[Service]\nEnvironment=SERENO_TEXTFILE_DIR=/srv/metrics\nReadWritePaths=/srv/metrics\n",
    )
    machine.write(
        "/etc/sereno/notify.toml", '[[handler]]\ntype = "command"\ncommand = ["/bin/true"]\n', 0o600
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("sereno", "run", "--wait", JOB)
    assert machine.exists("/srv/metrics/sereno_cache_metadata.prom")
    done = machine.run("/src/install.sh", "--uninstall", "--purge")
    (line,) = [line for line in done.stdout.splitlines() if "yours" in line]
    assert set(line.split()[5:]) == {his, "/etc/sereno/notify.toml"}
    left = {path: kind for path, kind in everything(machine).items() if before.get(path) != kind}
    assert set(left) == {
        his,
        his.rpartition("/")[0],
        "/etc/sereno",
        "/etc/sereno/notify.toml",
        "/srv/metrics",
    }
    assert set(before) <= set(everything(machine))
    assert not machine.exists("/opt/sereno")
    assert (
        machine.run(
            "find", "/run", "-name", "*sereno*", "!", "-path", "/run/systemd/units/*"
        ).stdout
        == ""
    )


def test_a_first_install_that_fails_at_its_last_step_leaves_nothing_on_a_running_system(
    half_installed_machine: Machine,
) -> None:
    machine = half_installed_machine
    # The timers cannot be made where their place is taken; everything else is in place by then.
    machine.write(f"/etc/systemd/system/sereno@{JOB}.timer/mine", "")
    before = everything(machine)
    done = machine.run(*INSTALL, check=False, timeout=INSTALL_DEADLINE_S)
    assert done.returncode == 1
    assert "install.sh: the timers could not be made: " in done.stderr
    assert everything(machine) == before
    assert not machine.exists("/opt/sereno")
    assert machine.run("systemctl", "list-units", "--all", "--no-legend", "sereno*").stdout == ""


def test_a_person_of_that_name_is_not_made_the_jobs_user(half_installed_machine: Machine) -> None:
    machine = half_installed_machine
    machine.run("useradd", "--create-home", "--shell", "/bin/bash", "sereno")
    done = machine.run(*INSTALL, check=False)
    assert done.returncode == 1
    assert "install.sh: the account sereno (uid 1000) is a person's: " in done.stderr
    assert not machine.exists("/opt/sereno/current")
    # The way out, to the letter.
    machine.run("usermod", "--login", "serena", "sereno")
    machine.run("groupmod", "--new-name", "serena", "sereno")
    machine.run(*INSTALL, timeout=INSTALL_DEADLINE_S)
    assert int(machine.run("id", "-u", "sereno").stdout) < 1000


def test_after_an_upgrade_of_debian_the_hint_is_to_install_again_and_that_mends_it(
    boot: Callable[..., Machine], installed_layers: tuple[Path, ...]
) -> None:
    """Another python3 looks for its packages in another directory than the environment's."""
    with boot(*installed_layers) as machine:
        release = machine.run("readlink", "-f", "/opt/sereno/current").stdout.strip()
        machine.run("sh", "-c", f"mv {release}/venv/lib/python3.* {release}/venv/lib/python3.9")
        broken = machine.run("sereno", "cache", "stats", check=False)
        assert broken.stderr.splitlines()[-1].startswith("hint: ./install.sh again")
        machine.run(*INSTALL, timeout=INSTALL_DEADLINE_S)
        machine.run("sereno", "run", "--wait", JOB)
        machine.run("sereno", "cache", "stats")


def make_newer_checkout(machine: Machine) -> None:
    """A copy of the sources with another version, a changed target, and a file gone from the units."""
    machine.run("mkdir", "/root/newer")
    for name in ("lib", "bin", "systemd", "install.sh"):
        machine.run("cp", "-r", f"/src/{name}", "/root/newer/")
    package = "/root/newer/lib/sereno/__init__.py"
    machine.run("sed", "-i", 's/^__version__ = .*/__version__ = "99.0"/', package)
    target = "/root/newer/systemd/system/sereno.target"
    machine.run("sed", "-i", "s/^Description=.*/Description=Newer/", target)


@pytest.mark.every_systemd
def test_an_upgrade_takes_over_and_leaves_a_run_under_way_alone(machine: Machine) -> None:
    make_newer_checkout(machine)
    old = machine.run("readlink", "/opt/sereno/current").stdout.strip()
    # A run of the old release that waits, as a long job does.
    machine.run(
        *("systemd-run", "--quiet", "--unit=waiting", f"/opt/sereno/{old}/venv/bin/python3", "-c"),
        *("import time; time.sleep(600)", f"/opt/sereno/{old}/bin/{JOB}"),
    )
    machine.run("systemctl", "stop", f"sereno@{JOB}.timer")
    machine.run("systemctl", "start", f"sereno@{JOB}.timer")
    next_before = timer(machine)["next"]
    done = machine.run("/root/newer/install.sh", "--wheels", "/wheels", timeout=INSTALL_DEADLINE_S)
    assert "Installed: sereno 99.0-" in done.stdout
    assert machine.run("sereno", "--version").stdout == "sereno 99.0\n"
    assert machine.show("sereno.target", "Description", "NeedDaemonReload") == {
        "Description": "Newer",
        "NeedDaemonReload": "no",
    }
    assert (
        "/opt/sereno/releases/99.0-"
        in machine.show(f"sereno@{JOB}.service", "ExecStart")["ExecStart"]
    )
    assert timer(machine)["next"] == next_before

    # A version later the release that the waiting process uses is still there; without the process, it goes.
    later = "/opt/sereno/releases/99.1-later"
    machine.run("mkdir", later)
    machine.run("touch", f"{later}/MANIFEST")
    machine.run("/root/newer/install.sh", "--wheels", "/wheels")
    assert machine.exists(f"/opt/sereno/{old}/MANIFEST")
    machine.run("systemctl", "stop", "waiting")
    machine.run("/root/newer/install.sh", "--wheels", "/wheels")
    releases = machine.run("ls", "/opt/sereno/releases").stdout.split()
    assert [name.partition("-")[0] for name in releases] == ["99.0", "99.1"]
    assert_no_unit_failed(machine)


def test_an_upgrade_leaves_the_administrators_switch_as_it_is(machine: Machine) -> None:
    machine.run("systemctl", "disable", "--now", "sereno.target")
    done = machine.run(*INSTALL, timeout=INSTALL_DEADLINE_S)
    assert "sereno.target is stopped" in done.stdout
    assert "sereno.target is disabled" in done.stdout
    state = machine.show("sereno.target", "ActiveState", "UnitFileState")
    assert state == {"ActiveState": "inactive", "UnitFileState": "disabled"}
    machine.run("systemctl", "enable", "--now", "sereno.target")
    assert timer(machine)["next"] is not None


@pytest.mark.every_systemd
def test_without_starting_the_timers_wait_for_the_next_boot(
    half_installed_machine: Machine,
) -> None:
    machine = half_installed_machine
    machine.run(*INSTALL, "--no-start", timeout=INSTALL_DEADLINE_S)
    assert runs(machine) == []
    assert machine.show("sereno.target", "ActiveState")["ActiveState"] == "inactive"
    machine.reboot()
    assert timer(machine)["next"] is not None
    assert runs(machine) == []


@pytest.mark.every_systemd
def test_uninstall_leaves_nothing_but_the_data_and_purge_not_even_that(
    boot: Callable[..., Machine], installed_layers: tuple[Path, ...], trees: tuple[Path, Path]
) -> None:
    with boot(*installed_layers) as machine:
        machine.run("/src/install.sh", "--uninstall")
        assert [path for path in traces(machine) if not path.startswith(DATA)] == []
        assert "Defined-By: sereno" not in machine.run("journalctl", "--dump-catalog").stdout
        machine.run("/src/install.sh", "--uninstall", "--purge")
        assert traces(machine) == set()
        for accounts in ("etc/passwd", "etc/group"):
            assert machine.read(f"/{accounts}") == (trees[1] / accounts).read_text()
        words = ("systemctl", "list-units", "--all", "--no-legend", "sereno*")
        assert machine.run(*words).stdout == ""
        assert_no_unit_failed(machine)


def test_a_user_installs_without_root_and_uninstalls(blank_machine: Machine) -> None:
    machine = blank_machine
    machine.add_lingering_user("ada")
    before = set(machine.run("find", "/home/ada").stdout.splitlines())
    done = machine.run(*INSTALL, "--user", user="ada", timeout=INSTALL_DEADLINE_S)
    assert "Limpieza completada" in done.stdout
    assert "/home/ada/.local/bin is not in your PATH: log in anew" in done.stdout
    listed = machine.run("systemctl", "--user", "list-timers", "--no-legend", user="ada").stdout
    assert f"sereno@{JOB}.timer" in listed
    there = {"PATH": "/usr/sbin:/usr/bin:/home/ada/.local/bin"}
    again = machine.run(*INSTALL, "--user", user="ada", env=there)
    assert "PATH" not in again.stdout
    assert again.stdout.endswith("\nunchanged\n")
    machine.run("/src/install.sh", "--user", "--uninstall", "--purge", user="ada")
    assert set(machine.run("find", "/home/ada").stdout.splitlines()) - before <= {
        *(f"/home/ada/{path}" for path in (".cache", ".local", ".local/share")),
        *(f"/home/ada/.local/share/systemd{path}" for path in ("", "/timers")),
    }
    listed = machine.run("systemctl", "--user", "list-timers", "--no-legend", user="ada").stdout
    assert "sereno" not in listed


def test_where_systemd_is_not_process_1_it_installs_says_so_and_runs_the_job_once(
    half_installed_machine: Machine,
) -> None:
    machine = half_installed_machine
    # Without /run/systemd nothing tells of a manager: as in a container that is being built.
    words = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c")
    script = "mount -t tmpfs none /run && exec /src/install.sh --wheels /wheels"
    done = machine.run(*words, script, timeout=INSTALL_DEADLINE_S)
    assert "systemd is not process 1 here" in done.stdout
    assert "INFO: Limpieza completada: 0 entradas eliminadas" in done.stderr
    assert runs(machine) == []
    owner = machine.run("find", "/var/cache/sereno/metadata", "-type", "f", "-printf", "%u %g %m\n")
    assert set(owner.stdout.splitlines()) == {"sereno sereno 660"}
    machine.reboot()
    assert timer(machine)["next"] is not None
