"""A change of timers is killed at a step, or systemctl fails at it: what is there works, and the next one finishes."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import backend_jobs
import pytest
from fake_systemd import FakeManager

from sereno.errors import NoSuchJob, SystemdError
from sereno.scheduler import Scheduler
from sereno.units.unit_text import own_keys

CHANGES = {
    *("os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"),
    *("os.truncate", "os.utime"),
}
# In the long run every step is tried on every row; else every other one, and of three rows each at every third.
LONG = os.environ.get("SERENO_TEST_LONG") == "1"


class LastingManager(FakeManager):
    """Keeps in a file what is active, as systemd does whoever of its clients is killed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        if path.exists():
            self.active = set(json.loads(path.read_text()))

    def _save(self) -> None:
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(sorted(self.active)))
        temporary.replace(self.path)

    def start(self, units, *, wait: bool = True) -> None:
        super().start(units, wait=wait)
        self._save()

    def stop(self, units) -> None:
        super().stop(units)
        self._save()


@pytest.fixture
def tmp_path(in_memory: Path) -> Path:
    """Where thousands of writes are waited for."""
    return in_memory


@pytest.fixture
def backend(units: Path, tmp_path: Path) -> Callable[[], Scheduler]:
    """backend(): what a new process of the application has."""
    return lambda: Scheduler(
        "backend", scope="user", manager=LastingManager(tmp_path / "manager.json")
    )


def before(scheduler: Scheduler) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.add_cron_job(backend_jobs.sync, "sync", hour=3, timeout=60)
    scheduler.add_interval_job(backend_jobs.other, "other", minutes=7)
    scheduler.start()


def change(scheduler: Scheduler) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=6)
    scheduler.add_cron_job(backend_jobs.sync, "sync", hour=4)
    scheduler.add_cron_job(backend_jobs.trim, "trim", hour=5, kwargs={"limit": 3}, timeout=60)
    scheduler.start()


def remove(scheduler: Scheduler) -> None:
    try:
        scheduler.remove_job("report")
    except NoSuchJob:
        pass


ACTIONS: dict[str, tuple[Callable[[Scheduler], object], set[str]]] = {
    "start": (change, {"report", "sync", "trim"}),
    "remove": (remove, {"sync", "other"}),
    "remove all": (lambda scheduler: scheduler.installation.remove_all(), set()),
    "shutdown": (lambda scheduler: scheduler.shutdown(wait=False), {"report", "sync", "other"}),
    "pause": (lambda scheduler: scheduler.pause_job("report"), {"report", "sync", "other"}),
}


AS_BEFORE = {"report", "sync", "other"}


def killed_at(step: int, action: Callable[[], object]) -> bool:
    """Do `action` in a process that is killed before its change number `step`; False if it has fewer."""
    child = os.fork()
    if child == 0:
        steps = 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal steps
            if event == "open":
                flags = arguments[2]
                writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                if not writes:
                    return
            elif event not in CHANGES:
                return
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


def assert_whole(units: Path) -> None:
    """Whatever systemd may read now is a whole file of ours, and each link leads somewhere."""
    for path in [*units.glob("sereno@*.timer"), *units.glob("sereno@*.service.d/*.conf")]:
        assert own_keys(path.read_text())["App"] == "backend"
    for link in units.glob("*.wants/sereno@*.timer"):
        assert link.is_symlink()


def active_timers(backend: Callable[[], Scheduler]) -> set[str]:
    return {unit for unit in backend().installation.manager.active if unit.endswith(".timer")}


def assert_told(name: str, error: SystemdError, backend: Callable[[], Scheduler]) -> None:
    """What was active before, is no more and is still there is named, unless it was to be stopped."""
    there = {f"sereno@{job_id}.timer" for job_id in backend().installation.jobs()}
    stopped = there & {f"sereno@{job_id}.timer" for job_id in AS_BEFORE} - active_timers(backend)
    if name in ("start", "pause", "remove"):
        assert all(timer in str(error) for timer in stopped), str(error)


