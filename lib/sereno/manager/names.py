"""Names of units and of the files that belong to them: each has one function or constant, and no other place."""

from __future__ import annotations

TEMPLATE = "sereno@.service"
TIMER_TEMPLATE = "sereno@.timer"
"""No file: an administrator's drop-ins for all timers have its name."""
TARGET = "sereno.target"
SEED_SERVICE = "sereno-seed.service"
TELLER = "sereno-failed.service"
"""Tells of failed jobs: OnFailure= of them all."""
APPS_TARGET = "sereno-apps.target"
"""Starts the applications that are linked into it, and is gone."""
DROP_IN = "50-sereno.conf"
# For systemctl: the timers, the services, both, and the targets of applications.
ALL_TIMERS, ALL_SERVICES = "sereno@*.timer", "sereno@*.service"
ALL_JOBS, ALL_APPS = "sereno@*", "sereno-app@*"
# What starts timers in a boot, each by the one before.
STARTERS = TARGET, "sereno-start*", "sereno-app*", "sereno-jobs@*"
_JOB, _APP = "sereno@", "sereno-app@"


def timer_name(job_id: str) -> str:
    return f"{_JOB}{job_id}.timer"


def service_name(job_id: str) -> str:
    return f"{_JOB}{job_id}.service"


def app_target_name(app: str) -> str:
    return f"{_APP}{app}.target"


def jobs_target_name(app: str) -> str:
    """The target that starts an application's timers and is gone: `enable` and `disable` link them into it."""
    return f"sereno-jobs@{app}.target"


def drop_in_name(job_id: str) -> str:
    return f"{service_name(job_id)}.d/{DROP_IN}"


def unit_of(file_name: str) -> str:
    """The unit that a generated file (timer or drop-in) is of."""
    return file_name.partition(".d/")[0]


def stamp_name(job_id: str) -> str:
    """File in which systemd keeps the last elapse of a `Persistent=` timer (systemd.timer(5))."""
    return f"stamp-{timer_name(job_id)}"


def job_of(file_name: str) -> str | None:
    """Job id in the name of a generated file (timer or drop-in), or None."""
    name = file_name.removesuffix(f".service.d/{DROP_IN}").removesuffix(".timer")
    return name.removeprefix(_JOB) if name != file_name and name.startswith(_JOB) else None


def job_of_service(name: str) -> str:
    """Job id in the name of a service."""
    return name.removeprefix(_JOB).removesuffix(".service")


def is_of_a_job(name: str) -> bool:
    """Whether a unit, or a directory of drop-ins, is of one job or of all."""
    return name.startswith(_JOB)
