"""A run that systemd did not start: its settings, and its records as lines of JSON, whatever the job and readers do."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_journald import LIBRARY, Journald

from sereno.run.outside import _elapse

UID = "3f2c5a0e-8a61-4a5b-9d0c-2f7f3c1d9b11"
KINDS = ("MESSAGE_ID", "SERENO_STATUS")
# What tells one process from another.
OWN = ("SERENO_RUN", "SERENO_DURATION_MS", "CODE_FILE", "__REALTIME_TIMESTAMP")


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """start(code, …): a run of the function `f` of a module with that text."""

    def start(code: str, **how: Any) -> subprocess.Popen[bytes]:
        (tmp_path / "a_module.py").write_text(textwrap.dedent(code))
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        streams |= {
            name: how.pop(name) for name in ("stdout", "stderr", "preexec_fn") if name in how
        }
        environment = {"SERENO_LOG": "json", "PATH": os.environ["PATH"], **how}
        return subprocess.Popen(
            [sys.executable, "-m", "sereno.runner", "a_job", "a_module:f"],
            env={"PYTHONPATH": f"{LIBRARY}:{tmp_path}", **environment},
            cwd=tmp_path, stdin=subprocess.DEVNULL, **streams,
        )  # fmt: skip

    return start


@pytest.fixture
def run(start: Any) -> Any:
    """run(code, …): status, records on standard output, and standard error of such a run."""

    def run(code: str, **how: Any) -> tuple[int, list[dict[str, str]], str]:
        with start(code, **how) as process:
            out, err = process.communicate(timeout=60)
        # Split as a reader of lines does, who may take more than "\n" for the end of one.
        lines = (out or b"").decode().splitlines()
        return process.returncode, [json.loads(line) for line in lines], (err or b"").decode()

    return run


def status_of(records: list[dict[str, str]]) -> str:
    assert [record.get("SERENO_STATUS") for record in records[:-1]].count(None) == len(records) - 1
    return records[-1]["SERENO_STATUS"]


LOGS = """
    import logging
    def f():
        logging.getLogger("shop").warning("two\\nlines, ñ, \\x85 %s", 3, extra={"SERENO_SHOP": "Madrid"})
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("no")
        return {"rows": 3, "note": "sí"}