def assert_finished(name: str, units: Path, backend: Callable[[], Scheduler]) -> None:
    scheduler = backend()
    wanted = ACTIONS[name][1] if name in ACTIONS else AS_BEFORE
    assert set(scheduler.installation.jobs()) == wanted
    active = {unit for unit in scheduler.installation.manager.active if unit.endswith(".timer")}
    stopped = {"shutdown": wanted, "pause": {"report"}}.get(name, set())
    assert active == {f"sereno@{job_id}.timer" for job_id in wanted - stopped}
    enabled = {job.id for job in scheduler.installation.jobs().values() if job.enabled}
    assert enabled == (wanted - {"report"} if name == "pause" else wanted)
    if name == "remove all":
        assert list(units.iterdir()) == []
    elif name != "remove":
        # After a removal whose very last step is missing there is nothing left to remove; the next change sees to it.
        assert list(units.rglob(".sereno*")) == []


@pytest.mark.parametrize("name", ACTIONS)
def test_a_change_killed_at_any_step_leaves_whole_files_and_is_finished_by_the_next(
    name: str, backend, units: Path, tmp_path: Path
) -> None:
    action = ACTIONS[name][0]
    # The actions take turns with the steps.
    step = 0 if LONG else [*ACTIONS].index(name) % 3 - 2
    while True:
        step += 1 if LONG else 3
        # As it was: everything anew.
        backend().installation.remove_all()
        before(backend())
        scheduler = backend()
        if not killed_at(step, lambda scheduler=scheduler: action(scheduler)):
            break
        assert_whole(units)
        if name == "remove":
            # Registered again after all, no job of it is taken for a paused one.
            before(backend())
            assert_finished("nothing", units, backend)
            killed_at(step, lambda: action(backend()))
        action(backend())
        assert_finished(name, units, backend)
    assert step > {"pause": 3}.get(name, 5), "nothing was killed"
    assert_finished(name, units, backend)


@pytest.mark.parametrize("name", ACTIONS)
def test_a_change_whose_systemctl_fails_at_any_call_is_finished_by_the_next(
    name: str, backend, units: Path
) -> None:
    action = ACTIONS[name][0]
    for fail_at in range(12):
        backend().installation.remove_all()
        before(backend())
        scheduler = backend()
        manager = scheduler.installation.manager
        manager.fail_at = fail_at
        try:
            action(scheduler)
        except SystemdError as error:
            failed = True
            assert_whole(units)
            assert_told(name, error, backend)
            action(backend())
        else:
            failed = False
        assert_finished(name, units, backend)
        if not failed:
            break
    assert fail_at > 0
    assert not failed


def test_a_change_without_room_on_the_disk_leaves_the_timers_as_they_were(
    backend, units: Path, monkeypatch
) -> None:
    """Each write in turn finds the disk full."""
    from sereno.errors import SerenoError

    fsync = os.fsync
    for full_at in range(1, 40):
        backend().installation.remove_all()
        before(backend())
        written = 0

        def full(descriptor: int, full_at: int = full_at) -> None:
            nonlocal written
            written += 1
            if written == full_at:
                raise OSError(28, "No space left on device")
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            try:
                change(backend())
                break
            except SerenoError as error:
                assert "No space left" in str(error)
                assert "not started again" not in str(error)
        assert_whole(units)
        assert active_timers(backend) >= {f"sereno@{job_id}.timer" for job_id in AS_BEFORE}
        change(backend())
        assert_finished("start", units, backend)
    else:
        pytest.fail("every write found the disk full")
    assert full_at > 5


def test_unit_files_are_on_the_disk_before_they_take_their_names_and_before_the_manager_is_told(
    backend, units: Path, monkeypatch
) -> None:
    """In the order of the calls: what is synced, what is renamed, and the manager's start of the timers."""
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        done.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))

    def renamed(source: str, target: str) -> None:
        if "/run/" in str(target) or os.path.islink(source):
            return replace(source, target)
        assert done.count(("sync", source)) == 1, "renamed before it was on the disk"
        replace(source, target)
        done.remove(("sync", source))
        return done.append(("rename", os.path.dirname(target)))

    scheduler = backend()
    manager = scheduler.installation.manager
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(manager, "start_alone", lambda _: done.append(("start", "")))
    monkeypatch.setattr(manager, "_save", lambda: None)
    before(scheduler)
    told = done[: done.index(("start", ""))]
    directories = {directory for step, directory in told if step == "rename"}
    assert directories == {str(units), *map(str, units.glob("*.service.d"))}
    for directory in directories:
        last = max(n for n, step in enumerate(told) if step == ("rename", directory))
        assert ("sync", directory) in told[last:], directory


