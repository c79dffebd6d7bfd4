"""What `sereno fleet`, and list, status and history with `--fleet`, make and show; and what the doctor asks."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from racers import claim_of

from database import SCHEMA, Database
from sereno import cli
from sereno.errors import FleetError
from sereno.fleet.postgresql import PostgreSQL
from sereno.observe.doctor.fleet import fleet_facts

NOON_S = 1_800_000_000


@pytest.fixture
def url_file(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "sereno/fleet.url"
    path.parent.mkdir()
    path.write_text(f"{database.url}\n")
    path.chmod(0o600)
    return path


def ran(*words: str) -> int:
    return cli.main([*words, "--user"])


def test_init_shows_the_tables_and_makes_them_when_it_is_told_to(
    url_file: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    database.sql("drop schema sereno cascade")
    assert ran("fleet", "init") == 0
    assert capsys.readouterr().out == SCHEMA.read_text()
    assert ran("list", "--fleet") == 1
    assert "hint: man sereno-jobs" in capsys.readouterr().err
    for _ in range(2):
        assert ran("fleet", "init", "--apply", "--role", "sereno", "--url-file", str(url_file)) == 0
    assert ran("list", "--fleet") == 0
    assert 'no such job with once_per="fleet" has been due so far' in capsys.readouterr().err
    assert ran("fleet", "init", "--apply", "--url-file", "/nowhere") == 1
    assert "fleet: /nowhere cannot be read: No such file" in capsys.readouterr().err


def test_the_runs_of_the_fleet_are_shown_from_any_host(
    url_file: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    store = PostgreSQL(database.url)
    for number, (host, status) in enumerate((("alba", "success"), ("brisa", "failed"))):
        claim = claim_of(
            host, {"elapse_s": NOON_S + 60 * number, "declaration": "cron[* * * * *] shop.jobs:f"}
        )
        assert store.claim(claim, print).token
        assert store.end(
            claim.run, status, 12.5, None if number == 0 else "ValueError: \x1b[31m", '{"rows": 3}'
        )
    store.switch("shop", "books", on=False)
    assert ran("list", "--fleet", "--utc") == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["JOB", "APP", "DUE", "HOST", "RESULT", "DURATION", "STATE"]
    assert "brisa" in row and "failed" in row and row.rstrip().endswith("paused, failing")
    assert (
        ran("list", "--fleet", "--failing", "--app", "other") == ran("list", "--fleet", "x*") == 0
    )
    assert capsys.readouterr().out == ""
    assert ran("status", "books", "--fleet", "--utc") == 0
    shown = capsys.readouterr().out
    assert "alba: cron[* * * * *] shop.jobs:f, seen" in shown and "\x1b[31m" not in shown
    assert ran("history", "books", "--fleet", "-n", "1", "--json") == 0
    (run,) = json.loads(capsys.readouterr().out)["history"]
    assert (run["host"], run["status"], run["stats"], run["elapse"][:4]) == (
        "brisa",
        "failed",
        {"rows": 3},
        "2027",
    )
    assert ran("status", "books", "--fleet", "--json") == 0
    one = json.loads(capsys.readouterr().out)
    assert (one["id"], one["state"], len(one["hosts"])) == ("books", "paused, failing", 2)
    assert one["latest"]["run_id"] == run["run_id"]
    assert ran("history", "book", "--fleet") == 3
    assert "did you mean 'books'?" in capsys.readouterr().err


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "20000-01-01Z"])
@pytest.mark.parametrize(
    "place", ["elapse.elapse", "elapse.claimed_at", "job.paused_since", "host.seen"]
)
def test_no_moment_that_cannot_be_shown_can_stand_in_the_tables(
    database: Database, place: str, moment: str
) -> None:
    store = PostgreSQL(database.url)
    assert store.claim(claim_of("alba", {"elapse_s": NOON_S}), print).token
    store.switch("shop", "books", on=False)
    table, column = place.split(".")
    with pytest.raises(FleetError, match="check constraint"):
        store.apply(f"update sereno.{table} set {column} = '{moment}'")


def test_the_report_of_the_fleet_has_every_hosts_runs(
    url_file: Path, database: Database, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = PostgreSQL(database.url)
    hosts = ("alba", "brisa", "cala")
    for number, (host, status) in enumerate(
        zip(hosts, ("success", "failed", "running"), strict=True)
    ):
        given = {"elapse_s": NOON_S + 60 * number, "declaration": "cron[* * * * *] shop.jobs:f"}
        claim = claim_of(host, given)
        assert store.claim(claim, print).token
        error = "<ValueError>\x1b[31m" if status == "failed" else None
        if status != "running":
            assert store.end(claim.run, status, 12.5, error, '{"rows": 3}')
    # Whoever may write to the tables may have put anything there.
    odd = "'odd', now(), 'x<y', '', 'r', now(), now(), 'success', 'NaN', '[1]'"
    database.sql(
        "insert into sereno.elapse (app, job, elapse, host, boot, run, lease_until, claimed_at,"
        f" state, duration_ms, stats) values ('shop', {odd})"
    )
    store.switch("shop", "odd", on=False)
    assert ran("report", "--fleet", "--utc", "-o", str(tmp_path / "page.html")) == 0
    page = (tmp_path / "page.html").read_text()
    assert "Jobs of the fleet" in page and "cron[* * * * *] shop.jobs:f on brisa" in page
    assert "brisa: &lt;ValueError&gt;\\x1b[31m" in page and "alba: rows=3" in page
    assert "on cala" in page and "x&lt;y: </td>" in page and "paused" in page
    # What nobody asked is not said to be none.
    assert "No alert" not in page and "No timer elapses" not in page
    database.sql("drop table sereno.host cascade; delete from sereno.elapse")
    assert ran("report", "--fleet", "-o", "-") == 1
    assert "does not exist" in capsys.readouterr().err
    database.sql(SCHEMA.read_text())


def test_the_doctor_asks_the_database_and_looks_at_who_can_read_its_url(
    url_file: Path, database: Database
) -> None:
    assert PostgreSQL(database.url).claim(claim_of("alba", {"elapse_s": NOON_S}), print).token
    found = fleet_facts(str(url_file))
    assert (found.is_open, found.error, [host.host for host in found.hosts]) == (
        False,
        "",
        ["alba"],
    )
    assert abs(found.ahead_s) < 1
    url_file.write_text("postgresql://ana:s3cr3t@127.0.0.1:1/app\n")
    url_file.chmod(0o640)
    began = time.monotonic()
    found = fleet_facts(str(url_file))
    assert found.is_open and found.error.startswith("fleet: ") and "s3cr3t" not in found.error
    assert time.monotonic() - began < 3
    os.unlink(url_file)
    assert "No such file" in fleet_facts(str(url_file)).error
