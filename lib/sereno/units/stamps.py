"""What is remembered of timers in files: their last elapses, over a reboot, and what this boot has of them.

systemd's own stamps say when a timer elapsed last; it reads a stamp's time when it starts the timer. For this boot
there are *seeds*, drop-ins with the first elapse of an interval, and files that say that a job of @reboot has had its
run.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from sereno.manager.names import stamp_name, timer_name
from sereno.manager.scope import Scope
from sereno.records.files import replace
from sereno.units.durable import names_in, remove_if_empty

SEED_DROP_IN = "50-sereno-seed.conf"


class TimerMemory:
    """The files of one scope; see `sereno.manager.scope.Scope`."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def last_elapse_s(self, job_id: str) -> float | None:
        """Time of the timer's last elapse, seconds since the epoch, as systemd remembers it over a reboot."""
        with suppress(FileNotFoundError):
            return self._stamp(job_id).stat().st_mtime
        return None

    def set_last_elapse(self, job_id: str, at_s: float) -> None:
        """Date the timer's stamp, so that no elapse up to `at_s` (seconds since the epoch) is made up."""
        stamp = self._stamp(job_id)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
        os.utime(stamp, (at_s, at_s))

    def forget_elapses(self, job_ids: Collection[str]) -> None:
        """Delete what tells of removed jobs' elapses: a later job of the same name must not inherit it."""
        for job_id in job_ids:
            self._stamp(job_id).unlink(missing_ok=True)
            self._booted(job_id).unlink(missing_ok=True)

    def old_stamps(self) -> tuple[str, ...]:
        """Paths of the stamps whose timer is no longer there."""
        stamps = sorted(self.scope.stamps.glob(stamp_name("*")))
        there = set(names_in(self.scope.units))
        return tuple(str(one) for one in stamps if one.name.removeprefix("stamp-") not in there)

    def seed(self, job_id: str) -> str | None:
        """The text of a timer's drop-in for this boot."""
        with suppress(FileNotFoundError):
            return (self.scope.runtime / seed_name(job_id)).read_text("utf-8")
        return None

    def write_seed(self, job_id: str, text: str) -> None:
        path = self.scope.runtime / seed_name(job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(str(path), text.encode())

    def forget_seeds(self, job_ids: Iterable[str]) -> None:
        """Delete first elapses of this boot: for a job that is an interval's no more, it would be one too many."""
        for job_id in job_ids:
            seed = self.scope.runtime / seed_name(job_id)
            seed.unlink(missing_ok=True)
            remove_if_empty(seed.parent)

    def is_booted(self, job_id: str) -> bool:
        """Whether this boot has had its run of a job, or is to have none."""
        return self._booted(job_id).exists()

    def set_booted(self, job_id: str) -> None:
        """Let this boot run a job of @reboot no more."""
        self.scope.runtime.mkdir(parents=True, exist_ok=True)
        self._booted(job_id).touch()

    def _stamp(self, job_id: str) -> Path:
        return self.scope.stamps / stamp_name(job_id)

    def _booted(self, job_id: str) -> Path:
        return self.scope.runtime / booted_name(job_id)


def seed_name(job_id: str) -> str:
    """File name of a timer's first elapse of this boot, below the runtime directory."""
    return f"{timer_name(job_id)}.d/{SEED_DROP_IN}"


def booted_name(job_id: str) -> str:
    """Name of the file, below the runtime directory, that says that this boot runs the job no more. Not a drop-in:
    systemd would ask for a reload."""
    return f".sereno-booted@{job_id}"
