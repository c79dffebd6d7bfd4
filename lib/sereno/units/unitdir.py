"""The generated unit files on disk: the only module that reads or writes them, but for this boot's in `timer_memory`.

Every file is replaced by rename, so a reader sees the old text or the new one. A change of several files is announced
in the file `.sereno-pending` and ends when that file goes: whoever finds it knows that an earlier change was killed. It
has the ids that were going to be linked, which their application finishes, and those that were only held meanwhile
("id held"), which the next change of anybody lets go.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sereno.errors import NotAllowed, NotAvailable, SerenoError, rights_hint
from sereno.manager.names import (
    DROP_IN,
    TARGET,
    app_target_name,
    is_of_a_job,
    is_of_an_app,
    job_of,
    timer_name,
)
from sereno.manager.scope import Scope
from sereno.units import presets
from sereno.units.durable import TEMPORARY_PREFIX, replace_all
from sereno.units.stamps import SEED_DROP_IN, TimerMemory
from sereno.units.unit_text import Installed, own_keys, read

PENDING = ".sereno-pending"


@dataclass(frozen=True, slots=True)
class Found:
    """What is on disk: `jobs` by id, names of `foreign` files that have our names, ids `interrupted` by a kill."""

    jobs: Mapping[str, Installed]
    foreign: frozenset[str]
    interrupted: frozenset[str] | None


class UnitDirectory:
    """The directories of one scope; see `sereno.manager.scope.Scope`."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.path = scope.units
        self.timers = TimerMemory(scope)

    def require(self, unit: str) -> None:
        """Raise `NotAvailable` if none of systemd's directories has the hand-written unit `unit`."""
        if not any((directory / unit).exists() for directory in self.scope.search):
            raise NotAvailable(
                f"unit: {unit} is in none of {', '.join(map(str, self.scope.search))}",
                hint=f"sereno's own units are not installed: {self.scope.command('./install.sh')}",
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of this scope: changes of several processes come one after another (flock(2) on the directory).

        Raises:
            NotAllowed: the caller may not write unit files here.
            SerenoError: a file could not be written, whichever it was.
        """
        with self.told():
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if not os.access(self.path, os.W_OK):
                    raise self._not_allowed()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def find(self) -> Found:
        """Read everything that is installed in this scope."""
        files: dict[str, dict[str, str]] = {}
        links = self._linked()
        foreign: set[str] = set()

        def note(job_id: str, name: str) -> None:
            try:
                files.setdefault(job_id, {})[name] = self._text(name)
            except OSError:
                # A directory, or a link to nowhere: in the way, and nothing that was written here.
                foreign.add(name)

        for entry in self._entries(self.path):
            if (job_id := job_of(entry.name)) is not None:
                note(job_id, entry.name)
            elif entry.name.endswith(".service.d"):
                name = f"{entry.name}/{DROP_IN}"
                if (job_id := job_of(name)) and os.path.exists(os.path.join(self.path, name)):
                    note(job_id, name)
        jobs = {}
        for job_id, texts in files.items():
            strangers = {name for name, text in texts.items() if "App" not in own_keys(text)}
            foreign |= strangers
            try:
                job = read(job_id, texts, enabled=timer_name(job_id) in links)
            except ValueError:
                foreign.add(timer_name(job_id))
                continue
            if job is not None and not strangers:
                jobs[job_id] = job
        pending = self._pending()
        interrupted = None if pending is None else frozenset(pending)
        return Found(jobs, frozenset(foreign), interrupted)

    def drop_ins(self) -> dict[str, list[str]]:
        """Drop-ins of administrators, {unit name: paths}; those of "sereno@.service" are for every job."""
        found: dict[str, list[str]] = {}
        for place in (self.path, self.scope.runtime):
            for entry in self._entries(place):
                unit = entry.name.removesuffix(".d")
                if not is_of_a_job(entry.name) or unit == entry.name:
                    continue
                for name in sorted(os.listdir(entry.path)):
                    if name.endswith(".conf") and name not in (DROP_IN, SEED_DROP_IN):
                        found.setdefault(unit, []).append(os.path.join(entry.path, name))
        return found

    def fingerprint(self) -> object:
        """A value that is another one as soon as a unit file, link or drop-in is added, replaced or removed."""
        found: list[tuple[str, int]] = []
        for place in (self.path, self.scope.runtime):
            inside = [
                entry.path
                for entry in self._entries(place)
                if entry.name.startswith("sereno") and entry.name.endswith((".d", ".wants"))
            ]
            for path in (str(place), *inside):
                try:
                    found.append((path, os.stat(path).st_mtime_ns))
                except FileNotFoundError:
                    continue
        return found

    @staticmethod
    def _entries(path: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(path) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _text(self, name: str) -> str:
        # Not by pathlib or io: with a thousand jobs they took most of the time of `sereno list`.
        # O_NONBLOCK: a FIFO in a unit's place would never open.
        how = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(os.path.join(self.path, name), how)
        try:
            data = b""
            while part := os.read(descriptor, 65536):
                data += part
        finally:
            os.close(descriptor)
        return data.decode("utf-8", "surrogateescape")

    def _pending(self) -> dict[str, str] | None:
        """What was announced and not ended: "held" or nothing by job id."""
        try:
            lines = self._text(PENDING).splitlines()
        except FileNotFoundError:
            return None
        return {job_id: word for job_id, _, word in (line.partition(" ") for line in lines)}

    def begin(self, link: Iterable[str], held: Iterable[Installed] = ()) -> None:
        """Announce a change that is going to link the timers of these job ids, beside what was announced before.

        Args:
            held: jobs that are unlinked meanwhile and otherwise left as they are.
        """
        ours = {**dict.fromkeys(link, ""), **{job.id: "held" for job in held}}
        self._announce({**(self._pending() or {}), **ours})

    def end(self, done: Iterable[str]) -> None:
        """The change of these job ids is complete; what another application's killed change announced stays."""
        done = set(done)
        self._announce(
            {
                job_id: word
                for job_id, word in (self._pending() or {}).items()
                if job_id not in done and (self.path / timer_name(job_id)).exists()
            }
        )
        self.write_presets()

    def _announce(self, pending: Mapping[str, str]) -> None:
        if pending:
            lines = [f"{job_id} {word}".rstrip() for job_id, word in sorted(pending.items())]
            self.replace({PENDING: "".join(f"{line}\n" for line in lines)})
        else:
            (self.path / PENDING).unlink(missing_ok=True)

    def let_go(self) -> list[str]:
        """Link the jobs again that a killed change had held; return their ids. Only under the lock."""
        held = {job_id for job_id, word in (self._pending() or {}).items() if word}
        found = self.find().jobs if held else {}
        jobs = {job.id: job.app for job in found.values() if job.id in held}
        self.link(jobs)
        return list(jobs)

    def replace(self, files: Mapping[str, str]) -> None:
        """Write all of `files` ({name: text}) or none of them, durably; only under the lock."""
        replace_all(str(self.path), files)

    def write_presets(self) -> None:
        """Let presets leave what is enabled and what is paused as it is: see `sereno.units.presets`."""
        names = {entry.name for entry in self._entries(self.path)}
        timers = {name for name in names if is_of_a_job(name) and name.endswith(".timer")}
        if not any(map(self._is_ours, timers)):
            return presets.remove(self.path)
        return presets.write(
            self.path,
            target=TARGET,
            switched_on=(self.path / "timers.target.wants" / TARGET).is_symlink(),
            paused=[name for name in timers - self._linked() if self._is_ours(name)],
        )

    def _linked(self) -> set[str]:
        """Names of the timers that the targets of applications start."""
        return {
            link.name
            for entry in self._entries(self.path)
            if is_of_an_app(entry.name) and entry.name.endswith(".wants")
            for link in self._entries(Path(entry.path))
        }

    def _is_ours(self, name: str) -> bool:
        try:
            return bool(own_keys(self._text(name)))
        except OSError:
            return False

    def sweep(self) -> None:
        """Remove the temporary files of killed processes; only under the lock."""
        for entry in self._entries(self.path):
            if entry.name.startswith(TEMPORARY_PREFIX):
                os.unlink(entry.path)

    def sweep_all(self) -> None:
        """Remove what changes that were killed have left of jobs that are no more; only under the lock."""
        self.sweep()
        self.end(())
        for entry in self._entries(self.path):
            if (
                is_of_a_job(entry.name)
                or is_of_an_app(entry.name)
                or entry.name.startswith(f"{TARGET}.wants")
            ):
                self._remove_if_empty(Path(entry.path))

    def delete(self, names: Iterable[str]) -> None:
        """Delete unit files, and the directory of a drop-in that was its last file."""
        for name in names:
            path = self.path / name
            path.unlink(missing_ok=True)
            if name.endswith("/" + DROP_IN):
                self._remove_if_empty(path.parent)

    def link(self, jobs: Mapping[str, str]) -> None:
        """Let their applications' targets start the timers of these jobs, {id: application}, as `systemctl enable`."""
        for app in set(jobs.values()):
            timers = [timer_name(job_id) for job_id in jobs if jobs[job_id] == app]
            self._link(f"{app_target_name(app)}.wants", {timer: f"../{timer}" for timer in timers})

    def unlink(self, app: str, job_ids: Iterable[str]) -> None:
        wants = self.path / f"{app_target_name(app)}.wants"
        for job_id in job_ids:
            (wants / timer_name(job_id)).unlink(missing_ok=True)
        self._remove_if_empty(wants)

    def linked_apps(self) -> set[str]:
        """The applications that sereno.target starts."""
        prefix, suffix = app_target_name("").split(".")
        return {
            link.name.removeprefix(prefix).removesuffix(f".{suffix}")
            for link in self._entries(self.path / f"{TARGET}.wants")
            if link.name.startswith(prefix)
        }

    def app_is_linked(self, app: str) -> bool:
        """Whether `sereno.target` starts the application's target, by a link that leads to where its template is."""
        wants = f"{self.path}/{TARGET}.wants"
        links = self._app_links({app, *self.linked_apps()})
        return all(_target(f"{wants}/{name}") == target for name, target in links.items())

    def link_app(self, app: str) -> None:
        """Let `sereno.target` start the application's target."""
        self._link(f"{TARGET}.wants", self._app_links({app, *self.linked_apps()}))

    def _app_links(self, apps: Iterable[str]) -> dict[str, str]:
        template = app_target_name("")
        places = [directory / template for directory in self.scope.search]
        found = next((place for place in places if place.exists()), places[self.scope.is_user])
        if self.scope.name == "system":
            # A staged tree's links must be right in the system that it becomes.
            found = Path("/") / found.relative_to(self.path.parents[2])
        return {app_target_name(app): str(found) for app in apps}

    def unlink_app(self, app: str) -> None:
        wants = self.path / f"{TARGET}.wants"
        (wants / app_target_name(app)).unlink(missing_ok=True)
        self._remove_if_empty(wants)

    def _link(self, place: str, links: Mapping[str, str]) -> None:
        """Make symbolic links, {name: target}, in the directory `place`, where they are not there."""
        if links:
            os.makedirs(f"{self.path}/{place}", exist_ok=True)
        for name, target in links.items():
            path = f"{self.path}/{place}/{name}"
            if _target(path) != target:
                temporary = f"{self.path}/{TEMPORARY_PREFIX}link"
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
                os.symlink(target, temporary)
                os.replace(temporary, path)

    @staticmethod
    def _remove_if_empty(directory: Path) -> None:
        with suppress(OSError):
            directory.rmdir()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what the file system refuses into sereno's errors."""
        try:
            yield
        except PermissionError as error:
            raise self._not_allowed() from error
        except OSError as error:
            raise SerenoError(
                f"unit files: {error.filename or self.path}: {error.strerror or error}",
                hint="mend that, then do it again",
            ) from error

    def _not_allowed(self) -> NotAllowed:
        return NotAllowed(
            f"unit files: no right to write {self.path}",
            hint=rights_hint(user=self.scope.is_user),
        )


def _target(link: str) -> str | None:
    """What a symbolic link leads to; None: it is none."""
    try:
        return os.readlink(link)
    except OSError:
        return None
