"""The generated unit files on disk: the only module that reads or writes them, but for this boot's in `stamps`.

Every file is replaced by rename, so a reader sees the old text or the new one. A change of several files is announced
in the file `.sereno-pending` and ends when that file goes: whoever finds it knows that an earlier change was killed,
and that the manager may not know what is on disk. It has the ids of the jobs that were changed, and of those whose
timers were only stopped meanwhile ("id held"), which the next change of anybody starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sereno.errors import NotAllowed, NotAvailable, SerenoError, rights_hint
from sereno.manager.names import DROP_IN, is_of_a_job, job_of, timer_name
from sereno.manager.scope import Scope
from sereno.units.durable import TEMPORARY_PREFIX, locked, names_in, remove_if_empty, replace_all
from sereno.units.enablement import Enablement, write_presets
from sereno.units.stamps import SEED_DROP_IN, TimerMemory
from sereno.units.unit_text import Installed, own_keys, read

PENDING = ".sereno-pending"


@dataclass(frozen=True, slots=True)
class Found:
    """What is on disk: `jobs` by id, names of `foreign` files that have our names, ids `interrupted` by a kill."""

    jobs: Mapping[str, Installed]
    foreign: frozenset[str]
    interrupted: frozenset[str]


class UnitDirectory:
    """The directories of one scope; see `sereno.manager.scope.Scope`."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.path = scope.units
        self.timers = TimerMemory(scope)
        self.enabled = Enablement(scope)

    def require(self, unit: str) -> None:
        """Raise `NotAvailable` if none of systemd's directories has the hand-written unit `unit`."""
        if not any((directory / unit).exists() for directory in self.scope.search):
            raise NotAvailable(
                f"unit: {unit} is in none of {', '.join(map(str, self.scope.search))}",
                hint=f"sereno's own units are not installed: {self.scope.command('./install.sh')}",
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of this scope, which is that of its directory; errors meanwhile are as `naming_errors` says."""
        with self.naming_errors():
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK):
                raise self._not_allowed()
            with locked(self.path):
                yield

    def find(self) -> Found:
        """Read everything that is installed in this scope."""
        files: dict[str, dict[str, str]] = {}
        links = self.enabled.timers()
        foreign: set[str] = set()

        def note(job_id: str, name: str) -> None:
            try:
                files.setdefault(job_id, {})[name] = self._text(name)
            except OSError:
                # A directory, or a link to nowhere: in the way, and nothing that was written here.
                foreign.add(name)

        for name in names_in(self.path):
            if (job_id := job_of(name)) is not None:
                note(job_id, name)
            elif name.endswith(".service.d"):
                drop_in = f"{name}/{DROP_IN}"
                if (job_id := job_of(drop_in)) and os.path.exists(os.path.join(self.path, drop_in)):
                    note(job_id, drop_in)
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
        return Found(jobs, frozenset(foreign), frozenset(self._pending() or ()))

    def drop_ins(self) -> dict[str, list[str]]:
        """Drop-ins of administrators, {unit name: paths}; those of "sereno@.service" are for every job."""
        found: dict[str, list[str]] = {}
        for place in (self.path, self.scope.runtime):
            for directory in names_in(place):
                if not is_of_a_job(directory) or not directory.endswith(".d"):
                    continue
                for name in names_in(place / directory):
                    if name.endswith(".conf") and name not in (DROP_IN, SEED_DROP_IN):
                        unit = directory.removesuffix(".d")
                        found.setdefault(unit, []).append(str(place / directory / name))
        return found

    def fingerprint(self) -> object:
        """A value that is another one as soon as a unit file, link or drop-in is added, replaced or removed."""
        found: list[tuple[str, int]] = []
        for place in (self.path, self.scope.runtime):
            inside = [
                name
                for name in names_in(place)
                if name.startswith("sereno") and name.endswith((".d", ".wants"))
            ]
            for path in (os.path.join(place, name) for name in ("", *inside)):
                with suppress(FileNotFoundError):
                    found.append((path, os.stat(path).st_mtime_ns))
        return found

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

    def begin(self, changed: Iterable[str], held: Iterable[Installed] = ()) -> None:
        """Announce a change of the jobs with these ids; of those `held` only the timers are stopped meanwhile."""
        lines = sorted({*changed, *(f"{job.id} held" for job in held)})
        self.replace({PENDING: "".join(f"{line}\n" for line in lines)})

    def end(self) -> None:
        """The change that was announced is complete."""
        (self.path / PENDING).unlink(missing_ok=True)
        self.write_presets()

    def interrupted(self) -> set[str] | None:
        """The jobs that a killed change had held, by id; None: none was killed."""
        pending = self._pending()
        return None if pending is None else {job_id for job_id, word in pending.items() if word}

    def replace(self, files: Mapping[str, str]) -> None:
        """Write all of `files` ({name: text}) or none of them, durably; only under the lock."""
        # Timers last: one without its drop-in would run something else.
        replace_all(
            str(self.path), dict(sorted(files.items(), key=lambda file: "/" not in file[0]))
        )

    def write_presets(self) -> None:
        """Let presets leave what is enabled and what is paused as it is."""
        names = names_in(self.path)
        timers = {name for name in names if is_of_a_job(name) and name.endswith(".timer")}
        enabled = timers & self.enabled.timers()
        # What is linked need not be read.
        paused = {name for name in timers - enabled if self._is_ours(name)}
        write_presets(self.path, enabled=enabled, paused=paused)

    def _is_ours(self, name: str) -> bool:
        try:
            return bool(own_keys(self._text(name)))
        except OSError:
            return False

    def sweep(self) -> None:
        """Remove what killed changes have left: temporary files, drop-ins and links of jobs that are no more."""
        for name in names_in(self.path):
            if name.startswith(TEMPORARY_PREFIX):
                os.unlink(self.path / name)
            elif job_id := job_of(f"{name}/{DROP_IN}"):
                file = f"{name}/{DROP_IN}"
                if not (self.path / timer_name(job_id)).exists() and self._is_ours(file):
                    os.unlink(self.path / file)
                remove_if_empty(self.path / name)
        self.enabled.sweep()

    def delete(self, names: Iterable[str]) -> None:
        """Delete unit files, and the directory of a drop-in that was its last file."""
        for name in sorted(names, key=lambda name: "/" in name):
            path = self.path / name
            path.unlink(missing_ok=True)
            if name.endswith("/" + DROP_IN):
                remove_if_empty(path.parent)

    @contextmanager
    def naming_errors(self) -> Iterator[None]:
        """Say what the file system refuses in sereno's errors: NotAllowed, and SerenoError with the file's name."""
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
