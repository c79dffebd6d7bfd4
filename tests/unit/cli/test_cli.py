"""The command: what it prints, and the exit status of every kind of error."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_systemd import FakeManager

from sereno import cli, scheduler
from sereno.cli import list_and_status
from sereno.errors import (
    CacheError,
    Conflict,
    InvalidJob,
    NoSuchJob,
    NotAllowed,
    NotAvailable,
    SerenoError,
    SystemdError,
)
from sereno.manager import systemctl
from sereno.units import installation


@pytest.fixture(autouse=True)
def use_fake(units: Path, manager: FakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "Systemctl", lambda user: manager)
    monkeypatch.setattr(systemctl, "Systemctl", lambda user: manager)


def call(*words: str) -> int:
    return cli.main(words)


def test_apply_installs_the_shipped_jobs_and_twice_is_nothing_to_do(capsys) -> None:
    assert call("apply", "--user", "--no-diff") == 0
    assert capsys.readouterr().out == "create sereno@cache_cleanup_hourly.timer\n"
    assert call("apply", "--user") == 0
    assert capsys.readouterr().out == "nothing to do\n"


def test_a_dry_run_says_the_changes_and_makes_none(capsys, units, manager) -> None:
    assert call("apply", "--user", "--dry-run") == 0
    *diff, change = capsys.readouterr().out.splitlines()
    at = diff.index("+++ b/sereno@cache_cleanup_hourly.timer")
    assert diff[at - 1] == "--- /dev/null"
    assert "+OnCalendar=*-*-* *:00:00" in diff
    assert change == "create sereno@cache_cleanup_hourly.timer"
    assert not units.exists()
    assert manager.calls == []


def test_an_empty_list_says_which_scope_it_is_of(capsys) -> None:
    pytest.importorskip("systemd.journal", reason="python3-systemd is missing")
    assert call("list", "--user") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "no jobs in the user scope; --system shows the other one\n")


def test_remove_takes_a_job_of_any_application_and_all_takes_them_all(capsys, units) -> None:
    call("apply", "--user", "--no-diff")
    assert call("remove", "--user", "cache_cleanup_hourly") == 0
    call("apply", "--user", "--no-diff")
    assert call("remove", "--user", "--all") == 0
    assert call("remove", "--user", "--all") == 0
    assert capsys.readouterr().out.splitlines() == [
        "create sereno@cache_cleanup_hourly.timer",
        "remove sereno@cache_cleanup_hourly.timer",
        "create sereno@cache_cleanup_hourly.timer",
        "remove sereno@cache_cleanup_hourly.timer",
        "nothing to do",
    ]
    assert list(units.iterdir()) == []


def test_render_writes_what_apply_would_install(tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert call("render", "--to", str(target)) == 0
    drop_in, timer = sorted(target.iterdir())
    assert timer.name == "sereno@cache_cleanup_hourly.timer"
    assert [path.name for path in drop_in.iterdir()] == ["50-sereno.conf"]
    assert "OnCalendar=*-*-* *:00:00\n" in timer.read_text()


def test_a_shipped_job_without_an_executable_entry_script_is_refused_by_name(
    tmp_path: Path, units, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(scheduler, "ENTRY_SCRIPTS", tmp_path)
    assert call("apply", "--user") == 2
    assert "bin/cache_cleanup_hourly is missing or not executable" in capsys.readouterr().err
    assert call("render", "--to", str(tmp_path / "out")) == 2
    assert not units.exists()


def test_no_option_is_taken_for_another_that_it_begins(units, manager, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        call("remove", "--a")
    assert ended.value.code == 2


def test_a_staged_system_needs_no_manager(tmp_path: Path, manager, capsys) -> None:
    units = tmp_path / "image/etc/systemd/system"
    units.mkdir(parents=True)
    for name in ("sereno@.service", "sereno-app@.target"):
        (units / name).touch()
    assert call("apply", "--root", str(tmp_path / "image")) == 0
    assert manager.calls == []
    installed = tmp_path / "image/etc/systemd/system"
    link = installed / "sereno-apps.target.wants/sereno-app@sereno.target"
    assert str(link.readlink()) == "/etc/systemd/system/sereno-app@.target"
    assert (
        installed / "sereno-jobs@sereno.target.wants/sereno@cache_cleanup_hourly.timer"
    ).exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SerenoError("x"), 1),
        (SystemdError("x"), 1),
        (CacheError("x"), 1),
        (InvalidJob("x"), 2),
        (NoSuchJob("x"), 3),
        (NotAllowed("x"), 4),
        (NotAvailable("x"), 5),
        (Conflict("x", hint="do this"), 6),
    ],
)
def test_an_error_is_one_line_its_hint_another_and_its_status_documented(
    error, status, monkeypatch, capsys
) -> None:
    def fail(_arguments):
        raise error

    monkeypatch.setattr(list_and_status, "_list", fail)
    assert call("list") == status
    hint = "hint: do this\n" if error.hint else ""
    assert capsys.readouterr().err == f"sereno: x\n{hint}"
    assert f"\n  {status}  " in cli.EXIT_STATUSES


@pytest.mark.parametrize("words", [(), ("nonsense",), ("list", "--bogus"), ("remove",), ("cache",)])
def test_wrong_use_ends_with_2_and_the_usage(words, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        call(*words)
    assert end.value.code == 2
    assert "usage: sereno" in capsys.readouterr().err


def test_an_unknown_job_is_status_3(capsys) -> None:
    assert call("run", "--user", "nobody") == 3
    assert "'nobody' is not installed in the user scope" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "usage", "meant"),
    [
        (("lst",), "usage: sereno [", "list"),
        (("remov", "x"), "usage: sereno [", "remove"),
        (("cache", "stat"), "usage: sereno cache ", "stats"),
        (("list", "--josn"), "usage: sereno list ", "--json"),
        (("run", "--wiat", "x"), "usage: sereno run ", "--wait"),
        (("status", "cache_clenup_hourly", "--user"), "", "cache_cleanup_hourly"),
    ],
)
def test_a_word_that_is_nearly_right_is_told_what_was_meant(words, usage, meant, capsys) -> None:
    call("apply", "--user", "--no-diff")
    capsys.readouterr()
    try:
        call(*words)
    except SystemExit as ended:
        assert ended.code == 2
    said = capsys.readouterr().err
    assert said.startswith(usage)
    assert f"\nhint: did you mean {meant!r}?" in said


def test_a_word_that_is_near_nothing_is_refused_without_a_guess(capsys) -> None:
    with pytest.raises(SystemExit):
        call("frobnicate")
    assert "hint" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("stats",), ("get", "a"), ("delete", "a"), ("clear",), ("cleanup",)]
)
def test_to_look_into_a_cache_makes_none_and_names_the_place(
    words: tuple[str, ...], tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("SERENO_CACHE_DIR", str(tmp_path / "cache"))
    assert call("cache", *words) == 1
    said = capsys.readouterr().err
    assert (
        f"sereno: cache: there is none at {tmp_path / 'cache/metadata'}\nhint: SERENO_CACHE_DIR"
        in said
    )
    assert not (tmp_path / "cache").exists()


def test_the_cache_can_be_looked_into(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SERENO_CACHE_DIR", str(tmp_path / "cache"))
    assert call("cache", "set", "a", '{"n": 1}', "--ttl", "60") == 0
    assert call("cache", "get", "a") == 0
    assert json.loads(capsys.readouterr().out) == {"n": 1}
    assert call("cache", "stats") == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["name"], stats["size"], stats["hits"]) == ("metadata", 1, 1)
    assert call("cache", "delete", "a") == 0
    assert call("cache", "delete", "a") == 3
    assert call("cache", "get", "a") == 3
    where = f"key: 'a' is not in the cache {tmp_path / 'cache/metadata'}, or expired"
    assert capsys.readouterr().err.count(where) == 2
    assert call("cache", "clear") == 0
    assert call("cache", "cleanup") == 0
    capsys.readouterr()
    assert call("cache", "set", "a", "{bad") == 2
    assert "is not JSON" in capsys.readouterr().err
    for value in ("NaN", "123456789012345678901234567890", "null", '"\\ud800"'):
        assert call("cache", "set", "a", value) == 2, value
        assert capsys.readouterr().err.startswith("sereno: ")


def test_output_that_cannot_be_written_is_no_traceback() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, str(Path(cli.__file__).parents[3] / "bin/sereno"), "explain", "0 3 * * *"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["sereno: [Errno 28] No space left on device"]


def test_text_that_the_terminal_has_no_characters_for_is_escaped_and_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(cli.__file__).parents[3] / "bin/sereno"), "explain", "\u6f22"],
        capture_output=True, check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert done.returncode == 2
    assert rb"\u6f22" in done.stderr
    assert b"Traceback" not in done.stderr
