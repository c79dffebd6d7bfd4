"""The process of a run is the job's: its children, threads, signals and exits; the run is said to be what it was."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from fake_journald import LIBRARY, RUN_ID, Journald, texts

from sereno.run import identity, sigterm
from sereno.run.closing import GRACE_S

pytestmark = pytest.mark.waiting
STARTED, FINISHED, FAILED = "Tarea a_job iniciada", "Tarea a_job terminada", "Tarea a_job fallida"
INTERRUPTED = "Tarea a_job interrumpida"
KINDS = ("MESSAGE_ID", "SERENO_STATUS")


def code(body: str) -> str:
    return textwrap.dedent(body)


# --- one process is the run -------------------------------------------------------------------------------------------


def is_run(**environ: str) -> bool:
    return identity.is_the_run("sereno@a_job.service", environ)


def test_only_the_process_that_systemd_started_is_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    me = str(os.getpid())
    assert is_run(INVOCATION_ID="i", SYSTEMD_EXEC_PID=me)
    assert not is_run(SYSTEMD_EXEC_PID=me)
    # A terminal below user@.service.
    assert not is_run(INVOCATION_ID="i", SYSTEMD_EXEC_PID="1")
    # Whatever a process of the run starts, as the number of a process that is gone.
    assert not is_run(INVOCATION_ID="i", SYSTEMD_EXEC_PID=me, SERENO_RUN="i")
    # A run that another run starts by systemd.
    assert is_run(INVOCATION_ID="i", SYSTEMD_EXEC_PID=me, SERENO_RUN="another")
    monkeypatch.setattr(identity, "_is_in", lambda service: service == "sereno@a_job.service")
    assert is_run(INVOCATION_ID="i", SYSTEMD_EXEC_PID="1")
    monkeypatch.setattr(identity, "_is_in", lambda service: False)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert is_run(INVOCATION_ID="i", SYSTEMD_EXEC_PID="4711")


def test_only_the_main_process_has_the_managers_ear_and_no_child_gets_it() -> None:
    for pid, expected in ((str(os.getpid()), "@manager"), ("1", "")):
        environ = {"SYSTEMD_EXEC_PID": pid, "NOTIFY_SOCKET": "@manager"}
        assert identity.take_manager(environ) == expected
        assert environ == {"SYSTEMD_EXEC_PID": pid}


@pytest.mark.parametrize(
    ("body", "last"),
    [("pass", "success"), ("raise ValueError", "failed"), ("os._exit(0)", "running")],
)
def test_the_manager_is_left_what_the_run_came_to(
    tmp_path: Path, journald: Journald, body: str, last: str
) -> None:
    address = str(tmp_path / "manager")
    text = f"import os\ndef f():\n    assert 'NOTIFY_SOCKET' not in os.environ\n    {body}\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(5)
        journald.job(tmp_path, text, NOTIFY_SOCKET=address)
        heard = [manager.recv(100) for _ in range(1 if last == "running" else 2)]
    assert heard == [b"STATUS=running", b"STATUS=" + last.encode()][: len(heard)]


def test_the_manager_is_asked_for_the_time_that_a_monitor_may_take(
    tmp_path: Path, journald: Journald
) -> None:
    address = str(tmp_path / "manager")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(5)
        beats = {"NOTIFY_SOCKET": address, "SERENO_PING_URL": "http://127.0.0.1:9/"}
        journald.job(tmp_path, "def f():\n    pass\n", **beats)
        heard = [manager.recv(100) for _ in range(2)]
    assert heard == [b"STATUS=running", b"STATUS=success\nEXTEND_TIMEOUT_USEC=10000000"]


OLD_SCRIPT = """
import sys
sys.path[:0] = [{lib!r}, {jobs!r}]
import os
os.environ["SYSTEMD_EXEC_PID"] = os.environ.get("SYSTEMD_EXEC_PID") or str(os.getpid())
from sereno.records import sending
sending.SOCKET = {socket!r}
from sereno.runner import main
sys.exit(main("a_job", "a_module:f"))
"""
POOLS = {
    "spawn": "m.get_context('spawn').Pool(2)",
    "forkserver": "m.get_context('forkserver').Pool(2)",
    "executor": "c.ProcessPoolExecutor(2, m.get_context('spawn'))",
}


@pytest.mark.parametrize("how", POOLS)
def test_workers_of_an_entry_script_without_a_guard_do_not_run_the_job_again(
    tmp_path: Path, journald: Journald, how: str
) -> None:
    (tmp_path / "a_module.py").write_text(
        "import multiprocessing as m, concurrent.futures as c\n"
        f"def f():\n    with {POOLS[how]} as pool:\n        return {{'n': sum(pool.map(abs, range(6)))}}\n"
    )
    script = tmp_path / "a_job"
    known = {"lib": str(LIBRARY), "jobs": str(tmp_path), "socket": str(journald.path)}
    script.write_text(OLD_SCRIPT.format(**known))
    done = subprocess.run(
        [sys.executable, "-I", str(script)], env={"INVOCATION_ID": RUN_ID},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    sent = journald.records()
    assert (done.returncode, done.stderr, texts(sent)) == (0, "", [STARTED, FINISHED])
    assert sent[-1]["SERENO_STAT_N"] == "15"


@pytest.mark.parametrize(
    ("body", "stderr"),
    [
        ("if os.fork() == 0: raise ValueError('child')\nos.wait()", "ValueError: child"),
        ("if os.fork() == 0: return {'child': 1}\nos.wait()", ""),
        ("if os.fork() == 0: sys.exit(7)\nstatus = os.waitstatus_to_exitcode(os.wait()[1])", ""),
        ("import multiprocessing as m\np = m.get_context('fork').Process(target=print)\np.start()\np.join()", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_child_that_the_job_forks_says_nothing_of_the_run(
    tmp_path: Path, journald: Journald, kind: str, body: str, stderr: str
) -> None:
    body = textwrap.indent(f"status = 7\n{body}\nreturn {{'status': status}}\n", "    ")
    text = f"import os, sys\n{kind} f():\n{body}"
    done, sent = journald.job(tmp_path, text, SERENO_TEXTFILE_DIR=str(tmp_path))
    assert (done.returncode, texts(sent)) == (0, [STARTED, FINISHED])
    assert sent[-1]["SERENO_STATS"] == '{"status": 7}'
    assert stderr in done.stderr
    metrics = (tmp_path / "sereno_job_a_job.prom").read_text()
    assert 'runs_total{job_id="a_job",status="success"} 1.0' in metrics
    assert 'runs_total{job_id="a_job",status="failed"} 0.0' in metrics


def test_another_entry_script_that_a_job_runs_is_by_hand(
    tmp_path: Path, journald: Journald
) -> None:
    text = (
        "import subprocess, sys\n"
        "AGAIN = f'import sys; sys.path[:0] = {sys.path[:2]}; from sereno.runner import main; main(*sys.argv[1:])'\n"
        "def f():\n"
        "    words = [sys.executable, '-c', AGAIN, 'b', 'a_module:g']\n"
        "    return {'said': subprocess.run(words, capture_output=True, text=True).stderr}\n"
        "def g():\n"
        "    return {'g': 1}\n"
    )
    _, sent = journald.job(tmp_path, text)
    assert texts(sent) == [STARTED, FINISHED]
    assert "INFO: Tarea b terminada en " in sent[-1]["SERENO_STAT_SAID"]


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("threading.Thread(target=stay, name='poller').start()", "poller (a_module.py:"),
        ("pool = concurrent.futures.ThreadPoolExecutor(1, 'pool'); pool.submit(stay)", "pool_0 (a_module.py:"),
        ("atexit.register(stay)", "MainThread (a_module.py:"),
        ("multiprocessing.get_context('fork').Process(target=stay, name='worker').start()", "worker (pid "),
        ("import ctypes; threading.Thread(None, ctypes.CDLL(None).sleep, 'native', (60,)).start()", "native"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("ends", "status"), [("return {'n': 1}", 0), ("raise ValueError", 1)])
def test_a_process_that_does_not_end_after_its_record_is_ended_with_its_runs_status(
    tmp_path: Path, journald: Journald, body: str, names: str, ends: str, status: int
) -> None:
    text = (
        "import atexit, concurrent.futures, multiprocessing, threading, time\n"
        f"def stay():\n    time.sleep({3 * GRACE_S})\ndef f():\n    {body}\n    {ends}\n"
    )
    began = time.monotonic()
    done, sent = journald.job(tmp_path, text)
    assert time.monotonic() - began >= GRACE_S
    assert done.returncode == status
    assert texts(sent[:2]) == [STARTED, FINISHED if status == 0 else FAILED]
    (warning,) = sent[2:]
    assert "se termina; lo retenía: " in warning["MESSAGE"]
    assert names in warning["MESSAGE"]
    assert warning["PRIORITY"] == "4"
    assert warning["MESSAGE_ID"] == "f0609b8a7dc649b184fb9a5d288f5316"


@pytest.mark.parametrize(
    "leaves",
    [
        "loop.run_in_executor(None, time.sleep, 60)",
        "loop.create_task(stubborn())",
    ],
)
def test_the_statistics_of_a_coroutine_do_not_wait_for_its_loop(
    tmp_path: Path, journald: Journald, leaves: str
) -> None:
    text = code(
        f"""
        import asyncio, time
        async def stubborn():
            while True:
                try: await asyncio.sleep(60)
                except asyncio.CancelledError: pass
        async def f():
            loop = asyncio.get_running_loop()
            left = {leaves}
            await asyncio.sleep(0.05)
            return {{"n": 1}}
        """
    )
    done, sent = journald.job(tmp_path, text)
    assert (done.returncode, texts(sent[:2])) == (0, [STARTED, FINISHED])
    assert sent[1]["SERENO_STAT_N"] == "1"
    assert float(sent[1]["SERENO_DURATION_MS"]) < 3000
    assert "lo retenía: " in sent[2]["MESSAGE"]


def test_a_process_that_ends_by_itself_is_not_warned_of(tmp_path: Path, journald: Journald) -> None:
    text = "import threading, time\ndef f():\n    threading.Thread(target=time.sleep, args=(1,)).start()\n"
    done, sent = journald.job(tmp_path, text)
    assert (done.returncode, texts(sent)) == (0, [STARTED, FINISHED])


def test_a_crash_leaves_its_frames(tmp_path: Path, journald: Journald) -> None:
    text = "import atexit, os\ndef crash():\n    os.kill(os.getpid(), 11)\ndef f():\n    atexit.register(crash)\n"
    done, sent = journald.job(tmp_path, text)
    assert (done.returncode, texts(sent)) == (-signal.SIGSEGV, [STARTED, FINISHED])
    assert "a_module.py" in done.stderr
    assert "in crash" in done.stderr


@pytest.mark.parametrize("handler", ["signal.SIG_DFL", "lambda *_: 1 / 0"])
def test_an_alarm_that_the_job_left_does_not_ring_after_it(
    tmp_path: Path, journald: Journald, handler: str
) -> None:
    text = code(
        f"""
        import atexit, signal, time
        atexit.register(time.sleep, 0.4)
        def f():
            signal.signal(signal.SIGALRM, {handler})
            signal.setitimer(signal.ITIMER_REAL, 0.2)
        """
    )
    done, sent = journald.job(tmp_path, text)
    assert (done.returncode, done.stderr, texts(sent)) == (0, "", [STARTED, FINISHED])


def test_statistics_that_another_thread_still_changes_are_recorded(
    tmp_path: Path, journald: Journald
) -> None:
    text = code(
        """
        import threading
        stats = {}
        def change():
            for number in range(3_000_000):
                stats[number % 1000] = stats.pop((number + 500) % 1000, 1)
        def f():
            threading.Thread(target=change, daemon=True).start()
            while len(stats) < 400:
                pass
            return {"deep": stats}
        """
    )
    done, sent = journald.job(tmp_path, text)
    assert done.returncode == 0, sent[-1]
    assert texts(sent)[-1] == FINISHED


# --- a stop -----------------------------------------------------------------------------------------------------------


def manager(tmp_path: Path, state: str, result: str, stop_s: float = 3) -> str:
    """A PATH with a systemctl that says so."""
    place = tmp_path / "bin"
    place.mkdir()
    said = f"ActiveState={state}\nResult={result}\nTimeoutStopUSec={stop_s:g}s"
    (place / "systemctl").write_text(f"#!/bin/sh\necho '{said}'\n")
    (place / "systemctl").chmod(stat.S_IRWXU)
    return f"{place}:/usr/bin:/bin"


DEAF = {
    "a busy task below a plain function": """
        import asyncio
        async def busy():
            while True:
                try: await asyncio.sleep(60)
                except BaseException: pass
        async def main():
            task = asyncio.create_task(busy())
            await asyncio.sleep(0.01)
            print("waiting", flush=True)
            await task
        def f(): asyncio.run(main())
        """,
    "except BaseException in a loop": """
        import time
        def f():
            while True:
                try:
                    print("waiting", flush=True)
                    for _ in range(600): time.sleep(0.1)
                except BaseException: pass
        """,
    "a pool that is waited for": """
        import time
        from concurrent.futures import ThreadPoolExecutor
        def f():
            with ThreadPoolExecutor() as pool:
                pool.submit(time.sleep, 60)
                print("waiting", flush=True)
        """,
    "a coroutine that is not cancelled": """
        import asyncio
        async def f():
            print("waiting", flush=True)
            while True:
                try: await asyncio.sleep(60)
                except asyncio.CancelledError: pass
        """,
    "a cleanup without an end": """
        import time
        def f():
            try:
                print("waiting", flush=True)
                for _ in range(600): time.sleep(0.1)
            finally:
                time.sleep(60)
        """,
    "a coroutine that never lets go": """
        import time
        async def f():
            print("waiting", flush=True)
            end = time.monotonic() + 60
            while time.monotonic() < end: pass
        """,
}


@pytest.mark.parametrize("does", DEAF)
def test_whatever_a_job_makes_of_sigterm_its_record_comes_before_it_is_killed(
    tmp_path: Path, journald: Journald, does: str
) -> None:
    (tmp_path / "a_module.py").write_text(code(DEAF[does]))
    path = manager(tmp_path, "deactivating", "success")
    with journald.start("a_module:f", path=tmp_path, PATH=path) as process:
        assert process.stdout.readline() == "waiting\n"
        stopped = time.monotonic()
        process.terminate()
        process.communicate(timeout=20)
    assert time.monotonic() - stopped < 3
    sent = journald.records()
    assert (process.returncode, texts(sent)) == (143, [STARTED, INTERRUPTED])
    assert sent[-1]["SERENO_STATUS"] == "interrupted"
    if "pool" in does:
        # RunInterrupted may get through to what waits for the thread, which then is left.
        assert "SIGTERM" in sent[-1]["SERENO_ERROR"]
    elif "not cancelled" in does:
        assert sent[-1]["SERENO_ERROR"] == "did not end in time after SIGTERM"
    else:
        assert "did not end in time after SIGTERM (a_module.py:" in sent[-1]["SERENO_ERROR"]


WAITS = """
def f():
    import time
    try:
        print("waiting", flush=True)
        # A signal between the last step of Python and one long call of the system's would wait for its end.
        for _ in range(600): time.sleep(0.1)
    finally:
        time.sleep({cleanup_s})
        print("cleaned up", flush=True)
