"""`Job` → unit files as {file name: text}, and back to what a unit file says of its job. Pure.

All text goes through `sereno.units.quoting`. The keys in `[X-Sereno]` are for sereno itself: systemd ignores
sections whose name starts with "X-" (systemd.unit(5)), so the units are at once the job store. That section is also the
mark of ownership: a file without it is not ours and is never touched.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sereno.declare.job import HOST, Job
from sereno.errors import in_scope
from sereno.manager.names import (
    SEED_SERVICE,
    app_target_name,
    drop_in_name,
    jobs_target_name,
    service_name,
    timer_name,
)
from sereno.manager.systemctl import seconds
from sereno.setting_names import CALENDAR_STEP_S, INTERVAL_S, MISFIRE_GRACE_S, TIMER_SLACK_S
from sereno.triggers import CronTrigger, GridTrigger
from sereno.units.quoting import exact_span, plain, quote, quote_argument
from sereno.units.service_text import access_lines, account_lines, ordering_lines, run_lines

# An elapse may be late by this much (systemd's default of a minute would stretch a 10 s interval to 60 s); an interval
# is never stretched by more than a hundredth.
ACCURACY_S = 1.0
# What `python -m sereno.runner` does, which loads importlib.util first: a quarter of a short run's Python.
START = "from sereno.runner import start; start()"


def render(job: Job, *, local_zone: str | None = None) -> dict[str, str]:
    """The generated unit files of `job`: its timer, and a drop-in where its service differs from the template.

    An hourly schedule needs the machine's time zone to lose no run when the clocks change.
    """
    files = {timer_name(job.id): _timer(job, local_zone)}
    settings = _service_settings(job)
    ordering = ordering_lines(job)
    if settings or ordering:
        unit = [f"Description={plain(job.name)}", *ordering]
        files[drop_in_name(job.id)] = _section_text(
            job, service_name(job.id), ("Unit", unit), ("Service", settings)
        )
    return files


def _timer(job: Job, local_zone: str | None) -> str:
    unit = [
        f"Description=Timer of {plain(job.name)}: {plain(job.trigger.text)}",
        f"PartOf={app_target_name(job.app)}",
    ]
    if job.interval_s is not None or job.at_boot:
        # For whoever else starts the timer: it has no elapse before the seed has given it the first one.
        unit += [f"Wants={SEED_SERVICE}", f"After={SEED_SERVICE}"]
    timer = [*job.trigger.timer_lines(local_zone=local_zone)]
    if job.at_boot:
        timer.insert(
            0, f"# Long over. Once in each boot {SEED_SERVICE} has systemd make up for it."
        )
    if job.persistent:
        # Of an interval systemd only keeps the time of the last elapse for it, from which the seed counts after a boot.
        timer.append("Persistent=true")
    if job.jitter_s and job.interval_s is None:
        # Without the second line the delay is drawn again at every daemon-reload. On an interval it would be added to
        # each period; there the seed shifts the first run instead.
        timer += [f"RandomizedDelaySec={exact_span(job.jitter_s)}", "FixedRandomDelay=true"]
    timer.append(f"AccuracySec={exact_span(accuracy_s(job))}")
    install = [f"WantedBy={jobs_target_name(job.app)}"]
    return _section_text(
        job, timer_name(job.id), ("Unit", unit), ("Timer", timer), ("Install", install)
    )


def accuracy_s(job: Job) -> float:
    if job.accuracy_s is not None:
        return job.accuracy_s
    return ACCURACY_S if job.interval_s is None else min(ACCURACY_S, job.interval_s / 100)


def _service_settings(job: Job) -> list[str]:
    settings = []
    if job.interpreter is not None:
        words = (job.interpreter, "-P", "-c", START, job.id, job.function)
        settings += ["ExecStart=", "ExecStart=" + " ".join(quote_argument(word) for word in words)]
        if job.import_paths:
            settings.append("Environment=" + quote("PYTHONPATH=" + ":".join(job.import_paths)))
    # The run compares its duration with the interval, to record an overrun.
    variables: dict[str, float | None] = {INTERVAL_S: job.interval_s}
    if isinstance(job.trigger, CronTrigger | GridTrigger):
        # What the runner and sereno.run.lateness go by: all elapses are whole multiples of the step, since the offsets
        # of zones are whole minutes, and the timer itself may be late by the slack.
        variables[CALENDAR_STEP_S] = 60 if job.trigger.by_the_minute else 1
        variables[TIMER_SLACK_S] = job.jitter_s + accuracy_s(job)
    variables[MISFIRE_GRACE_S] = job.misfire_grace_s
    settings += [
        f"Environment={name}={value}" for name, value in variables.items() if value is not None
    ]
    if job.timeout_s is not None:
        settings.append(f"TimeoutStartSec={exact_span(job.timeout_s)}")
    return [*settings, *account_lines(job), *run_lines(job), *access_lines(job)]


def _own(job: Job) -> list[str]:
    keys = {
        "App": job.app,
        "Name": job.name,
        "Function": job.function,
        "Trigger": job.trigger.text,
        "Entry": "script" if job.has_entry_script else "function",
        "IntervalSec": job.interval_s,
        "JitterSec": job.jitter_s if job.interval_s is not None and job.jitter_s else None,
        "AtBoot": "yes" if job.at_boot else None,
        "Persistent": None if job.persistent else "no",
        "OncePer": None if job.once_per == HOST else job.once_per,
        "After": " ".join(job.after) or None,
        "Kwargs": job.inputs.kwargs_json or None,
    }
    return [f"{key}={value}" for key, value in keys.items() if value is not None]


def _section_text(job: Job, unit: str, *sections: tuple[str, list[str]]) -> str:
    edit = in_scope(f"systemctl edit {unit}", user=not job.sandboxed)
    parts = [
        "# Written by sereno from the job's registration and rewritten with it.\n"
        f"# To change it here, use: {edit}",
        *("\n".join([f"[{name}]", *lines]) for name, lines in (*sections, ("X-Sereno", _own(job)))),
    ]
    return signed("\n\n".join(parts) + "\n")


def signed(text: str) -> str:
    """A generated file with the digest of its lines, by which a change by others shows."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{text}Digest={digest}\n"


