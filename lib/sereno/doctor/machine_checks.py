"""The checks of what all jobs share: versions, switches, journal, clock, cache, drop-ins. Pure."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime

from sereno.doctor.facts import PROBLEM, WARNING, Entry, Facts, Finding, problem, warning
from sereno.doctor.run_checks import PYTHON_MIN, environment_fits
from sereno.jobs.cache_cleanup_job import THRESHOLDS
from sereno.printable import printable
from sereno.units import TARGET, app_target_name

SYSTEMD_MIN = 252
HISTORY_S = 7 * 86_400.0
JOURNALD = "systemd-journald.service"
# Where sereno, its jobs and what they need write.
WRITTEN = (
    "/etc",
    "/var",
    "/run",
    "/tmp",
    "/var/log/journal",
    "/var/cache/sereno",
    "/var/lib/sereno",
)
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
    if facts.missing_packages and environment_fits(facts):
        yield problem(facts.code.place if facts.code else "Python", "packages", " ".join(facts.missing_packages),
                      "the cache cannot be opened without them", facts.install)  # fmt: skip
    # Where its environment is another Python's, python-systemd is missing in that one.
    if not facts.has_python_systemd and environment_fits(facts):
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
    elif not environment_fits(facts):
        place = facts.at(f"{facts.code.installed_place}/venv/bin/python3")
        yield problem(facts.code.installed_place, "Python", place.runs or "missing",
                      f"sereno's environment is for Python {' '.join(place.built_for)}, which was upgraded",
                      facts.install)  # fmt: skip
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
    if not facts.has_template or facts.units.get(TARGET, {}).get("LoadState") in (
        "masked",
        "not-found",
    ):
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
    # A user's manager has none.
    journald = facts.units.get(JOURNALD, {})
    if facts.scope == "system" and journald.get("ActiveState", "active") != "active":
        yield problem("journal", "ActiveState", facts.units[JOURNALD]["ActiveState"],
                      "the records of runs are lost", f"systemctl start {JOURNALD}")  # fmt: skip
    if facts.journal_storage in ("none", "volatile"):
        is_none = facts.journal_storage == "none"
        yield (problem if is_none else warning)(
            "journal", "Storage", facts.journal_storage,
            "no record of a run is kept" if is_none else "the history of runs is lost at each boot",
            f"mkdir -p {_JOURNALD} && printf '[Journal]\\nStorage=persistent\\n' >{_JOURNALD}/zz-sereno.conf"
            " && systemctl restart systemd-journald && journalctl --flush",
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
    # Without the group nothing can belong to it.
    if cache is None or (cache.wanted and facts.groups.get(cache.wanted[2], 0) is None):
        return
    if facts.at("/var/cache/sereno").is_read_only:
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
            facts.command("journalctl SERENO_JOB=cache_cleanup_hourly"),
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
        if any(path.endswith(f"@{job_id}.timer") for job_id in facts.orphans):
            continue
        yield Finding(
            WARNING, path, "timer", "missing",
            "a stamp outlived its timer; a new job of that name would take it for its last elapse",
            f"rm {path}",
        )  # fmt: skip


def disks(facts: Facts) -> Iterator[Finding]:
    """One finding for each file system."""
    found = {place.mount: (path, place) for path, place in sorted(facts.places.items(), reverse=True)
             if place.kind == "directory" and path in (*WRITTEN, *facts.written)}  # fmt: skip
    for mount, (path, place) in sorted(found.items()):
        if place.is_read_only:
            yield problem(mount, "mounted", "read-only", f"nothing can be written to {path}",
                          f"journalctl -k -p err; mend it, then: mount -o remount,rw {shlex.quote(mount)}")  # fmt: skip
        elif place.lacks:
            count = "--inodes " if place.lacks == "inodes" else ""
            yield problem(mount, "free", f"no {place.lacks}", f"the file system is full: {path} is on it",
                          f"du -x {count}{shlex.quote(mount)} | sort -n | tail; delete what is not needed")  # fmt: skip


def machine_ids(facts: Facts) -> Iterator[Finding]:
    """Copies of an image must not share an id: the jitter of their jobs and their journals go by it."""
    found = facts.machine_id
    if found is None or not re.fullmatch(r"[0-9a-f]{32}", found):
        yield problem("/etc/machine-id", "id", found or "missing",
                      "the machine has no id of its own", "systemd-machine-id-setup")  # fmt: skip
    elif facts.bus_id not in (None, found):
        yield warning("/var/lib/dbus/machine-id", "id", str(facts.bus_id),
                      "D-Bus has another id: one of the two came with an image",
                      "ln -sf /etc/machine-id /var/lib/dbus/machine-id")  # fmt: skip


def messages(facts: Facts) -> Iterator[Finding]:
    place, path = facts.at(facts.config_path), shlex.quote(facts.config_path)
    if not facts.tells:
        return
    if place.kind != "file":
        yield problem(facts.config_path, "kind", place.kind, "it is no file, so nobody is told of failures",
                      f"mv {path} {path}.off")  # fmt: skip
    elif place.open_at is not None:
        yield problem(facts.config_path, "owner", str(place.uid),
                      f"another user may change {place.open_at}, and so who is told, and what runs then",
                      "chown root: {0} && chmod go-w {0}".format(shlex.quote(place.open_at)))  # fmt: skip
    elif place.mode & (0o077 if place.gid or facts.scope == "user" else 0o007):
        yield problem(facts.config_path, "mode", f"{place.mode:04o}", "others may read the secrets in it",
                      f"chmod 600 {path}")  # fmt: skip
    for what in facts.untold:
        yield problem(
            "notify",
            "handler",
            what,
            "nobody is told of failures by it",
            facts.sereno("notify --test"),
        )


def unread(facts: Facts) -> Iterator[Finding]:
    for what in facts.unread:
        if what.startswith("cache: ") and (facts.missing_packages or not environment_fits(facts)):
            continue
        may = facts.scope == "user" or facts.user == "root"
        yield warning("doctor", "not checked", what, "this could not be looked at" if may else "this user may not look",
                      "mend that first" if may else "run sereno doctor as root")  # fmt: skip
