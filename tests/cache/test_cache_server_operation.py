"""A cache server in operation: the command, doctor, the cleanup job, metrics; and the page's own configuration."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
from pathlib import Path

import pytest
from cache_server import Server

from sereno import cli
from sereno.cache import MetadataCache
from sereno.jobs.cache_cleanup_job import cleanup_expired_cache
from sereno.observe.doctor import cache_checks
from sereno.observe.doctor.cache import cache_facts
from sereno.observe.doctor.facts import CacheFacts, Facts

PAGE = Path(__file__).parents[2] / "docs" / "cache-many-hosts.md"


def of_the_page(file: str) -> str:
    """The text of a file that the page shows."""
    (text,) = re.findall(rf"`{file}`[^:]*:\n\n((?:    [^\n]*\n|\n)+)", PAGE.read_text())
    return re.sub(r"^    ", "", text, flags=re.MULTILINE).strip() + "\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """As the page configures it, but where it listens."""
    lines = of_the_page("/etc/valkey/sereno.conf").splitlines()
    kept = [line for line in lines if line.split()[0] not in ("bind", "port", "aclfile")]
    assert len(lines) - len(kept) == 3
    with Server(tmp_path_factory.mktemp("server"), *kept) as server:
        yield server


@pytest.fixture(autouse=True)
def url(server, request, monkeypatch):
    monkeypatch.setenv("SERENO_CACHE_URL", server.url(f"ns={request.node.name[:60].split('[')[0]}"))


def findings(facts: CacheFacts) -> dict[str, str]:
    machine = Facts(
        scope="system", user="root", now_s=0.0, python=(3, 11), systemd="252", cache=facts
    )
    told = cache_checks.health(machine)
    return {
        finding.field: f"{finding.value}: {finding.message}; {finding.hint}" for finding in told
    }


def test_the_command_asks_the_server(capsys, server, monkeypatch):
    call = cli.main
    assert call(["cache", "set", "a", '{"n": 1}']) == 0
    capsys.readouterr()
    assert call(["cache", "get", "a"]) == 0
    assert json.loads(capsys.readouterr().out) == {"n": 1}
    assert call(["cache", "stats", "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["size"], stats["max_bytes"]) == (1, 1 << 30)
    assert call(["cache", "stats"]) == 0
    assert str(MetadataCache().path) in capsys.readouterr().out
    assert [call(["cache", "delete", "a"]) for _ in range(2)] == [0, 3]
    assert f"is not in the cache {MetadataCache().path}" in capsys.readouterr().err
    assert [call(["cache", "clear"]), call(["cache", "cleanup"])] == [0, 0]
    assert "removed 0 expired entries" in capsys.readouterr().out
    monkeypatch.setenv("SERENO_CACHE_URL", "unix:///nowhere/s")
    assert call(["cache", "get", "a"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("sereno: cache server unix:///nowhere/s?db=0: ")
    assert "is it running" in told


def test_the_server_of_the_page_is_well(server):
    assert findings(cache_facts(False)) == {}
    assert cache_facts(True).stats["path"] == MetadataCache().path


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        ({"maxmemory": "0"}, "maxmemory", "takes all memory"),
        ({"used_memory": "999"}, "used_memory", "over 90 % full"),
        ({"maxmemory_policy": "noeviction"}, "maxmemory_policy", "refuses to store"),
        ({"maxmemory_policy": "allkeys-lfu"}, "maxmemory_policy", "own keys"),
        ({"rdb_saves": "3"}, "persistence", "never read again"),
        ({"aof_enabled": "1"}, "persistence", "never read again"),
        ({"role": "slave"}, "role", "takes no writes"),
        ({"connected_slaves": "1"}, "connected_slaves", "different caches"),
        ({"latency_ms": "11.0"}, "latency_ms", "waits"),
    ],
)
def test_what_is_not_well_with_a_server_is_told_by_its_field(change, field, told):
    well = {"maxmemory": "1000", "used_memory": "10", "maxmemory_policy": "volatile-lfu"}
    well |= {"role": "master", "latency_ms": "0.1"}
    found = findings(CacheFacts(server=well | change))
    assert list(found) == [field]
    assert told in found[field]


def test_a_server_that_does_not_answer_is_a_finding(monkeypatch):
    monkeypatch.setenv("SERENO_CACHE_URL", "unix://:hunter2@/nowhere/s")
    told = findings(cache_facts(False))["open"]
    assert "/nowhere/s" in told
    assert "hunter2" not in told


def test_the_cleanup_job_reports_and_alerts_on_memory(server, caplog, monkeypatch, tmp_path):
    monkeypatch.setenv("SERENO_TEXTFILE_DIR", str(tmp_path))
    cache = MetadataCache()
    cache.set("stays", "x" * 1000)
    cache.get("stays")
    with caplog.at_level(logging.INFO):
        stats = asyncio.run(cleanup_expired_cache())
        assert "error" not in stats
        assert (stats["entries_removed"], stats["entries_after"], stats["hit_rate"]) == (
            0,
            1,
            100.0,
        )
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        cache.set("large", "x" * 600_000)
        used = int(cache.server()["used_memory"])
        server.raw("CONFIG", "SET", "maxmemory", str(used + used // 20))
        assert "error" not in asyncio.run(cleanup_expired_cache())
        server.raw("CONFIG", "SET", "maxmemory", "1gb")
    (alert,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert re.match(r"Caché al \d+\.\d% de su memoria \(\d+/\d+ bytes\)", alert.getMessage())
    assert alert.SERENO_ALERT == "capacity"
    metrics = (tmp_path / "sereno_cache_metadata.prom").read_text()
    assert 'sereno_cache_entries{cache="metadata"} 2' in metrics


def test_the_unit_of_the_page_is_one_of_systemd(tmp_path, server):
    unit = of_the_page("/etc/systemd/system/sereno-cache-server.service")
    assert "Type=notify" in unit
    (tmp_path / "sereno-cache-server.service").write_text(
        unit.replace("/usr/bin/valkey-server", "/bin/true").replace("User=valkey", "User=daemon")
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "sereno-cache-server.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