def is_as_written(text: str) -> bool:
    """Whether a generated file is still as sereno wrote it: its last line is the digest of those before."""
    return text == signed(text.rpartition("Digest=")[0])


@dataclass(frozen=True, slots=True)
class Installed:
    """What the unit files on disk say of one job.

    Attributes:
        trigger: its text; the other fields up to `kwargs` are those of the `Job` that was registered.
        jitter_s: an interval's alone; for others see `delay_s`.
        enabled: whether its timer is started with its application; False: paused.
        files: its generated files, {file name: text}.
        once_per: as in the `Job`.
    """

    id: str
    app: str
    name: str
    function: str
    trigger: str
    has_entry_script: bool
    interval_s: float | None
    at_boot: bool
    jitter_s: float
    persistent: bool
    enabled: bool
    after: tuple[str, ...]
    kwargs: dict[str, Any]
    files: dict[str, str]
    once_per: str = HOST

    @property
    def by_stamp(self) -> bool:
        """Whether a start of its timer goes by the stamp alone: a persistent calendar timer's (systemd.timer(5))."""
        return self.interval_s is None and self.persistent

    @property
    def delay_s(self) -> float:
        """How much later than its calendar it may elapse at random, in seconds."""
        return self._span_s("RandomizedDelaySec")

    @property
    def slack_s(self) -> float:
        """How late its timer may elapse: its accuracy and its random delay, in seconds."""
        return self.delay_s + self._span_s("AccuracySec")

    def _span_s(self, key: str) -> float:
        return sum(map(seconds, self._in_timer(key)))

    @property
    def calendars(self) -> list[str]:
        """The calendar expressions in its own timer; none of an interval, and of @reboot, whose line is no time."""
        return [] if self.at_boot else self._in_timer("OnCalendar")

    def _in_timer(self, key: str) -> list[str]:
        lines = section(self.files.get(timer_name(self.id), ""), "Timer")
        return [line.removeprefix(f"{key}=") for line in lines if line.startswith(f"{key}=")]


def read(job_id: str, files: dict[str, str], *, enabled: bool) -> Installed | None:
    """Read a job back from its unit files; None if they are not sereno's. ValueError: a number or JSON text in them is
    none, so that somebody else has written there."""
    timer = files.get(timer_name(job_id), "")
    keys = own_keys(timer)
    if "App" not in keys:
        return None
    interval = keys.get("IntervalSec")
    return Installed(
        id=job_id,
        app=keys["App"],
        name=keys.get("Name", job_id),
        function=keys.get("Function", ""),
        trigger=keys.get("Trigger", ""),
        has_entry_script=keys.get("Entry") == "script",
        interval_s=None if interval is None else float(interval),
        at_boot=keys.get("AtBoot") == "yes",
        jitter_s=float(keys.get("JitterSec", 0)),
        persistent=keys.get("Persistent") != "no",
        enabled=enabled,
        after=tuple(keys.get("After", "").split()),
        kwargs=json.loads(keys.get("Kwargs", "{}")),
        files=files,
        once_per=keys.get("OncePer", HOST),
    )


def own_keys(text: str) -> dict[str, str]:
    """The keys of the section `[X-Sereno]`; empty if there is none."""
    pairs = (line.partition("=") for line in section(text, "X-Sereno"))
    return {key: value for key, found, value in pairs if found}


def section(text: str, name: str) -> list[str]:
    """The lines of a section of a unit file, but comments and empty ones."""
    inside, lines = False, []
    for line in text[max(0, text.find(f"[{name}]")) :].splitlines():
        if line.startswith("["):
            inside = line == f"[{name}]"
        elif inside and line and not line.startswith(("#", ";")):
            lines.append(line)
    return lines
