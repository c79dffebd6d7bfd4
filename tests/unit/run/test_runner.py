"""One run of a job, in a process of its own without systemd: status, log and what is said about failures."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from sereno.errors import InvalidJob
from sereno.run import tries
from sereno.runner import _may_have_elapsed
from sereno.units.unit_text import START

HERE = Path(__file__).parents[1]
LIBRARY = HERE.parents[1] / "lib"


def run(function: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "INVOCATION_ID"}
    return subprocess.run(
        [sys.executable, "-P", "-c", START, "a_job", function],
        env={**clean, "PYTHONPATH": f"{HERE}:{LIBRARY}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "stats"),
    [
        ("stats", {"rows": 3, "rate": 78.5, "note": "bien", "nested": {"a": [1, 2]}}),
        ("stats_async", {"rows": 4}),
    ],
)
def test_a_run_that_returns_statistics_succeeds_and_shows_them(name, stats) -> None:
    done = run(f"sample_jobs:{name}")
    assert done.returncode == 0, done.stderr
    first, last = done.stderr.splitlines()
    assert first == "INFO: Tarea a_job iniciada"
    assert last.startswith("INFO: Tarea a_job terminada en ")
    assert json.loads(last[last.index("{") :]) == stats


def test_what_a_job_printed_before_it_was_killed_is_there() -> None:
    done = run("sample_jobs:prints_and_is_killed")
    assert (done.returncode, done.stdout) == (-9, "half way\n")


def test_a_run_that_returns_none_succeeds() -> None:
    done = run("sample_jobs:nothing")
    assert done.returncode == 0
    assert "{" not in done.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a_list", "the function returned list, not a dict of statistics or None"),
        ("raises", "ValueError: no such table: ventas (sample_jobs.py:26, raises)"),
        ("raises_two_lines", "ValueError: boom second line (sample_jobs.py"),
        ("raises_async", "ValueError: no such table: ventas (sample_jobs.py:"),
        ("raises_system_exit", "SystemExit: giving up"),
        ("reports_error", "disk on fire"),
        ("reports_status", "no route"),
        ("cancels_itself", "CancelledError (sample_jobs.py:"),
        ("not_there", "function: 'sample_jobs:not_there' cannot be imported by"),
    ],
)
def test_a_run_that_fails_ends_with_1_and_says_why(name, says) -> None:
    done = run(f"sample_jobs:{name}")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert line.startswith("ERROR: Tarea a_job fallida tras ")
    assert says in line


def test_only_what_the_job_did_not_mean_to_raise_has_a_traceback() -> None:
    assert "Traceback" in run("sample_jobs:raises").stderr
    assert "Traceback" not in run("sample_jobs:a_list").stderr
    assert "Traceback" not in run("sample_jobs:reports_error").stderr
    assert "Traceback" not in run("no_such_module:f").stderr


def test_what_a_job_prints_stays_its_own() -> None:
    assert run("sample_jobs:writes_to_stdout").stdout == "hello from the job\n"


def test_what_a_job_logs_is_shown_with_its_level() -> None:
    assert "WARNING: careful\n" in run("sample_jobs:logs").stderr


def test_without_a_journal_socket_a_run_of_systemd_logs_to_stderr(tmp_path: Path) -> None:
    code = (
        "from sereno.records import journal; from sereno import runner\n"
        f"journal.SOCKET = {str(tmp_path / 'none')!r}\n"
        "raise SystemExit(runner.main('a_job', 'sample_jobs:stats'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{HERE}:{LIBRARY}", "INVOCATION_ID": "0" * 32},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.startswith("INFO: Tarea a_job iniciada\n")


def test_a_run_longer_than_its_interval_is_recorded_whether_it_succeeds_or_fails() -> None:
    for name in ("stats", "raises"):
        last = run(f"sample_jobs:{name}", SERENO_INTERVAL_S="0").stderr.splitlines()[-1]
        assert last.startswith("WARNING: Tarea a_job solapada: duró ")
        assert last.endswith("s, más que su intervalo de 0s")
    assert "solapada" not in run("sample_jobs:stats", SERENO_INTERVAL_S="3600").stderr
    assert "solapada" not in run("sample_jobs:stats", SERENO_INTERVAL_S="x").stderr


def test_a_failed_try_is_recorded_and_followed_by_the_next_after_its_delay() -> None:
    settings = {"SERENO_RETRIES": "4", "SERENO_RETRY_DELAY_S": "0.01"}
    done = run("sample_jobs:fails_twice", **settings)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert [line.partition(" (")[0] for line in lines[1:3]] == [
        "WARNING: Tarea a_job: intento 1 de 5 fallido, el siguiente en 0.01s:"
        " ConnectionError: no route, try 1",
        "WARNING: Tarea a_job: intento 2 de 5 fallido, el siguiente en 0.02s:"
        " ConnectionError: no route, try 2",
    ]
    assert re.fullmatch(
        r'INFO: Tarea a_job terminada en [\d.]+ms y 3 intentos: {"tries": 3}', lines[3]
    )


@pytest.mark.parametrize(("name", "tries"), [("raises", 3), ("reports_error", 3), ("a_list", 1)])
def test_a_run_fails_with_its_last_try_and_a_mistake_of_its_code_is_not_tried_again(
    name, tries
) -> None:
    done = run(f"sample_jobs:{name}", SERENO_RETRIES="2", SERENO_RETRY_DELAY_S="0")
    assert done.returncode == 1
    assert done.stderr.count("WARNING: ") == tries - 1
    assert done.stderr.count("ERROR: ") == 1
    assert (" y 3 intentos: " in done.stderr) is (tries == 3)


def test_retries_that_cannot_be_read_are_left_out_and_said(tmp_path: Path) -> None:
    done = run("sample_jobs:stats", SERENO_RETRIES="many")
    assert done.returncode == 0
    assert "WARNING: Tarea a_job: SERENO_RETRY…, sin reintentos: invalid literal" in done.stderr


def test_a_function_gets_its_arguments() -> None:
    kwargs = {"rows": 7, "text": "ñ $HOME\n'\""}
    done = run("sample_jobs:tells", SERENO_KWARGS=json.dumps(kwargs))
    last = done.stderr.splitlines()[-1]
    assert json.loads(last[last.index("{") :]) == kwargs
    done = run("sample_jobs:tells", SERENO_KWARGS="{")
    assert done.returncode == 1
    assert "ERROR: Tarea a_job fallida tras" in done.stderr
    assert "SERENO_KWARGS: " in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, -2.5e3, "ñ\\n\\ud83d\\ude00", null, true, {}], "b": {"c": []}}', '{"a": 1, "a": 2}',
        ' {"a": 1}', '{"a": 1}\n', '{"a": NaN, "b": -Infinity, "c": 1e400}', '{"a": "\\ud800"}',
        "", "{", '{"a" 1}', '{"a": 1} 2', "{'a': 1}", '{"a": "\t"}', "[1,]", '{"a": 01}',
    ],
)  # fmt: skip
def test_arguments_are_what_json_makes_of_their_text(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SERENO_KWARGS", text)
    try:
        expected = repr(json.loads(text))
    except ValueError as error:
        with pytest.raises(InvalidJob, match=re.escape(str(error))):
            tries._kwargs()
    else:
        assert repr(tries._kwargs()) == expected


@contextmanager
def waiting(function: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    clean = {name: value for name, value in os.environ.items() if name != "INVOCATION_ID"}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", START, "a_job", function],
        env={**clean, "PYTHONPATH": f"{HERE}:{LIBRARY}", **environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["waits", "waits_async"])
def test_sigterm_runs_what_cleans_up_undisturbed_and_ends_the_run_as_interrupted(name) -> None:
    with waiting(f"sample_jobs:{name}", SERENO_RETRIES="3") as process:
        assert process.stdout.readline() == "waiting\n"
        process.terminate()
        assert process.stdout.readline() == "cleaning up\n"
        process.terminate()
        out, err = process.communicate("go on\n", timeout=20)
    assert process.returncode == 143
    assert out == "cleaned up\n"
    last = err.splitlines()[-1]
    assert last.startswith("WARNING: Tarea a_job interrumpida tras ")
    if name == "waits":
        assert re.search(r": RunInterrupted: SIGTERM \(sample_jobs\.py:\d+, waits\)$", last)
    assert "Traceback" not in err


def test_a_run_that_was_stopped_and_returned_what_it_had_keeps_its_statistics() -> None:
    with waiting("sample_jobs:returns_what_it_has") as process:
        process.stdout.readline()
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert err.splitlines()[-1].startswith("WARNING: Tarea a_job interrumpida tras ")


def test_a_process_that_a_job_forks_has_no_part_in_this() -> None:
    assert '{"child": "signal 15"}' in run("sample_jobs:ends_its_child").stderr


def test_no_try_follows_a_sigterm() -> None:
    settings = {"SERENO_RETRIES": "3", "SERENO_RETRY_DELAY_S": "60"}
    with waiting("sample_jobs:raises", **settings) as process:
        for line in process.stderr:
            if "intento 1 de 4 fallido" in line:
                break
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert err.splitlines()[-1].startswith("WARNING: Tarea a_job interrumpida tras ")


def test_a_run_that_cannot_be_judged_says_so_and_runs(tmp_path: Path) -> None:
    for grace, says in (
        ("60", "retraso no comprobado: systemd: there is no systemctl"),
        ("x", "SERENO_MISFIRE_GRACE_S"),
    ):
        done = run("sample_jobs:stats", SERENO_MISFIRE_GRACE_S=grace, PATH=str(tmp_path))
        assert done.returncode == 0
        assert says in done.stderr.splitlines()[0]
        assert '"rows": 3' in done.stderr


@pytest.mark.parametrize(
    ("start_s", "end_s", "step", "may"),
    [
        (60.1, 119.9, "60", False),
        (60.1, 120.0, "60", True),
        (60.1, 1000, "60", True),
        # Started by the elapse at 60, however soon after it.
        (60.0, 60.5, "60", False),
        (60.1, 60.9, "1", False),
        (60.9, 61.1, "1", True),
        (60.9, 999, "", False),
        (60.9, 999, "0", False),
        (60.9, 999, "x", False),
    ],
)
def test_an_elapse_is_looked_for_only_if_a_step_of_the_calendar_lies_in_the_run(
    start_s, end_s, step, may, monkeypatch
) -> None:
    monkeypatch.setenv("SERENO_CALENDAR_STEP_S", step)
    assert _may_have_elapsed(start_s, end_s) is may


def test_a_run_over_a_step_of_its_calendar_asks_whether_the_timer_elapsed(tmp_path: Path) -> None:
    def said(**environment: str) -> str:
        return run("sample_jobs:over_a_second", PATH=str(tmp_path), **environment).stderr

    assert "solape" not in said()
    assert "solape no comprobado: systemd: there is no" in said(SERENO_CALENDAR_STEP_S="1")
    assert "SERENO_TIMER_SLACK_S no es" in said(
        SERENO_CALENDAR_STEP_S="1", SERENO_TIMER_SLACK_S="x"
    )


def test_wrong_use_ends_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sereno.runner"],
        env={"PYTHONPATH": str(LIBRARY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "usage: python -m sereno.runner JOB MODULE:FUNCTION\n",
    )


# What takes longer to load than a run takes otherwise, and what only other parts of sereno need.
TOO_DEAR = """
asyncio cachetools collections contextlib dataclasses enum functools hashlib importlib json logging orjson pathlib
random re shlex signal subprocess threading traceback typing urllib lmdb.verify
""".split()


def loaded_by(job_id: str, function: str, **environment: str) -> set[str]:
    """The modules that a run as its unit starts it loads, without what site-packages may load of their own accord."""
    code = (
        f"import atexit, sys\nsys.path.append({str(Path(lmdb.__file__).parents[1])!r})\n"
        f"atexit.register(lambda: print(*sys.modules, sep='\\n'))\n{START}"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, job_id, function],
        env={"PYTHONPATH": f"{HERE}:{LIBRARY}", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split("\n"))


def test_a_run_loads_nothing_that_takes_longer_than_it_nor_the_scheduling_half() -> None:
    loaded = loaded_by("a_job", "sample_jobs:stats")
    given = loaded_by("a_job", "sample_jobs:tells", SERENO_KWARGS='{"rows": [1.5, null]}')
    tried = loaded_by("a_job", "sample_jobs:stats", SERENO_RETRIES="2")
    assert (loaded | given | tried) & set(TOO_DEAR) == set()
    needed = (
        "errors manager manager.names named_tuple records records.journal records.log records.messages"
        " records.printable records.sending run run.closing run.identity run.sigterm run.tries runner setting_names"
    )
    ours = {name for name in loaded if name.startswith("sereno.")}
    assert ours == {f"sereno.{name}" for name in needed.split()}


def test_a_run_of_the_cleanup_loads_no_more_than_the_cache(tmp_path: Path) -> None:
    loaded = loaded_by(
        "cache_cleanup_hourly",
        "sereno.jobs.cache_cleanup_job:clean_up",
        SERENO_CACHE_DIR=str(tmp_path / "c"),
    )
    assert "sereno.cache.metadata" in loaded
    assert loaded & set(TOO_DEAR) == set()
    assert "sereno.cache.level" not in loaded


def test_a_job_that_closed_its_outputs_keeps_its_status(tmp_path: Path) -> None:
    (tmp_path / "closing.py").write_text(
        "import os\ndef f():\n    print('to nobody')\n    [os.close(n) for n in range(3)]\n"
        "def g():\n    import sys\n    sys.stdout.close()\n    f.__globals__['os'].close(2)\n"
        "def fails():\n    f()\n    raise ValueError\n"
    )
    for function, status in (("f", 0), ("g", 0), ("fails", 1)):
        assert run(f"closing:{function}", PYTHONPATH=f"{tmp_path}:{LIBRARY}").returncode == status


def test_a_process_that_outlives_its_record_is_stopped_with_the_status_of_its_run(
    tmp_path: Path,
) -> None:
    (tmp_path / "staying.py").write_text(
        "import threading, time\ndef f():\n    threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "def g():\n    f()\n    raise ValueError\n"
    )
    for function, status in (("f", 0), ("g", 1)):
        with subprocess.Popen(
            [sys.executable, "-m", "sereno.runner", "a_job", f"staying:{function}"],
            env={"PYTHONPATH": f"{tmp_path}:{LIBRARY}"},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            process.stderr.readline()
            process.stderr.readline()
            # Between its record and its end a run does not take notice.
            deadline = time.monotonic() + 30
            while process.poll() is None and time.monotonic() < deadline:
                process.terminate()
                time.sleep(0.01)
            assert process.poll() == status
            process.kill()


def test_an_empty_ping_url_is_none(tmp_path: Path) -> None:
    assert run("sample_jobs:stats", SERENO_PING_URL="").returncode == 0


def test_a_run_during_an_upgrade_ends_on_the_code_that_it_began_with(tmp_path: Path) -> None:
    (tmp_path / "lib").symlink_to(LIBRARY)
    (tmp_path / "newer/sereno").mkdir(parents=True)
    (tmp_path / "upgrading.py").write_text(
        "import os, pathlib\n"
        "def f():\n"
        f"    os.symlink({str(tmp_path / 'newer')!r}, {str(tmp_path / 'new')!r})\n"
        f"    os.replace({str(tmp_path / 'new')!r}, {str(tmp_path / 'lib')!r})\n"
        "    from sereno.manager import analyze\n"
        "    return {'from': analyze.__file__}\n"
    )
    done = run("upgrading:f", PYTHONPATH=f"{tmp_path}:{tmp_path / 'lib'}")
    assert done.returncode == 0, done.stderr
    assert str(LIBRARY / "sereno/manager/analyze.py") in done.stderr