"""


@pytest.mark.parametrize(
    ("state", "result", "kind", "status", "says"),
    [
        ("deactivating", "success", INTERRUPTED, 143, "RunInterrupted: SIGTERM (a_module.py:"),
        ("deactivating", "timeout", FAILED, 1, "over its time limit: RunInterrupted: SIGTERM"),
        # Somebody's kill.
        ("activating", "success", INTERRUPTED, 1, "RunInterrupted: SIGTERM (a_module.py:"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cleanup_s", [0, 1.5, 30])
def test_only_what_its_limit_ended_is_over_it(
    tmp_path: Path, journald: Journald, state: str, result: str, kind: str, status: int, says: str, cleanup_s: float
) -> None:  # fmt: skip
    (tmp_path / "a_module.py").write_text(WAITS.format(cleanup_s=cleanup_s))
    path = manager(tmp_path, state, result, stop_s=5)
    with journald.start("a_module:f", path=tmp_path, PATH=path) as process:
        assert process.stdout.readline() == "waiting\n"
        process.terminate()
        out, _ = process.communicate(timeout=20)
    sent = journald.records()
    assert (process.returncode, texts(sent)) == (status, [STARTED, kind])
    assert out == ("" if cleanup_s == 30 else "cleaned up\n")
    if cleanup_s == 30:
        says = says.replace("RunInterrupted: SIGTERM", "did not end in time after SIGTERM")
    assert sent[-1]["SERENO_ERROR"].startswith(says)
    # The field has no language; the line for people has the log's.
    in_log = says.replace("over its time limit", "límite de tiempo superado")
    assert in_log in sent[-1]["MESSAGE"]


def test_a_run_that_is_stopped_ends_with_its_function(tmp_path: Path, journald: Journald) -> None:
    (tmp_path / "a_module.py").write_text(WAITS.format(cleanup_s=0))
    path = manager(tmp_path, "deactivating", "success", stop_s=60)
    # As in a job that has not loaded them: an environment's own start-up files may have.
    first = "import sys\nfor name in ('threading', 'subprocess'): sys.modules.pop(name, None)\n"
    with journald.start("a_module:f", first=first, path=tmp_path, PATH=path) as process:
        process.stdout.readline()
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 143
    # Nothing had to end it.
    assert texts(journald.records()) == [STARTED, INTERRUPTED]


def test_where_nobody_can_be_asked_a_run_was_stopped(tmp_path: Path, journald: Journald) -> None:
    (tmp_path / "a_module.py").write_text(WAITS.format(cleanup_s=0))
    with journald.start("a_module:f", path=tmp_path, PATH=str(tmp_path)) as process:
        process.stdout.readline()
        process.terminate()
        process.communicate(timeout=20)
    assert (process.returncode, texts(journald.records())) == (143, [STARTED, INTERRUPTED])


@pytest.mark.parametrize(
    ("span", "seconds"),
    [
        *[("10s", 10), ("1min 30s", 90), ("1.5s", 1.5), ("500ms", 0.5), ("1h 5min", 3900)],
        *[("infinity", float("inf")), ("", 12), ("soon", 12), ("3 fortnights", 12)],
    ],
)
def test_the_time_for_a_stop_is_read_as_systemctl_shows_it(span: str, seconds: float) -> None:
    assert sigterm.seconds_of(span) == seconds


# --- what ends a function ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(
    ("ends", "status", "error"),
    [
        ("sys.exit()", 0, None),
        ("sys.exit(0)", 0, None),
        ("sys.exit(3)", 1, "SystemExit: 3"),
        ("return {'error': False}", 0, None),
        ("return {'error': ''}", 0, None),
        ("return {'error': None, 'status': 'ok'}", 0, None),
        ("return {'error': '', 'status': 'error'}", 1, "status: error"),
        ("return {'error': 'no disk'}", 1, "no disk"),
        ("return 5", 1, "result: the function returned int, not a dict"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt (a_module.py:2, f)"),
    ],
)
def test_what_is_a_success_and_what_is_not(
    tmp_path: Path, journald: Journald, kind: str, ends: str, status: int, error: str | None
) -> None:
    done, sent = journald.job(tmp_path, f"import sys\n{kind} f(): {ends}\n")
    assert (done.returncode, texts(sent)) == (status, [STARTED, FAILED if status else FINISHED])
    assert sent[-1].get("SERENO_ERROR", "").startswith(error or "")
    if ends.startswith("sys.exit") and not status:
        assert "SERENO_STATS" not in sent[-1]


def test_a_keyboard_interrupt_is_tried_again(tmp_path: Path, journald: Journald) -> None:
    text = "tries = []\ndef f():\n    tries.append(1)\n    if len(tries) < 2: raise KeyboardInterrupt\n"
    settings = {"SERENO_RETRIES": "1", "SERENO_RETRY_DELAY_S": "0"}
    done, sent = journald.job(tmp_path, text, **settings)
    assert (done.returncode, len(sent)) == (0, 3)
    assert sent[-1]["SERENO_TRIES"] == "2"


def test_a_job_sees_no_arguments_but_its_name(tmp_path: Path, journald: Journald) -> None:
    text = code(
        """
        import argparse, sys
        def f():
            parser = argparse.ArgumentParser()
            parser.add_argument("--days", default=3)
            return {"days": parser.parse_args().days, "prog": parser.prog, "argv": sys.argv}
        """
    )
    done, sent = journald.job(tmp_path, text)
    assert done.returncode == 0, sent[-1]
    assert sent[-1]["SERENO_STATS"] == '{"days": 3, "prog": "a_job", "argv": ["a_job"]}'


def test_a_run_that_is_left_out_leaves_one_record_and_its_metrics(
    tmp_path: Path, journald: Journald
) -> None:
    (tmp_path / "bin").mkdir()
    systemctl = tmp_path / "bin/systemctl"
    shown = (
        "LastTriggerUSecMonotonic=1s\n\nInactiveEnterTimestampMonotonic=0\nActiveState=activating"
    )
    systemctl.write_text(
        f"#!/bin/sh\ncase $* in *.timer*) echo '{shown}' ;; *) echo ActiveState=activating ;; esac\n"
    )
    systemctl.chmod(stat.S_IRWXU)
    settings = {"SERENO_ONLY_IF_SUCCESS": "other", "SERENO_TEXTFILE_DIR": str(tmp_path)}
    done, sent = journald.job(
        tmp_path, "def f(): pass\n", PATH=f"{systemctl.parent}:/bin", **settings
    )
    assert (done.returncode, len(sent)) == (77, 1)
    assert sent[0]["MESSAGE"] == "Tarea a_job omitida: other está en ejecución"
    assert (sent[0]["SERENO_STATUS"], sent[0]["SERENO_AFTER"]) == ("skipped", "other")
    assert (sent[0]["PRIORITY"], sent[0]["MESSAGE_ID"]) == (
        "4",
        "b2cd3c4d8cd044c392c152a1cdb22abe",
    )
    assert 'status="skipped"} 1.0' in (tmp_path / "sereno_job_a_job.prom").read_text()
