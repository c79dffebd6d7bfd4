"""What sereno says in a run goes straight to the journal until the job loads `logging`, and through it from then on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIB = Path(__file__).parents[2] / "lib"
# A process as systemd starts one, with what it sends to the journal printed instead.
PROCESS = """
{first}
import json, sys
sys.path[:0] = [{lib!r}, {jobs!r}]
from sereno import journal, runner
sent = []
journal.is_connected = lambda: True
journal._sendv = lambda: lambda *lines: sent.append(dict(line.decode().split("=", 1) for line in lines))
status = runner.main("a_job", "a_module:f")
import importlib.machinery
spec = sys.modules["logging"].__spec__ if "logging" in sys.modules else None
print(json.dumps([status, sent, spec and type(spec.loader).__name__, [type(one).__name__ for one in sys.meta_path]]))
"""


def run(
    tmp_path: Path, function: str, first: str = ""
) -> tuple[int, list[dict[str, str]], str | None]:
    """Run `function`, the text of a module; return status, records, and the loader that `logging` has, if any."""
    (tmp_path / "a_module.py").write_text(function)
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            PROCESS.format(first=first, lib=str(LIB), jobs=str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    status, sent, loader, finders = json.loads(done.stdout)
    assert ("_WhenLogging" in finders) == (loader is None)
    return status, sent, loader


def texts(sent: list[dict[str, str]]) -> list[str]:
    return [record["MESSAGE"].partition(" en ")[0] for record in sent]


def test_a_job_that_does_not_log_runs_without_logging(tmp_path: Path) -> None:
    status, sent, loader = run(tmp_path, "def f():\n    return {'n': 1}\n")
    assert (status, loader) == (0, None)
    assert texts(sent) == ["Tarea a_job iniciada", "Tarea a_job terminada"]
    assert sent[1]["SERENO_STAT_N"] == "1"
    assert (sent[1]["PRIORITY"], sent[1]["LOGGER"]) == ("6", "sereno.runner")
    assert sent[1]["CODE_FILE"].endswith("sereno/ending.py")
    assert sent[1]["CODE_FUNC"] == "_finished"


def test_a_job_that_fails_runs_without_logging_too(tmp_path: Path) -> None:
    status, sent, loader = run(tmp_path, "def f():\n    raise ValueError('no')\n")
    assert (status, loader) == (1, None)
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
    tmp_path: Path, loads: str
) -> None:
    job = "logging.getLogger('shop').info('hola %s', 'mundo', extra={'SHOP': 'a'})\n"
    status, sent, loader = run(tmp_path, loads + job)
    assert (status, loader) == (0, "SourceFileLoader")
    assert texts(sent) == ["Tarea a_job iniciada", "hola mundo", "Tarea a_job terminada"]
    assert (sent[1]["SHOP"], sent[1]["LOGGER"], sent[1]["SERENO_JOB"]) == ("a", "shop", "a_job")


def test_python_systemd_may_be_what_loads_logging(tmp_path: Path) -> None:
    package = tmp_path / "systemd"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "journal.py").write_text("import logging\nclass JournalHandler: pass\n")
    function = "def f():\n    from systemd.journal import JournalHandler\n"
    status, sent, loader = run(tmp_path, function)
    assert (status, loader) == (0, "SourceFileLoader")
    assert texts(sent) == ["Tarea a_job iniciada", "Tarea a_job terminada"]


def test_a_handler_of_the_job_sees_what_sereno_says_after_it(tmp_path: Path) -> None:
    told = tmp_path / "told"
    function = (
        "def f():\n    import logging\n    class Seen(logging.Handler):\n"
        "        def emit(self, record):\n"
        f"            open({str(told)!r}, 'w').write(f'{{record.getMessage()}} {{record.filename}}')\n"
        "    logging.getLogger().addHandler(Seen())\n"
    )
    _, sent, _ = run(tmp_path, function)
    assert told.read_text() == f"{sent[-1]['MESSAGE']} ending.py"


def test_both_ways_send_the_same_record(tmp_path: Path) -> None:
    function = "def f():\n    raise ValueError('no')\n"
    _, direct, _ = run(tmp_path, function)
    _, through, _ = run(tmp_path, function, first="import logging")
    differ = {"SERENO_RUN", "SERENO_DURATION_MS", "MESSAGE"}
    # logging knows of these as well.
    more = {"THREAD_NAME", "PROCESS_NAME", "CODE_ARGS"}
    for ours, its in zip(direct, through, strict=True):
        assert its.keys() - ours.keys() == more
        for name in ours.keys() - differ:
            assert its[name] == ours[name]


def test_a_journal_that_goes_away_changes_no_result_even_with_a_stderr_that_led_to_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "a_module.py").write_text("def f():\n    pass\ndef g():\n    raise ValueError\n")
    process = (
        f"import sys\nsys.path[:0] = [{str(LIB)!r}, {str(tmp_path)!r}]\nfrom sereno import journal, runner\n"
        "def sendv(*lines):\n    raise ConnectionRefusedError\n"
        "journal.is_connected, journal._sendv = lambda: True, lambda: sendv\n"
        "sys.exit(runner.main('a_job', 'a_module:' + sys.argv[1]))\n"
    )
    for function, status in (("f", 0), ("g", 1)):
        reader, writer = os.pipe()
        os.close(reader)
        argv = [sys.executable, "-I", "-S", "-c", process, function]
        assert subprocess.run(argv, stderr=writer, check=False).returncode == status
        os.close(writer)