"""


def test_the_records_are_the_journals_but_for_their_way(run: Any, tmp_path: Path) -> None:
    status, records, _ = run(LOGS, SERENO_RUN_ID=UID, SERENO_ELAPSE="2026-11-30T03:00:00+01:00")
    assert status == 0
    with Journald(tmp_path / "socket") as journald:
        _, right = journald.job(tmp_path, textwrap.dedent(LOGS))
    assert len(records) == len(right) == 4
    for record, other in zip(records, right, strict=True):
        assert record.pop("SERENO_ELAPSE") == "2026-11-30T03:00:00+01:00"
        assert record["SERENO_RUN"] == UID
        assert abs(int(record["__REALTIME_TIMESTAMP"]) / 1e6 - time.time()) < 60
        assert {*record} - {*OWN} == {*other} - {*OWN}
        for name in {*record} - {*OWN, "MESSAGE", "EXCEPTION_TEXT"}:
            assert record[name] == other[name]
    assert records[1]["MESSAGE"] == right[1]["MESSAGE"] == "two\nlines, ñ, \x85 3"


TEARS = """
    import logging, os, subprocess, sys, threading
    def f():
        print("half", end="")
        os.write(1, b"half")
        subprocess.run(["printf", "half"], check=True)
        sys.stdout.flush()
        threads = [threading.Thread(target=logging.error, args=("x" * size,)) for size in (9, 10**6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nothing_that_a_job_prints_tears_a_record(run: Any, unbuffered: str) -> None:
    status, records, err = run(TEARS, PYTHONUNBUFFERED=unbuffered)
    assert (status, status_of(records), len(records)) == (0, "success", 4)
    assert max(len(record["MESSAGE"]) for record in records) == 10**6
    assert err.count("half") == 3


def test_where_both_streams_are_one_a_record_still_has_a_line_of_its_own(start: Any) -> None:
    with start(TEARS, PYTHONUNBUFFERED="1", stderr=subprocess.STDOUT) as process:
        out = process.communicate(timeout=60)[0].decode()
    records = [json.loads(line) for line in out.split("\n") if line.startswith("{")]
    assert (len(records), out.count("half")) == (4, 3)
    assert "half{" not in out


def test_a_closed_pipe_neither_ends_the_run_nor_loses_its_end(start: Any) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    # As command-line programs do.
    code = "import signal\ndef f():\n    signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
    with start(code, stdout=writer) as process:
        os.close(writer)
        err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 0
    assert status_of([json.loads(line) for line in err.splitlines()]) == "success"


def test_a_full_pipe_that_nobody_reads_holds_a_run_up_once(start: Any) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"x" * 4096)
    code = "import logging\ndef f():\n    for _ in range(100): logging.error('x')\n"
    begin_s = time.monotonic()
    with start(code, stdout=writer) as process:
        err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 0
    assert 5 < time.monotonic() - begin_s < 25
    # Standard error is read.
    assert len(err.splitlines()) == 102
    os.close(reader)
    os.close(writer)


def test_a_run_without_standard_output_has_its_records_on_standard_error(run: Any) -> None:
    status, records, err = run("def f(): pass\n", stdout=None, preexec_fn=lambda: os.close(1))
    assert (status, records) == (0, [])
    assert status_of([json.loads(line) for line in err.splitlines()]) == "success"


def test_no_record_goes_to_a_connection_that_has_the_number_of_a_closed_descriptor(
    run: Any,
) -> None:
    code = """
        import os, socket
        def f():
            os.closerange(3, 100)
            ours, theirs = socket.socketpair()
            for number in range(3, 100):
                if number not in (ours.fileno(), theirs.fileno()):
                    os.dup2(theirs.fileno(), number)
            import logging
            logging.error("to nobody else")
            ours.setblocking(False)
            try:
                os.write(2, ours.recv(1))
            except BlockingIOError:
                os.write(2, b"nothing came")
    """
    status, records, err = run(code)
    assert (status, len(records)) == (0, 1)
    logged, nothing, last = err.replace("nothing came", "nothing came\n").splitlines()
    assert (json.loads(logged)["MESSAGE"], nothing) == ("to nobody else", "nothing came")
    assert json.loads(last)["SERENO_STATUS"] == "success"


@pytest.mark.parametrize(
    ("body", "status", "said", "error"),
    [
        ("raise ValueError('no')", 1, "failed", "ValueError: no (a_module.py:2, f)"),
        ("return {'error': 'disk full'}", 1, "failed", "disk full"),
        ("import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", 143,
         "interrupted", "RunInterrupted: SIGTERM (a_module.py:2, f)"),
    ],
)  # fmt: skip
def test_how_a_run_ends_is_its_status_and_its_last_record(
    run: Any, body: str, status: int, said: str, error: str
) -> None:
    ended, records, _ = run(f"def f():\n    {body}\n")
    assert (ended, status_of(records), records[-1]["SERENO_ERROR"]) == (status, said, error)
    # The sandbox of systemd is not where it is.
    assert "SERENO_HINT" not in records[-1]


# What the elapse before now by so many minutes is called.
FORMS = {
    "a time": lambda minutes: (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(),
    "a Job's": lambda minutes: f"shop-sync-{time.time() // 60 - minutes:.0f}",
    "a Job's by hand": lambda minutes: "shop-sync-by-hand",
}


@pytest.mark.parametrize(
    ("form", "minutes", "settings", "status", "said"),
    [
        ("a time", 10, {}, 77, "skipped"),
        ("a time", 10, {"SERENO_EXIT_SKIPPED": "0"}, 0, "skipped"),
        ("a time", 1, {"SERENO_EXIT_SKIPPED": "0"}, 0, "success"),
        ("a Job's by hand", 10, {}, 0, "success"),
        ("a Job's", 10, {}, 77, "skipped"),
    ],
)
def test_a_run_that_starts_too_late_after_its_elapse_is_left_out(
    run: Any, form: str, minutes: int, settings: dict[str, str], status: int, said: str
) -> None:
    grace = {"SERENO_MISFIRE_GRACE_S": "300", "SERENO_ELAPSE": FORMS[form](minutes)}
    ended, records, _ = run("def f(): pass\n", **grace, **settings)
    assert (ended, status_of(records)) == (status, said)
    assert ("SERENO_LATE_S" in records[-1]) is (said == "skipped")


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("SERENO_LOG", "xml", "json"),
        ("SERENO_RUN_ID", "pod-1", "a UUID"),
        ("SERENO_ELAPSE", "tomorrow noon", "a time with its zone, nor the name of a Job"),
        ("SERENO_ELAPSE", "2026-11-30T03:00:00", "a time with its zone"),
        ("SERENO_EXIT_SKIPPED", "256", "an exit status, 0 to 255"),
        ("SERENO_EXIT_SKIPPED", "none", "an exit status, 0 to 255"),
        ("SERENO_MISFIRE_GRACE_S", "5min", "a number of seconds"),
        ("SERENO_MISFIRE_GRACE_S", "nan", "a number of seconds"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_run(
    run: Any, tmp_path: Path, name: str, value: str, rule: str
) -> None:
    status, records, err = run("def f(): open('ran', 'w')\n", **{name: value})
    assert (status, records) == (2, [])
    assert err.startswith(f"sereno: {name}: {value!r} is not {rule}")
    assert not (tmp_path / "ran").exists()


def test_the_elapse_is_the_minute_at_the_end_of_a_jobs_name() -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    minute = int(now.timestamp()) // 60
    assert _elapse(f"shop-sync-prices-{minute}") == now
    assert _elapse(f"a-1b2c3d4e-{minute}") == now
    assert _elapse("2026-11-30T03:00:00Z") == datetime(2026, 11, 30, 3, tzinfo=UTC)
    # Made by hand, under any name that a Job can have.
    for name in (
        "shop-sync-manual",
        "shop-20261130",
        "shop-1",
        "a",
        f"shop-{minute}-x",
        "shop-99999999",
    ):
        assert _elapse(name) is None


def test_what_a_run_starts_is_no_run_whose_end_anybody_waits_for(run: Any) -> None:
    code = """
        import subprocess, sys
        def f():
            if len(sys.argv) > 1: return
            child = [sys.executable, "-m", "sereno.runner", "another", "a_module:g"]
            subprocess.run(child, check=True)
        def g(): pass
    """
    # Only what counts calls the monitor; this one has no server, and says so.
    pings = {"SERENO_PING_URL": "http://127.0.0.1:9/"}
    status, records, err = run(code, **pings)
    assert status == 0
    told = [record for record in records if "127.0.0.1" in record["MESSAGE"]]
    assert {record["SERENO_JOB"] for record in told} == {"a_job"}
    assert "127.0.0.1" not in err


def test_a_run_of_systemds_loads_nothing_of_it_and_heeds_none_of_its_settings(
    tmp_path: Path,
) -> None:
    code = "import sys\ndef f(): return {name: name in sys.modules for name in ('sereno.run.outside', 'select')}\n"
    settings = {"SERENO_LOG": "xml", "SERENO_EXIT_SKIPPED": "0", "SERENO_RUN_ID": UID}
    with Journald(tmp_path / "socket") as journald:
        done, records = journald.job(tmp_path, code, **settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads(records[-1]["SERENO_STATS"]) == {"sereno.run.outside": False, "select": False}


def test_a_container_that_was_given_the_environment_of_a_systemd_service_still_has_its_records(
    tmp_path: Path,
) -> None:
    (tmp_path / "a_module.py").write_text("def f(): return {'rows': 3}")
    # As process 1 of `podman --env-host` is: the number of systemd's main process is its own.
    code = """
    import os, sys
    from sereno import runner
    from sereno.records import sending
    os.environ["SYSTEMD_EXEC_PID"], sending.SOCKET = str(os.getpid()), "/nowhere"
    sys.exit(runner.main("a_job", "a_module:f"))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False,
        env={"PYTHONPATH": f"{LIBRARY}:{tmp_path}", "SERENO_LOG": "json", "INVOCATION_ID": "0" * 32},
    )  # fmt: skip
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, status_of(records)) == (0, "success")
    assert records[-1]["SERENO_RUN"] != "0" * 32
