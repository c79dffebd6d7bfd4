"""What sereno says of a run has its own way to the journal; what the job logs goes there until the job redirects it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_journald import LAST, Journald, texts

SAID = ["Tarea a_job iniciada", "Tarea a_job terminada"]
LOADER = (
    "try:\n    "
    + LAST
    + "\nfinally:\n    spec = sys.modules['logging'].__spec__ if 'logging' in sys.modules else None\n"
    "    print(type(spec.loader).__name__ if spec else None)\n"
)


def test_a_job_that_does_not_log_runs_without_logging(tmp_path: Path, journald: Journald) -> None:
    done, sent = journald.job(tmp_path, "def f():\n    return {'n': 1}\n", last=LOADER)
    assert (done.returncode, done.stdout) == (0, "None\n")
    assert texts(sent) == SAID
    assert sent[1]["SERENO_STAT_N"] == "1"
    assert (sent[1]["PRIORITY"], "LOGGER" in sent[1]) == ("6", False)
    assert (sent[1]["SERENO_JOB"], sent[1]["SYSLOG_IDENTIFIER"]) == ("a_job", "a_job")


def test_a_job_that_fails_runs_without_logging_too(tmp_path: Path, journald: Journald) -> None:
    done, sent = journald.job(tmp_path, "def f():\n    raise ValueError('no')\n", last=LOADER)
    assert (done.returncode, done.stdout, done.stderr) == (1, "None\n", "")
    assert sent[1]["PRIORITY"] == "3"
    assert sent[1]["EXCEPTION_TEXT"].endswith("ValueError: no\n")


@pytest.mark.parametrize(
    "loads",
    [
        pytest.param("import logging\ndef f():\n    ", id="with its module"),
        pytest.param("def f():\n    import logging\n    ", id="in the function"),
        pytest.param("from logging import handlers\nimport logging\ndef f():\n    ", id="a part"),
        pytest.param(
            "import importlib.util\nimportlib.util.find_spec('logging')\nimport logging\ndef f():\n    ",
            id="looked for before",
        ),
        pytest.param("import concurrent.futures\nimport logging\ndef f():\n    ", id="by another"),
    ],
)
def test_logging_is_the_journal_s_from_its_first_word_wherever_it_is_loaded(
    tmp_path: Path, journald: Journald, loads: str
) -> None:
    job = "logging.getLogger('shop').info('hola %s', 'mundo', extra={'SHOP': 'a'})\n"
    done, sent = journald.job(tmp_path, loads + job, last=LOADER)
    assert (done.returncode, done.stdout) == (0, "SourceFileLoader\n")
    assert texts(sent) == [SAID[0], "hola mundo", SAID[1]]
    assert (sent[1]["SHOP"], sent[1]["LOGGER"], sent[1]["SERENO_JOB"]) == ("a", "shop", "a_job")


REDIRECTED = {
    "force": "logging.basicConfig(force=True)",
    "root level": "logging.getLogger().setLevel(logging.WARNING)",
    "disabled": "logging.disable(logging.CRITICAL)",
    "no handlers": "logging.getLogger().handlers.clear()",
    "dictConfig": "import logging.config; logging.config.dictConfig({'version': 1, 'root': {'handlers': []}})",
    "a factory that raises": "logging.setLogRecordFactory(lambda *a, **k: 1 / 0)",
    "a handler that raises": "logging.root.addHandler(type('H', (logging.Handler,), {'emit': lambda *a: 1 / 0})())",
    "another logger class": "logging.setLoggerClass(type('L', (logging.Logger,), {'handle': lambda *a: None}))",
    "another module": "import sys, types; sys.modules['logging'] = types.ModuleType('logging')",
}


@pytest.mark.parametrize("does", REDIRECTED)
@pytest.mark.parametrize("ends", ["return {'rows': 12}", "raise ValueError('table is locked')"])
def test_nothing_that_a_job_does_to_logging_changes_what_is_said_of_its_run(
    tmp_path: Path, journald: Journald, does: str, ends: str
) -> None:
    code = f"def f():\n    import logging\n    {REDIRECTED[does]}\n    {ends}\n"
    done, sent = journald.job(tmp_path, code, SERENO_TEXTFILE_DIR=str(tmp_path))
    metrics = (tmp_path / "sereno_job_a_job.prom").read_text()
    if ends.startswith("return"):
        assert (done.returncode, texts(sent)) == (0, SAID)
        assert sent[-1]["SERENO_STAT_ROWS"] == "12"
        assert 'last_status{job_id="a_job",status="success"} 1.0' in metrics
    else:
        assert (done.returncode, texts(sent)) == (1, [SAID[0], "Tarea a_job fallida"])
        assert sent[-1]["SERENO_ERROR"].startswith("ValueError: table is locked (a_module.py:")
        assert "Traceback" in sent[-1]["EXCEPTION_TEXT"]
        assert 'last_status{job_id="a_job",status="failed"} 1.0' in metrics


@pytest.mark.parametrize(
    "does",
    [
        pytest.param("import os; os.closerange(3, 1024)", id="closes all"),
        pytest.param("import os; os.closerange(0, 1024)", id="closes its outputs too"),
        pytest.param(
            "import os; kept.extend(os.open('/dev/null', 0) for _ in iter(int, 1))",
            id="opens until it may open no more",
        ),
        pytest.param("import os; os.environ.clear()", id="clears its environment"),
        pytest.param("import sys; sys.path.clear()", id="has no path of imports"),
        pytest.param("import sys; sys.path = None", id="has a path of another kind"),
        pytest.param("import sys; sys.meta_path.clear(); sys.path_hooks = []", id="can import nothing"),
        pytest.param("import socket; socket.socket = None", id="takes away sockets"),
        pytest.param("import sys; sys.stdout = sys.stderr = None", id="has no outputs"),
        pytest.param("import os; os.chdir('/proc/self')", id="goes elsewhere"),
        pytest.param("import time; time.time = time.sleep = time.perf_counter = None", id="stops the clocks"),
    ],
)  # fmt: skip
def test_whatever_a_job_does_to_its_process_its_record_arrives(
    tmp_path: Path, journald: Journald, does: str
) -> None:
    code = f"kept = []\ndef f():\n    try:\n        {does}\n    except OSError:\n        pass\n    return {{'n': 1}}\n"
    done, sent = journald.job(tmp_path, code)
    assert (done.returncode, texts(sent)) == (0, SAID), done.stderr
    assert sent[-1]["SERENO_STAT_N"] == "1"
    code = code.replace("return {'n': 1}", "raise ValueError('no')")
    done, sent = journald.job(tmp_path, code)
    assert (done.returncode, texts(sent)) == (1, [SAID[0], "Tarea a_job fallida"])
    assert sent[-1]["SERENO_ERROR"].startswith("ValueError: no (a_module.py:")


@pytest.mark.parametrize(
    "does",
    [
        "import sys; sys.modules.clear()",
        "import builtins; builtins.__import__ = None",
        "import sys; sys.meta_path[:] = [object()]",
    ],
)
def test_where_nothing_can_be_imported_any_more_the_error_itself_is_told(
    tmp_path: Path, journald: Journald, does: str
) -> None:
    code = f"def f():\n    {does}\n    raise ValueError('no\\n' + 1000 * 'x')\n"
    done, sent = journald.job(tmp_path, code)
    assert (done.returncode, texts(sent)) == (1, [SAID[0], "Tarea a_job fallida"])
    assert sent[-1]["SERENO_ERROR"] == rf"ValueError: no\n{483 * 'x'}…"


def test_what_is_said_at_the_end_goes_by_the_environment_of_the_start(
    tmp_path: Path, journald: Journald
) -> None:
    code = "import os\ndef f():\n    os.environ.clear()\n    os.environ['SERENO_LANG'] = 'es'\n"
    settings = {"SERENO_LANG": "en", "SERENO_INTERVAL_S": "0"}
    _, sent = journald.job(tmp_path, code, **settings)
    assert [record["MESSAGE"].split()[2] for record in sent] == ["started", "finished", "overran:"]


def test_nothing_goes_to_a_descriptor_that_the_job_has_taken_over(
    tmp_path: Path, journald: Journald
) -> None:
    code = (
        "import os, socket\n"
        "ours, theirs = socket.socketpair()\n"
        "def f():\n"
        "    keep = os.dup(theirs.fileno())\n"
        "    for number in range(3, 64):\n"
        "        if number not in (keep, ours.fileno()): os.dup2(keep, number)\n"
        "    os.dup2(keep, 2)\n"
        "    ours.setblocking(False)\n"
        "import atexit\n"
        "@atexit.register\n"
        "def tell():\n"
        "    try: print('heard', ours.recv(100))\n"
        "    except BlockingIOError: print('nothing')\n"
    )
    for gone in (False, True):
        if gone:
            journald.path.unlink()
        done, sent = journald.job(tmp_path, code)
        assert (done.returncode, done.stdout) == (0, "nothing\n")
        assert texts(sent) == ([] if gone else SAID)


def test_the_records_by_which_a_run_is_judged_are_not_the_jobs_to_send(
    tmp_path: Path, journald: Journald
) -> None:
    code = (
        "import logging\ndef f():\n"
        "    extra = {'MESSAGE_ID': 'd273f3f974d24dcca798ba71c698c7c5', 'SERENO_RUN': 'x', 'SERENO_JOB': 'y'}\n"
        "    logging.getLogger('sereno.runner').info('terminada', extra=extra)\n"
        "    raise ValueError('no')\n"
    )
    _, sent = journald.job(tmp_path, code)
    assert texts(sent) == [SAID[0], "terminada", "Tarea a_job fallida"]
    assert "MESSAGE_ID" not in sent[1]
    assert sent[1]["SERENO_JOB"] == "a_job"
    assert sent[1]["SERENO_RUN"] == sent[0]["SERENO_RUN"]


def test_python_systemd_may_be_what_loads_logging(tmp_path: Path, journald: Journald) -> None:
    package = tmp_path / "systemd"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "journal.py").write_text("import logging\nclass JournalHandler: pass\n")
    function = "def f():\n    from systemd.journal import JournalHandler\n"
    done, sent = journald.job(tmp_path, function)
    assert (done.returncode, texts(sent)) == (0, SAID)


def test_a_journal_that_goes_away_changes_no_result(tmp_path: Path, journald: Journald) -> None:
    remove = f"import os\nos.unlink({str(journald.path)!r})\n"
    for ends, status in (("return {}", 0), ("raise ValueError", 1)):
        done, _ = journald.job(tmp_path, f"{remove}def f():\n    {ends}\n")
        assert (done.returncode, done.stderr) == (status, "")
        remove = ""
