"""What runs and the cleanup leave for node_exporter, as Prometheus' own library reads it."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_journald import Journald
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sereno.records import metrics

HERE = Path(__file__).parents[1]
REPOSITORY = HERE.parents[1]
MONITORING = REPOSITORY / "systemd/monitoring"
ALL = {**metrics.JOB_METRICS, **metrics.CACHE_METRICS}
PARTS = ("status", "stat", "cache")


Run = Callable[..., tuple[subprocess.CompletedProcess[str], list[dict[str, str]]]]


@pytest.fixture
def run(journald: Journald) -> Run:
    """run(function, directory): a run as systemd starts it."""

    def run(function: str, directory: object, **environment: str) -> Any:
        return journald.run(function, SERENO_TEXTFILE_DIR=str(directory), **environment)

    return run


def values(file: Path) -> dict[str, float]:
    """Every sample of a file; that of a job or cache by its metric, with the status or statistic behind a colon."""
    found = {}
    for family in text_string_to_metric_families(file.read_text()):
        for sample in family.samples:
            kind, about = ALL[sample.name]
            assert (family.type, family.documentation) == (kind, about)
            parts = [sample.labels[part] for part in PARTS[:2] if part in sample.labels]
            found[":".join([sample.name, *parts])] = sample.value
    return found


def test_a_run_leaves_how_it_ended_when_and_how_long_it_took(tmp_path: Path, run: Run) -> None:
    done, sent = run("sample_jobs:stats", tmp_path, SERENO_INTERVAL_S="90")
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.prom")
    assert file.name == "sereno_job_a_job.prom"
    assert file.stat().st_mode & 0o777 == 0o644
    found = values(file)
    assert found["sereno_job_runs_total:success"] == 1
    assert found["sereno_job_runs_total:failed"] == 0
    assert found["sereno_job_last_status:success"] == 1
    assert found["sereno_job_last_status:failed"] == 0
    end_s = found["sereno_job_last_run_timestamp_seconds"]
    assert abs(end_s - file.stat().st_mtime) < 5
    assert found["sereno_job_last_success_timestamp_seconds"] == end_s
    told_ms = float(sent[-1]["SERENO_DURATION_MS"])
    assert abs(found["sereno_job_last_duration_seconds"] * 1000 - told_ms) <= 0.005
    assert found["sereno_job_interval_seconds"] == 90
    assert found["sereno_job_stat:rows"] == 3
    assert found["sereno_job_stat:rate"] == 78.5


def test_the_umask_of_the_service_does_not_hide_the_file_from_node_exporter(tmp_path: Path) -> None:
    previous = os.umask(0o077)
    try:
        metrics._write(str(tmp_path / "a.prom"), {})
    finally:
        os.umask(previous)
    assert (tmp_path / "a.prom").stat().st_mode & 0o777 == 0o644


def test_counters_go_on_over_runs_and_a_failure_keeps_the_last_success(
    tmp_path: Path, run: Run
) -> None:
    run("sample_jobs:nothing", tmp_path)
    file = tmp_path / "sereno_job_a_job.prom"
    success_s = values(file)["sereno_job_last_success_timestamp_seconds"]
    for _ in range(2):
        assert run("sample_jobs:raises", tmp_path)[0].returncode == 1
    found = values(file)
    assert found["sereno_job_runs_total:success"] == 1
    assert found["sereno_job_runs_total:failed"] == 2
    assert found["sereno_job_last_status:failed"] == 1
    assert found["sereno_job_last_success_timestamp_seconds"] == success_s
    assert found["sereno_job_last_run_timestamp_seconds"] > success_s


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "\0\xff no samples\n\n}{ 1\n",
        'sereno_job_runs_total{job_id="a_job",status="failed"} NaN\n',
    ],
)
def test_counters_start_again_where_the_file_is_lost_or_damaged(
    tmp_path: Path, run: Run, damage: str
) -> None:
    file = tmp_path / "sereno_job_a_job.prom"
    file.write_text(damage, encoding="latin-1")
    run("sample_jobs:raises", tmp_path)
    found = values(file)
    assert found["sereno_job_runs_total:failed"] == 1
    assert found["sereno_job_last_success_timestamp_seconds"] == 0


def test_a_run_that_was_left_out_counts_and_keeps_what_the_last_one_took() -> None:
    def families(status: str, duration_s: float, previous: dict[str, float]) -> Any:
        return metrics.of_job("a_job", status, duration_s, {}, 100.0, {}, previous)

    def read_back(text: str) -> dict[str, float]:
        return {
            sample: float(value)
            for sample, _, value in (line.rpartition(" ") for line in text.splitlines())
            if not sample.startswith("#")
        }

    first = read_back(metrics.render(families("success", 2.5, {})))
    second = read_back(metrics.render(families("skipped", 0.0, first)))
    assert second['sereno_job_last_duration_seconds{job_id="a_job"}'] == 2.5
    assert second['sereno_job_runs_total{job_id="a_job",status="skipped"}'] == 1
    assert second['sereno_job_runs_total{job_id="a_job",status="success"}'] == 1


@pytest.mark.parametrize("place", ["missing", "a_file"])
def test_metrics_that_cannot_be_written_are_one_warning_and_harm_no_run(
    tmp_path: Path, run: Run, place: str
) -> None:
    (tmp_path / "a_file").touch()
    done, sent = run("sample_jobs:stats", tmp_path / place)
    assert (done.returncode, done.stderr) == (0, "")
    (warning,) = (record for record in sent if record["PRIORITY"] == "4")
    assert warning["MESSAGE"].startswith(f"Métricas no escritas en {tmp_path / place}/")


def test_not_even_a_mistake_of_the_metrics_meets_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metrics, "JOB_METRICS", {"no_such_metric": ("gauge", "")})
    monkeypatch.setattr(metrics, "_warned", False)
    metrics.Recorder("a_job", str(tmp_path), {}).write("success", 1.0, {})
    assert "KeyError: 'no_such_metric'" in caplog.text


def test_nothing_is_written_unless_it_is_asked_for(tmp_path: Path, run: Run) -> None:
    assert run("sample_jobs:stats", "")[0].returncode == 0
    assert not list(tmp_path.glob("*.prom"))


def test_what_a_killed_run_left_does_not_stay(tmp_path: Path, run: Run) -> None:
    (tmp_path / ".sereno_job_a_job.prom.new").write_text("half a li")
    run("sample_jobs:stats", tmp_path)
    assert [path.name for path in tmp_path.glob("*job*")] == ["sereno_job_a_job.prom"]
    assert not list(tmp_path.glob(".*"))


def test_names_of_statistics_may_hold_anything() -> None:
    stats = {'a "b"\\c\nd': 1, "año": 2, "yes": True, "text": "3", "list": [1], "none": None}
    stats["huge"] = 10**400
    text = metrics.render(metrics.of_job("a_job", "success", 0.001, stats, 1.0, {}, {}))
    found = {
        sample.labels["stat"]: sample.value
        for family in text_string_to_metric_families(text)
        if family.name == "sereno_job_stat"
        for sample in family.samples
    }
    assert found == {'a "b"\\c\nd': 1, "año": 2, "yes": 1}


def test_a_run_cannot_flood_prometheus_with_series() -> None:
    stats = {f"customer{number}": number for number in range(1000)}
    found = metrics.of_job("a", "success", 0.001, stats, 1.0, {}, {})
    assert len(found["sereno_job_stat"]) == metrics.MOST_STATS


def test_the_cleanup_leaves_the_state_of_the_cache(tmp_path: Path, run: Run) -> None:
    fill = (
        "from sereno import MetadataCache\n"
        "cache = MetadataCache(max_size=4)\n"
        "for number in range(6): cache.set(str(number), 'x' * 100)\n"
        "cache.get('5'), cache.get('none'), cache.get('none'), cache.invalidate('5')\n"
    )
    environment = {"SERENO_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run(
        [sys.executable, "-c", fill],
        env={**os.environ, **environment, "PYTHONPATH": str(REPOSITORY / "lib")},
        check=True,
    )
    done, _ = run("sereno.jobs.cache_cleanup_job:clean_up", tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    found = values(tmp_path / "sereno_cache_metadata.prom")
    assert found.keys() == metrics.CACHE_METRICS.keys()
    assert found["sereno_cache_entries"] == 3
    assert found["sereno_cache_max_entries"] == 4
    assert found["sereno_cache_hits_total"] == 1
    assert found["sereno_cache_misses_total"] == 2
    assert found["sereno_cache_evictions_total"] == 2
    assert found["sereno_cache_invalidations_total"] == 1
    assert math.isclose(found["sereno_cache_hit_ratio"], 1 / 3, abs_tol=1e-4)
    assert 300 < found["sereno_cache_bytes"] < found["sereno_cache_file_bytes"]
    # Nobody asked since: there is no rate to tell.
    run("sereno.jobs.cache_cleanup_job:clean_up", tmp_path, **environment)
    assert "sereno_cache_hit_ratio" not in values(tmp_path / "sereno_cache_metadata.prom")


def expressions() -> dict[str, str]:
    """Every PromQL text of the alert rules and of the dashboard."""
    rules = yaml.safe_load((MONITORING / "sereno-alerts.yml").read_text())["groups"][0]["rules"]
    dashboard = json.loads((MONITORING / "sereno-dashboard.json").read_text())
    return {
        **{rule["alert"]: rule["expr"] for rule in rules},
        **{
            f"{panel['title']} {target['refId']}": target["expr"]
            for panel in dashboard["panels"]
            for target in panel["targets"]
        },
        **{
            variable["name"]: variable["query"]["query"]
            for variable in dashboard["templating"]["list"]
            if variable["type"] == "query"
        },
    }


@pytest.mark.parametrize("title", expressions())
def test_dashboard_and_alerts_name_metrics_and_labels_that_exist(title: str) -> None:
    text = expressions()[title]
    named = set(re.findall(r"\bsereno_\w+", text))
    assert named
    assert named <= ALL.keys()
    labels = set(re.findall(r"(\w+)=~?\"", text))
    assert labels <= {"instance", "job_id", "status", "stat", "cache"}


def test_every_metric_is_on_the_dashboard_or_in_an_alert() -> None:
    seen = set(re.findall(r"\bsereno_\w+", " ".join(expressions().values())))
    # The sparse file's size says little by itself.
    assert ALL.keys() - seen == {"sereno_cache_file_bytes"}


def test_the_alerts_are_complete() -> None:
    (group,) = yaml.safe_load((MONITORING / "sereno-alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert {"alert", "expr", "labels", "annotations"} <= rule.keys()
        assert rule["labels"].keys() == {"severity"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_the_panels_of_the_dashboard_have_their_own_places() -> None:
    dashboard = json.loads((MONITORING / "sereno-dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize("kind", ["pipe", "link", "directory", "of another user", "large"])
def test_what_is_no_file_of_this_run_is_not_read_and_holds_nobody_up(
    kind: str, tmp_path: Path
) -> None:
    path, victim = tmp_path / "sereno_job_x.prom", tmp_path / "other"
    victim.write_text("a 1\n")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(victim)
    elif kind == "directory":
        path.mkdir()
    elif kind == "large":
        path.write_text("a 1\n" * 1_000_000)
        assert metrics.read(str(path)) == {"a": 1.0}
        return
    else:
        if os.geteuid() != 0:
            pytest.skip("giving a file away needs root")
        path.write_text("a 1\n")
        os.chown(path, 65534, 65534)
    assert metrics.read(str(path)) == {}
    if kind != "directory":
        metrics.Recorder("x", str(tmp_path), {}).write("success", 1.0, {})
        assert path.is_file()
        assert not path.is_symlink()
        assert victim.read_text() == "a 1\n"


@given(st.binary(max_size=2000))
def test_a_file_of_any_bytes_is_read_or_not_and_no_error(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        assert all(map(math.isfinite, metrics.read(file.name).values()))
