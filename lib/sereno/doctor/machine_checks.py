"""The checks of what all jobs share: versions, switches, journal, clock, cache, drop-ins. Pure."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from sereno.doctor.facts import Entry, Facts
from sereno.doctor.findings import PROBLEM, WARNING, Finding
from sereno.doctor.sandbox import weakenings
from sereno.jobs.cache_cleanup_job import THRESHOLDS
from sereno.printable import printable
from sereno.units import TARGET, app_target_name

PYTHON_MIN = (3, 11)
SYSTEMD_MIN = 252
HISTORY_S = 7 * 86_400.0
_JOURNALD = "/etc/systemd/journald.conf.d"
CAPACITY_PERCENT = THRESHOLDS["SERENO_ALERT_CAPACITY_PERCENT"]
HIT_RATE_PERCENT = THRESHOLDS["SERENO_ALERT_HIT_RATE_PERCENT"]
MIN_REQUESTS = THRESHOLDS["SERENO_ALERT_MIN_REQUESTS"]


def versions(facts: Facts) -> Iterator[Finding]:
    if facts.python < PYTHON_MIN:
        yield Finding(
            PROBLEM, "Python", "version", "{}.{}".format(*facts.python),
            "sereno needs 3.11 or newer", f"apt-get install python3, then {facts.install}",
        )  # fmt: skip
    number = re.match(r"\d+", facts.systemd)
    if number is None or int(number[0]) < SYSTEMD_MIN:
        yield Finding(
            PROBLEM, "systemd", "version", facts.systemd or "unknown",
            f"sereno needs {SYSTEMD_MIN} or newer", "upgrade the distribution",
        )  # fmt: skip
    if not facts.has_python_systemd:
        yield Finding(
            PROBLEM, "python-systemd", "import", "fails",
            "records of runs do not reach the journal", "apt-get install python3-systemd",
        )  # fmt: skip


def installation(facts: Facts) -> Iterator[Finding]:
    if not facts.has_template:
        yield Finding(
            PROBLEM, "sereno@.service", "file", "missing",
            "sereno's own units are not installed", facts.install,
        )  # fmt: skip
    elif facts.code is None:
        return
    elif facts.code.installed_place is None:
        yield Finding(
            PROBLEM, "sereno@.service", "ExecStart", "missing",
            "the release that the jobs run is gone", facts.install,
        )  # fmt: skip
    elif not facts.code.same:
        yield Finding(
            WARNING, facts.code.installed_place, "version", str(facts.code.installed_version),
            f"the jobs run this release, and the command is {facts.code.version} of {facts.code.place}",
            f"{facts.install} in the checkout to install it, or use {facts.code.installed_place}/bin/sereno",
        )  # fmt: skip


def interrupted(facts: Facts) -> Iterator[Finding]:
    if facts.interrupted:
        yield Finding(
            PROBLEM, ".sereno-pending", "jobs", " ".join(facts.interrupted),
            "a change was killed half-way",
            f"{facts.sereno('apply')}, or start the jobs' application again",
        )  # fmt: skip


def switches(facts: Facts) -> Iterator[Finding]:
    if not facts.has_template:
        return
    state = facts.target.get("ActiveState", "")
    if state != "active":
        yield Finding(
            PROBLEM, TARGET, "ActiveState", state or "unknown",
            "all timers are switched off", f"{facts.systemctl} start {TARGET}",
        )  # fmt: skip
    if facts.target.get("UnitFileState") != "enabled":
        yield Finding(
            PROBLEM, TARGET, "UnitFileState", facts.target.get("UnitFileState") or "unknown",
            "no timer will start at the next boot", f"{facts.systemctl} enable {TARGET}",
        )  # fmt: skip
    for app, enabled, shown in facts.apps:
        unit = app_target_name(app)
        if not enabled:
            yield Finding(
                WARNING, unit, "enabled", "no", f"the application {app} has shut its jobs down",
                facts.sereno("apply") if app == "sereno" else f"start the application {app}",
            )  # fmt: skip
        elif state == "active" and shown.get("ActiveState") != "active":
            yield Finding(
                PROBLEM, unit, "ActiveState", shown.get("ActiveState") or "unknown",
                f"the timers of the application {app} are switched off",
                f"{facts.systemctl} start {unit}",
            )  # fmt: skip


def lingering(facts: Facts) -> Iterator[Finding]:
    if facts.lingers is False:
        yield Finding(
            PROBLEM, facts.user, "Linger", "no", "your timers stop when you log out",
            "loginctl enable-linger",
        )  # fmt: skip


def clock(facts: Facts) -> Iterator[Finding]:
    if facts.clock_synchronized is False:
        yield Finding(
            WARNING, "clock", "NTPSynchronized", "no", "jobs elapse at the wrong time",
            "apt-get install systemd-timesyncd; timedatectl set-ntp true",
        )  # fmt: skip


def journal(facts: Facts) -> Iterator[Finding]:
    if facts.journal_persistent is False:
        yield Finding(
            WARNING, "journal", "Storage", "volatile", "the history of runs is lost at each boot",
            "mkdir -p /var/log/journal && systemctl restart systemd-journald && journalctl --flush",
        )  # fmt: skip
    begins_s = facts.journal_begins_s
    if begins_s is None:
        return
    wanted = [
        (max(HISTORY_S, 2 * (job.period_s or 0)), job)
        for job in facts.jobs
        # Before it was installed it can have left nothing.
        if job.installed_s < begins_s
    ]
    if not wanted:
        return
    wanted_s, job = max(wanted, key=lambda pair: pair[0])
    if facts.now_s - begins_s < wanted_s:
        begins = datetime.fromtimestamp(begins_s, UTC).astimezone()
        yield Finding(
            WARNING, "journal", "begins", f"{begins:%Y-%m-%d %H:%M:%S %Z}",
            f"older records are gone; {job.installed.id} needs {wanted_s / 86_400:.0f} days to be judged",
            f"journalctl --disk-usage; mkdir -p {_JOURNALD} && printf '[Journal]\\nSystemMaxUse=4G\\n'"
            f" >{_JOURNALD}/sereno.conf && systemctl restart systemd-journald",
        )  # fmt: skip


def cache_rights(facts: Facts) -> Iterator[Finding]:
    cache = facts.cache
    if cache is None:
        return
    for path in cache.missing:
        yield Finding(
            PROBLEM, path, "directory", "missing", "the shared cache has no place",
            "systemd-tmpfiles --create sereno.conf",
        )  # fmt: skip
    for entry in cache.directories:
        if cache.wanted is None:
            if entry.mode & 0o002:
                yield Finding(
                    PROBLEM, entry.path, "mode", f"{entry.mode:04o}",
                    "strangers may write to it, so that no cache is opened there",
                    f"chmod o-w {shlex.quote(entry.path)}",
                )  # fmt: skip
        elif (entry.mode, entry.owner, entry.group) != cache.wanted:
            yield _rights(entry, cache.wanted, "systemd-tmpfiles --create sereno.conf")
    if cache.wanted is None:
        return
    for entry in cache.inside:
        mode, group = 0o2770 if entry.is_directory else 0o660, cache.wanted[2]
        if (entry.mode, entry.group) != (mode, group):
            # Who may write the directory can swap what is in it before it is changed; so it is not advised to.
            top = shlex.quote(cache.directories[-1].path)
            yield _rights(
                entry, (mode, entry.owner, group),
                f"rm -r {top} && systemd-tmpfiles --create sereno.conf",
            )  # fmt: skip


def _rights(entry: Entry, wanted: tuple[int, str, str], hint: str) -> Finding:
    return Finding(
        PROBLEM, entry.path, "mode, owner, group", f"{entry.mode:04o} {entry.owner} {entry.group}",
        "some processes cannot use the shared cache; right is {:04o} {} {}".format(*wanted), hint,
    )  # fmt: skip


def cache_health(facts: Facts) -> Iterator[Finding]:
    cache = facts.cache
    if cache is None:
        return
    if cache.error is not None:
        yield Finding(
            PROBLEM, "cache", "open", "refused", printable(cache.error),
            "journalctl SERENO_JOB=cache_cleanup_hourly",
        )  # fmt: skip
    for path in cache.damaged:
        yield Finding(
            WARNING, path, "files", "damaged",
            "the cache was found damaged and started empty; its old files are there for whoever wants to know why",
            f"rm -r {shlex.quote(path)}" if cache.wanted is None else
            f"runuser -u sereno -- find {shlex.quote(os.path.dirname(path))} -maxdepth 1 -name 'damaged-*'"
            " -exec rm -r {} +",
        )  # fmt: skip
    if cache.stats is None:
        return
    size, max_size = cache.stats["size"], cache.stats["max_size"]
    if max_size is not None and 100 * size > CAPACITY_PERCENT * max_size:
        yield Finding(
            WARNING, "cache", "size", f"{size} of {max_size}",
            f"it is over {CAPACITY_PERCENT:g} % full and evicts what is still good",
            "store a higher max_size or a lower default_ttl: MetadataCache(max_size=…); or: sereno cache clear",
        )  # fmt: skip
    rate = cache.stats["hit_rate_percent"]
    if cache.stats["total_requests"] > MIN_REQUESTS and rate < HIT_RATE_PERCENT:
        yield Finding(
            WARNING, "cache", "hit_rate_percent", str(rate),
            f"less than {HIT_RATE_PERCENT:g} % of {cache.stats['total_requests']} requests were hits",
            "sereno cache stats; count anew after a change: MetadataCache().reset_stats()",
        )  # fmt: skip


def stamps(facts: Facts) -> Iterator[Finding]:
    for path in facts.old_stamps:
        yield Finding(
            WARNING, path, "timer", "missing",
            "a stamp outlived its timer; a new job of that name would take it for its last elapse",
            f"rm {path}",
        )  # fmt: skip


def sandbox(facts: Facts) -> Iterator[Finding]:
    if facts.scope == "user":
        return
    for drop_in in facts.drop_ins:
        for key, value in weakenings(drop_in.settings):
            others = f" and {len(drop_in.services) - 1} more" if len(drop_in.services) > 1 else ""
            yield Finding(
                WARNING, drop_in.path, key, value or "(empty)",
                f"it weakens the sandbox of {drop_in.services[0]}{others}",
                f"take the line out of {drop_in.path}, then: systemctl daemon-reload",
            )  # fmt: skip


def messages(facts: Facts) -> Iterator[Finding]:
    for what in facts.untold:
        yield Finding(
            PROBLEM, "notify", "handler", what, "nobody is told of failures by it",
            facts.sereno("notify --test"),
        )  # fmt: skip


def unread(facts: Facts) -> Iterator[Finding]:
    for what in facts.unread:
        yield Finding(
            WARNING, "doctor", "not checked", what, "this user may not look at it, or it failed",
            "run sereno doctor as root" if facts.scope == "system" else "mend that first",
        )  # fmt: skip


CHECKS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "versions": versions,
    "installation": installation,
    "interrupted change": interrupted,
    "target": switches,
    "lingering": lingering,
    "clock": clock,
    "journal": journal,
    "cache rights": cache_rights,
    "cache": cache_health,
    "stamp": stamps,
    "sandbox": sandbox,
    "messages": messages,
    "not checked": unread,
}