@pytest.mark.parametrize("failing", ["stamps", "seeds", "links", "once"])
def test_a_change_that_fails_in_the_middle_starts_again_what_was_active(
    failing: str, backend, units: Path, tmp_path: Path, monkeypatch
) -> None:
    from sereno.errors import SerenoError
    from sereno.units.enablement import Enablement
    from sereno.units.stamps import TimerMemory

    before(backend())
    scheduler = backend()
    manager = scheduler.installation.manager

    def fails(*arguments: object) -> None:
        raise OSError(30, "Read-only file system", "/var/lib/somewhere")

    failures = [SystemdError("systemctl start: made to fail")]

    def fails_once(_: object) -> None:
        if failures:
            raise failures.pop()

    with monkeypatch.context() as patch:
        if failing == "stamps":
            patch.setattr(TimerMemory, "set_last_elapse", fails)
        elif failing == "seeds":
            patch.setattr(TimerMemory, "write_seed", fails)
        elif failing == "links":
            patch.setattr(Enablement, "link", fails)
        else:
            patch.setattr(manager, "start_alone", fails_once)
        with pytest.raises(SerenoError, match=r"Read-only file system|made to fail") as raised:
            change(scheduler)
    assert "not started again" not in str(raised.value)
    # The third is no longer registered; where it was not yet removed it goes on.
    there = AS_BEFORE & set(backend().installation.jobs())
    assert there >= {"report", "sync"}
    assert active_timers(backend) >= {f"sereno@{job_id}.timer" for job_id in there}
    change(backend())
    assert_finished("start", units, backend)


def test_a_shutdown_that_fails_leaves_the_application_as_it_was(
    backend, units: Path, monkeypatch
) -> None:
    before(backend())
    scheduler = backend()

    def fails(stopped: object) -> None:
        raise SystemdError("systemctl stop: made to fail")

    with monkeypatch.context() as patch:
        patch.setattr(scheduler.installation.manager, "stop", fails)
        with pytest.raises(SystemdError):
            scheduler.shutdown()
    assert backend().installation.units.enabled.app_is_linked("backend")
    assert backend().is_running


HEALERS = ("backend", "shop", "third")


@pytest.mark.parametrize("healer", HEALERS)
def test_a_change_killed_at_any_step_leaves_no_job_of_others_stopped_after_anybodys_next_change(
    healer: str, backend, units: Path, tmp_path: Path
) -> None:
    """The interval changes of a job that another application's comes after, so that both timers are stopped."""

    def of(app: str) -> Scheduler:
        return Scheduler(app, scope="user", manager=LastingManager(tmp_path / "manager.json"))

    def register(app: str, minutes: int) -> Scheduler:
        scheduler = of(app)
        if app == "backend":
            scheduler.add_interval_job(backend_jobs.report, "report", minutes=minutes)
        elif app == "shop":
            scheduler.add_interval_job(backend_jobs.sync, "sync", minutes=7, after="report")
            scheduler.add_interval_job(
                backend_jobs.trim, "paused", minutes=7, after="report", kwargs={"limit": 3}
            )
        else:
            scheduler.add_cron_job(backend_jobs.other, "other", hour=3)
        return scheduler

    step = 0 if LONG else HEALERS.index(healer) - 2
    while True:
        step += 1 if LONG else 3
        backend().installation.remove_all()
        register("backend", 5).start()
        register("shop", 5).start()
        of("shop").pause_job("paused")
        changed = register("backend", 6)
        if not killed_at(step, changed.start):
            break
        register(healer, 6 if healer == "backend" else step % 2 + 3).start()
        jobs = of("shop").installation.jobs()
        assert (jobs["sync"].enabled, jobs["paused"].enabled) == (True, False)
        assert "sereno@sync.timer" in of("shop").installation.manager.active
    assert step > 5, "nothing was killed"
