"""The command: what it prints, and the exit status of every kind of error."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sample_jobs
from fake_systemd import FakeManager

from sereno import MetadataCache, cli, scheduler
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
    assert capsys.readouterr().out.startswith("create sereno@cache_cleanup_hourly.timer; next 20")
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
    assert [line.partition(";")[0] for line in capsys.readouterr().out.splitlines()] == [
        "create sereno@cache_cleanup_hourly.timer",
        "remove sereno@cache_cleanup_hourly.timer",
        "its past stays: journalctl --user SERENO_JOB=cache_cleanup_hourly",
        "a run under way goes on",
        "create sereno@cache_cleanup_hourly.timer",
        "remove sereno@cache_cleanup_hourly.timer",
        "nothing to do",
    ]
    assert list(units.iterdir()) == []


def test_remove_names_what_stays_of_a_job(capsys, units, manager) -> None:
    call("apply", "--user", "--no-diff")
    drop_in = units / "sereno@cache_cleanup_hourly.service.d/mine.conf"
    drop_in.write_text("[Service]\nNice=1\n")
    capsys.readouterr()
    assert call("remove", "--user", "cache_cleanup_hourly") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "its past stays: journalctl --user SERENO_JOB=cache_cleanup_hourly",
        f"your drop-in stays: {drop_in}",
        "a run under way goes on; the job comes back when it is registered again",
    ]


def test_apply_shows_what_changes_in_a_unit_and_names_a_new_one(capsys, units) -> None:
    assert call("apply", "--user") == 0
    (created,) = capsys.readouterr().out.splitlines()
    assert created.startswith("create ")
    timer = units / "sereno@cache_cleanup_hourly.timer"
    timer.write_text(timer.read_text().replace("*:00:00", "*:30:00"))
    assert call("apply", "--user") == 0
    shown = capsys.readouterr().out.splitlines()
    assert "-OnCalendar=*-*-* *:30:00" in shown
    assert "+OnCalendar=*-*-* *:00:00" in shown
    assert shown[-1].startswith("update sereno@cache_cleanup_hourly.timer; next ")


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        ((), ["cache_cleanup_hourly", "shop_carts", "shop_prices"]),
        (("shop_*",), ["shop_carts", "shop_prices"]),
        (("*_carts", "cache_cleanup_hourly"), ["cache_cleanup_hourly", "shop_carts"]),
        (("--app", "shop", "*prices"), ["shop_prices"]),
        (("--failing",), ["shop_carts"]),
        (("--failing", "--app", "sereno"), []),
        (("--failing", "shop_p*"), []),
    ],
)
def test_list_shows_the_jobs_that_are_asked_for(words, listed, capsys, manager) -> None:
    install_three(manager, capsys)
    assert call("list", "--user", "--json", *words) == 0
    assert [job["id"] for job in json.loads(capsys.readouterr().out)] == listed
    assert call("list", "--user", *words) == 0
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()[1:]] == listed
    assert listed or shown.err == "0 of 3 jobs listed\n"


@pytest.mark.parametrize("words", [("shop_cart",), ("--app", "shopp")])
def test_a_list_of_nothing_is_no_error_and_says_what_may_be_meant(words, capsys, manager) -> None:
    install_three(manager, capsys)
    assert call("list", "--user", *words) == 0
    meant = {"shop_cart": "shop_carts", "shopp": "shop"}[words[-1]]
    assert capsys.readouterr().err.endswith(f" listed\nhint: did you mean {meant!r}?\n")


def install_three(manager: FakeManager, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("apply", "--user", "--no-diff") == 0
    shop = scheduler.Scheduler("shop", scope="user")
    for job_id in ("shop_carts", "shop_prices"):
        shop.add_interval_job(sample_jobs.stats, job_id, hours=1)
    shop.start()
    capsys.readouterr()
    manager.service_states["sereno@shop_carts.service"] = "failed"


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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("history", "x", "--days", "a"), "argument --days: 'a' is not a number"),
        (("logs", "x", "-n", "1.5"), "argument -n: '1.5' is not a whole number"),
        (("history", "x", "--fleet", "-n=-1"), "argument -n: '-1' is not a whole number"),
    ],
)
def test_what_is_no_number_is_refused_in_plain_words(words, says, capsys) -> None:
    with pytest.raises(SystemExit):
        call(*words)
    assert says in capsys.readouterr().err


def test_an_unknown_job_is_status_3(capsys) -> None:
    assert call("run", "--user", "nobody") == 3
    assert "'nobody' is not installed in the user scope" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "usage", "meant"),
    [
        (("lst",), "usage: sereno [", "list"),
        (("remov", "x"), "usage: sereno [", "remove"),
        (("cache", "stat"), "usage: sereno cache ", "stats"),
        (("hist", "x"), "usage: sereno [", "history"),
        (("start", "x"), "usage: sereno [", "run"),
        (("rm", "x"), "usage: sereno [", "remove"),
        (("list", "--failed"), "usage: sereno list ", "--failing"),
        (("logs", "x", "--lines", "3"), "usage: sereno logs ", "-n"),
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
    "words",
    [("stats",), ("get", "a"), ("set", "a", "1"), ("delete", "a"), ("clear",), ("cleanup",)],
    ids=lambda words: words[0],
)
def test_no_command_makes_a_cache_and_each_names_the_place(
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
    place = tmp_path / "cache/metadata"
    MetadataCache(place).get_stats()
    assert call("cache", "set", "a", '{"n": 1}', "--ttl", "60") == 0
    assert capsys.readouterr().out == f"stored 'a' in {place}\n"
    assert call("cache", "get", "a") == 0
    assert json.loads(capsys.readouterr().out) == {"n": 1}
    assert call("cache", "stats", "--json") == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["name"], stats["size"], stats["hits"]) == ("metadata", 1, 1)
    assert call("cache", "stats") == 0
    table = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (table.keys(), table["path"]) == (stats.keys(), str(place))
    assert (table["max_size"], table["max_bytes"]) == ("2000", "no limit")
    assert re.fullmatch(r"\d+ B", table["memory_bytes"])
    assert re.fullmatch(r"\d+\.\d KiB", table["file_bytes"])
    assert call("cache", "delete", "a") == 0
    assert capsys.readouterr().out == f"removed 'a' from {place}\n"
    assert call("cache", "delete", "a") == 3
    assert call("cache", "get", "a") == 3
    where = f"key: 'a' is not in the cache {tmp_path / 'cache/metadata'}, or expired"
    assert capsys.readouterr().err.count(where) == 2
    assert call("cache", "clear") == 0
    assert call("cache", "cleanup") == 0
    assert capsys.readouterr().out.count(str(place)) == 2
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


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_stream_that_is_closed_is_no_traceback(closed: str) -> None:
    command = [sys.executable, str(Path(cli.__file__).parents[3] / "bin/sereno")]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *command, "explain", "0 3 * * *"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_text_that_the_terminal_has_no_characters_for_is_escaped_and_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(cli.__file__).parents[3] / "bin/sereno"), "explain", "\u6f22"],
        capture_output=True, check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert done.returncode == 2
    assert rb"\u6f22" in done.stderr
    assert b"Traceback" not in done.stderr
