"""The harness keeps its promises; when these fail, look here before looking at sereno."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import machine as machines
import pytest
from shop import Shop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def blank(
    boot: Callable[..., machines.Machine], trees: tuple[Path, Path]
) -> Iterator[machines.Machine]:
    """One for all that only look at it."""
    with boot(trees[1]) as machine:
        yield machine


def test_a_machine_boots_without_a_failed_unit(blank):
    assert blank.run("systemctl", "is-system-running", check=False).stdout == "running\n"
    assert blank.run("systemctl", "--failed", "--quiet").stdout == ""


def test_the_repository_is_there_and_read_only(blank):
    assert blank.read("/src/LICENSE").startswith("MIT License")
    assert blank.run("touch", "/src/x", check=False).returncode == 1


def test_a_unit_runs_in_a_cgroup_of_its_own(blank):
    done = blank.run_unit("cat", "/proc/self/cgroup", user="nobody")
    assert ".service" in done.stdout
    assert blank.run_unit("sh", "-c", "exit 7", check=False).returncode == 7


def test_input_environment_and_user_reach_the_command(blank):
    done = blank.run(
        "sh", "-c", 'id -un; echo "$HOME $X"; cat', user="nobody", env={"X": "x"}, input="in"
    )
    assert done.stdout == "nobody\n/nonexistent x\nin"


def test_a_failing_command_raises_with_its_output(blank):
    with pytest.raises(AssertionError, match="ended with 3\nstdout: out\n\nstderr: err\n"):
        blank.run("sh", "-c", "echo out; echo err >&2; exit 3")
    with pytest.raises(subprocess.TimeoutExpired):
        blank.run("sleep", "30", timeout=0.2)


def test_the_journal_is_read_with_all_of_its_fields(blank):
    long = "x" * 10_000
    record = f"MESSAGE=hello\nSERENO_JOB=a_job\nLONG={long}\n"
    blank.run_unit("logger", "--journald", input=record)
    (found,) = blank.journal("SERENO_JOB=a_job")
    assert (found["MESSAGE"], found["LONG"]) == ("hello", long)


def test_a_timer_is_listed_and_fires(blank):
    blank.write("/etc/systemd/system/x.service", "[Service]\nExecStart=touch /run/fired\n")
    blank.write("/etc/systemd/system/x.timer", "[Timer]\nOnActiveSec=100ms\nAccuracySec=1us\n")
    blank.run("systemctl", "daemon-reload")
    blank.run("systemctl", "start", "x.timer")
    assert "x.timer" in {timer["unit"] for timer in blank.list_timers()}
    blank.wait_for(lambda: blank.exists("/run/fired"), what="a run of x.service")
    assert blank.show("x.timer", "Result", "LoadState") == {
        "Result": "success",
        "LoadState": "loaded",
    }


def test_a_wait_that_gives_up_says_what_it_waited_for(blank):
    with pytest.raises(AssertionError, match=r"not within 0\.1 s: the impossible\n.*systemd"):
        blank.wait_for(lambda: None, deadline_s=0.1, what="the impossible")


@pytest.mark.parametrize("way", ["reboot", "crash"])
def test_the_disk_outlives_a_boot_and_the_boot_id_does_not(blank_machine, way):
    blank_machine.write("/var/lib/kept", "kept")
    blank_machine.write("/run/gone", "")
    boot_id = blank_machine.read("/proc/sys/kernel/random/boot_id")
    if way == "crash":
        blank_machine.crash()
        blank_machine.start()
    else:
        blank_machine.reboot()
    assert blank_machine.read("/var/lib/kept") == "kept"
    assert not blank_machine.exists("/run/gone")
    assert blank_machine.read("/proc/sys/kernel/random/boot_id") != boot_id


def test_two_machines_run_side_by_side(blank_machine, fresh_machine):
    blank_machine.write("/etc/mine", "")
    assert not fresh_machine.exists("/etc/mine")
    assert blank_machine.name != fresh_machine.name
    for machine in (blank_machine, fresh_machine):
        machine.run("systemctl", "is-active", "dbus.service")


def test_a_fresh_machine_can_install_what_it_lacks_without_a_network(fresh_machine):
    packages = ("python3-venv", "python3-systemd")
    assert fresh_machine.run("dpkg-query", "--show", *packages, check=False).returncode == 1
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    fresh_machine.run("apt-get", "install", "--yes", *packages, env=environment, timeout=120)
    fresh_machine.run("/usr/bin/python3", "-c", "from systemd import journal; import ensurepip")


CALLS = (("--version",), ("frobnicate",), ("status", "nobody"), ("cache", "get", "nothing"))


def test_a_call_that_a_warm_process_answers_says_what_one_that_is_started_anew_says(machine):
    def all_of(keeps_warm: bool) -> list[tuple[int, str, str]]:
        machine.keeps_warm = keeps_warm
        done = [machine.run("sereno", *words, check=False) for words in CALLS]
        return [(each.returncode, each.stdout, each.stderr) for each in done]

    anew = all_of(False)
    assert [status for status, _, _ in anew] == [0, 2, 3, 3]
    # Before the modules are loaded, and with them.
    assert all_of(True) == all_of(True) == anew
    shop = Shop(machine)
    where = "import os; result = [os.getpid(), os.getppid(), os.environ['PYTHONPATH'], __name__]"
    one, other = shop.call(where), shop.call(where)
    assert one[0] != other[0]
    assert one[1:] == other[1:] == [one[1], "/opt/sereno/lib:/srv/shop", "__main__"]
    assert shop.call("os = __import__('os'); os.kill(os.getpid(), 9)", check=False).returncode == -9
    assert "ZeroDivisionError" in shop.call("1 / 0", check=False).stderr
    assert shop.call(where)[1] == one[1]


def test_a_warm_process_is_not_asked_once_the_code_is_another_one_or_a_call_hangs(machine):
    shop = Shop(machine)
    module = "/opt/sereno/current/lib/sereno/__init__.py"
    code = "import os, sereno; result = [sereno.__version__, os.getppid()]"
    shop.call(code)
    before = shop.call(code)
    machine.run("sed", "-i", 's/^__version__ = .*/__version__ = "9.9"/', module)
    assert machine.run("sereno", "--version").stdout == "sereno 9.9\n"
    assert shop.call(code)[0] == "9.9" != before[0]
    with pytest.raises(subprocess.TimeoutExpired):
        machine.run("sereno", "logs", "-f", "cache_cleanup_hourly", timeout=1)
    assert machine.run("sereno", "--version").stdout == "sereno 9.9\n"
    # The one that has answered now, and nothing of the one that was given up.
    left = machine.run("pgrep", "--list-name", "python3?|journalctl", check=False).stdout
    assert len(left.splitlines()) == 1, left


def side_by_side(name: str, **environment: str) -> subprocess.Popen[str]:
    """A test of to_be_broken_off.py in a process of xdist's, below a pytest in a session of its own."""
    # A shell has what it starts in the background ignore Ctrl-C.
    words = ["env", "--default-signal=INT", sys.executable]
    words += ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--numprocesses", "1"]
    return subprocess.Popen(
        [*words, f"{HERE}/to_be_broken_off.py::{name}"],
        env={**os.environ, "SERENO_TEST_SUITES": "bookworm", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left_of(name: str) -> list[Path]:
    """What a machine of that name has on this computer: directories, cgroups, processes, mounts that all see."""
    places = [Path(tempfile.gettempdir()), *machines.cgroup_hierarchies()]
    left = [path for place in places for path in place.glob(f"{name}*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"--machine={name}\0".encode() in (process / "cmdline").read_bytes():
                left.append(process)
        except OSError:
            pass  # it has ended
    if name in Path("/proc/1/mounts").read_text():
        left.append(Path("/proc/1/mounts"))
    return left


def test_a_test_that_fails_beside_others_shows_the_journal_of_its_machine() -> None:
    output, _ = side_by_side("test_that_fails").communicate(timeout=180)
    assert "journal of sereno-test-" in output
    assert "seen by the machine" in output
    assert "console of sereno-test-" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_broken_off_leaves_no_machine_behind(
    number: signal.Signals, tmp_path: Path
) -> None:
    named = tmp_path / "name"
    run = side_by_side("test_that_hangs", HANGS_ON=str(named))
    poll_until(lambda: named.exists() and named.read_text(), 180)
    assert left_of(named.read_text())
    if number == signal.SIGINT:
        # As the terminal does it: to all of them.
        os.killpg(run.pid, number)
    else:
        os.kill(run.pid, number)
    run.communicate(timeout=60)
    poll_until(lambda: not left_of(named.read_text()), 60)


def test_a_machine_whose_test_process_has_died_before_it_could_be_told_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, started = tmp_path / "home", tmp_path / "started"
    home.mkdir()
    with monkeypatch.context() as patch:
        # Whoever adopts an orphan.
        patch.setattr(os, "getpid", lambda: 1)
        words = machines.keeper(home, "", "TERM")
    subprocess.run([*words, "touch", started], check=True, capture_output=True)
    assert not started.exists()
    assert not home.exists()


def poll_until(true: Callable[[], object], deadline_s: float) -> None:
    deadline = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
