"""What runs of a job left behind goes when the job is removed, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import backend_jobs
import pytest
from fake_systemd import FakeManager

from sereno.notify.state import States
from sereno.notify.throttle import Row, State
from sereno.records import metrics
from sereno.scheduler import Scheduler
from sereno.units.installation import Installation

STARTED_S = 1_700_000_000.0


class Place:
    """The two directories of one machine, and its application "backend"."""

    def __init__(self, home: Path, manager: FakeManager) -> None:
        self.metrics, self.states = home / "textfiles", home / "notify"
        self.manager = manager
        for directory in (self.metrics, self.states):
            directory.mkdir()

    def install(self, *job_ids: str) -> None:
        scheduler = Scheduler("backend", scope="user", manager=self.manager)
        for job_id in job_ids:
            scheduler.add_interval_job(backend_jobs.report, job_id, minutes=5)
        scheduler.start()

    def run(self, *job_ids: str) -> None:
        """What a failed run of each leaves."""
        for job_id in job_ids:
            self.manager.environment[f"sereno@{job_id}.service"] = (
                f"A=b SERENO_NOTIFY_STATE={self.states} SERENO_TEXTFILE_DIR={self.metrics} C=[unprintable]"
            )
            end_a_run(metrics.Recorder(job_id, str(self.metrics), {}))
            failing = State(Row(STARTED_S, 1))
            States(str(self.states)).change(job_id, lambda _, failing=failing: failing)

    def files(self) -> set[str]:
        found = {path.name for path in (*self.metrics.iterdir(), *self.states.iterdir())}
        return found - {".lock"}


def end_a_run(recorder: metrics.Recorder) -> None:
    recorder.write("failed", 0.001, {})


@pytest.fixture
def place(tmp_path: Path, units: Path, manager: FakeManager) -> Place:
    return Place(tmp_path, manager)


OF_KEPT = {"sereno_job_kept.prom", "kept.json", "kept.failing"}


@pytest.mark.parametrize("way", ["start", "remove_job", "remove", "remove_all"])
def test_a_job_that_is_removed_takes_its_metrics_and_what_was_told_of_it_along(
    place: Place, way: str
) -> None:
    place.install("kept", "gone", "gone_2")
    place.run("kept", "gone", "gone_2", "kept")
    # What a killed process left.
    (place.metrics / ".sereno_job_gone.prom.new").touch()
    (place.states / ".gone.json.new").touch()
    others = {"sereno_job_gone_3.prom", "sereno_cache_metadata.prom", "node.prom"}
    for name in others:
        (place.metrics / name).touch()
    assert {"sereno_job_gone_2.prom", "gone.json", "gone.failing"} < place.files()
    place.manager.asked.clear()

    installation = Installation("user", manager=place.manager)
    if way == "start":
        place.install("kept")
    elif way == "remove_job":
        scheduler = Scheduler("backend", scope="user", manager=place.manager)
        assert scheduler.remove_job("gone")
        assert scheduler.remove_job("gone_2")
    elif way == "remove":
        installation.remove("backend", ["gone", "gone_2"])
    else:
        installation.remove_all()
    assert place.files() == others | (set() if way == "remove_all" else OF_KEPT)
    if way == "remove":
        # Neither has a drop-in of an administrator's: one stands for both.
        asked = [units for units in place.manager.asked if len(units) == 1]
        assert asked == [("sereno@gone.service",)]


def test_a_job_with_a_drop_in_of_an_administrators_is_asked_for_its_own_directories(
    place: Place, units: Path, tmp_path: Path
) -> None:
    place.install("kept", "gone", "gone_2")
    place.run("kept", "gone_2")
    place.metrics = tmp_path / "elsewhere"
    place.metrics.mkdir()
    place.run("gone")
    drop_in = units / "sereno@gone.service.d/override.conf"
    drop_in.write_text(f"[Service]\nEnvironment=SERENO_TEXTFILE_DIR={place.metrics}\n")
    place.install("kept")
    assert list(place.metrics.iterdir()) == []
    assert {path.name for path in (tmp_path / "textfiles").iterdir()} == {"sereno_job_kept.prom"}


def test_where_no_job_is_removed_nobody_is_asked_for_its_directories(place: Place) -> None:
    place.install("kept")
    place.run("kept")
    place.manager.asked.clear()
    place.install("kept")
    assert len(place.manager.asked) == 1
    assert place.files() == OF_KEPT


def test_no_link_is_followed_and_what_cannot_be_deleted_is_named_and_stays(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place.install("gone")
    place.run("gone")
    elsewhere = tmp_path / "elsewhere"
    place.metrics.rename(elsewhere)
    place.metrics.symlink_to(elsewhere)
    for name in ("gone.json", "gone.failing"):
        (place.states / name).unlink()
    precious = tmp_path / "precious"
    precious.touch()
    (place.states / "gone.json").symlink_to(precious)
    (place.states / "gone.failing").mkdir()
    place.install()
    assert precious.exists()
    assert [path.name for path in elsewhere.iterdir()] == ["sereno_job_gone.prom"]
    assert {path.name for path in place.states.iterdir()} - {".lock"} == {"gone.failing"}
    warnings = [record.getMessage() for record in caplog.records]
    assert any(text.startswith(f"{place.metrics} was not deleted: ") for text in warnings)
    assert any(f"{place.states}/gone.failing was not deleted" in text for text in warnings)


@pytest.mark.parametrize(
    "shown", ["", "[unprintable]", "SERENO_TEXTFILE_DIR=", "SERENO_TEXTFILE_DIR=x"]
)
def test_a_job_whose_directories_are_not_known_is_removed_all_the_same(
    place: Place, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place.install("gone")
    place.manager.environment["sereno@gone.service"] = shown
    place.install()
    assert Installation("user", manager=place.manager).jobs() == {}


def test_a_run_during_which_its_job_was_removed_leaves_no_metrics_again(
    place: Place,
) -> None:
    place.install("gone")
    place.run("gone")
    recorder = metrics.Recorder("gone", str(place.metrics), {})
    place.install()
    end_a_run(recorder)
    assert place.files() == set()
