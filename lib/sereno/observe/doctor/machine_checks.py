"""The checks of what all jobs share: versions, switches, journal, clock, file systems, messages. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from sereno.manager.names import TARGET, TEMPLATE, app_target_name, stamp_name
from sereno.observe.doctor.facts import Facts, Finding, problem, shown_time, warning
from sereno.observe.doctor.run_checks import PYTHON_MIN

SYSTEMD_MIN = 252
HISTORY_S = 7 * 86_400.0
# Each takes 0.7 ms of every run (measured on 2 cores, systemd 252): from here on they cost more than all else in it.
MANY_MOUNTS = 200
JOURNALD = "systemd-journald.service"
# Where sereno, its jobs and what they need write.
WRITTEN = (
    *("/etc", "/var", "/run", "/tmp"),
    *("/var/log/journal", "/var/cache/sereno", "/var/lib/sereno"),
)
_JOURNALD = "/etc/systemd/journald.conf.d"


def versions(facts: Facts) -> Iterator[Finding]:
    if facts.python < PYTHON_MIN:
        yield problem("Python", "version", "{}.{}".format(*facts.python), "sereno needs 3.11 or newer",
                      f"apt-get install python3, then {facts.install}")  # fmt: skip
    number = re.match(r"\d+", facts.systemd)
    if number is None or int(number[0]) < SYSTEMD_MIN:
        yield problem("systemd", "version", facts.systemd or "unknown", f"sereno needs {SYSTEMD_MIN} or newer",
                      "upgrade the distribution")  # fmt: skip
    # Where its environment is another Python's, both are missing in that one.
    if not facts.environment_fits:
        return
    if facts.missing_packages:
        yield problem(facts.code.place if facts.code else "Python", "packages", " ".join(facts.missing_packages),
                      "the cache cannot be opened without them", facts.install)  # fmt: skip
    if not facts.has_python_systemd:
        yield problem("python-systemd", "import", "fails", "records of runs do not reach the journal",
                      "apt-get install python3-systemd")  # fmt: skip


def installation(facts: Facts) -> Iterator[Finding]:
    code = facts.code
    release = code.installed_place if code else None
    if TEMPLATE in facts.masks:
        return
    if not facts.has_template:
        yield problem(TEMPLATE, "file", "missing", "sereno's own units are not installed",
                      facts.install)  # fmt: skip
    elif code is None:
        return
    elif release is None:
        yield problem(TEMPLATE, "ExecStart", "missing", "the release that the jobs run is gone",
                      facts.install)  # fmt: skip
    elif not facts.environment_fits:
        place = facts.at(f"{release}/venv/bin/python3")
        yield problem(release, "Python", place.runs or "missing",
                      f"sereno's environment is for Python {' '.join(place.built_for)}, which was upgraded",
                      facts.install)  # fmt: skip
    elif not code.same:
        yield warning(release, "version", str(code.installed_version),
                      f"the jobs run this release, and the command is {code.version} of {code.place}",
                      f"{facts.install} in the checkout to install it, or use {release}/bin/sereno")  # fmt: skip


def interrupted(facts: Facts) -> Iterator[Finding]:
    if facts.interrupted:
        yield problem(".sereno-pending", "jobs", " ".join(facts.interrupted), "a change was killed half-way",
                      f"{facts.sereno('apply')}, or start the jobs' application again")  # fmt: skip


def switches(facts: Facts) -> Iterator[Finding]:
    is_told = facts.units.get(TARGET, {}).get("LoadState") in ("masked", "not-found")
    if is_told or not facts.has_template:
        return
    state = facts.target.get("ActiveState", "")
    if state != "active":
        yield problem(TARGET, "ActiveState", state or "unknown", "all timers are switched off",
                      f"{facts.systemctl} start {TARGET}")  # fmt: skip
    if facts.target.get("UnitFileState") != "enabled":
        yield problem(TARGET, "UnitFileState", facts.target.get("UnitFileState") or "unknown",
                      "no timer will start at the next boot", f"{facts.systemctl} enable {TARGET}")  # fmt: skip
    for app, enabled, shown in facts.apps:
        unit = app_target_name(app)
        if not enabled:
            yield warning(unit, "enabled", "no", f"the application {app} has shut its jobs down",
                          facts.sereno("apply") if app == "sereno" else f"start the application {app}")  # fmt: skip
        elif state == "active" and shown.get("ActiveState") != "active":
            yield problem(unit, "ActiveState", shown.get("ActiveState") or "unknown",
                          f"the timers of the application {app} are switched off",
                          f"{facts.systemctl} start {unit}")  # fmt: skip


def lingering(facts: Facts) -> Iterator[Finding]:
    if facts.lingers is False:
        yield problem(facts.user, "Linger", "no", "your timers stop when you log out",
                      "loginctl enable-linger")  # fmt: skip


def clock(facts: Facts) -> Iterator[Finding]:
    if facts.clock_synchronized is False:
        yield warning("clock", "NTPSynchronized", "no", "jobs elapse at the wrong time",
                      "apt-get install systemd-timesyncd; timedatectl set-ntp true")  # fmt: skip


def journal(facts: Facts) -> Iterator[Finding]:
    state = facts.units.get(JOURNALD, {}).get("ActiveState", "active")
    # A user's manager has none.
    if facts.scope == "system" and state != "active":
        yield problem("journal", "ActiveState", state, "the records of runs are lost",
                      f"systemctl start {JOURNALD}")  # fmt: skip
    if facts.journal_storage in ("none", "volatile"):
        is_none = facts.journal_storage == "none"
        yield (problem if is_none else warning)(
            "journal", "Storage", facts.journal_storage,
            "no record of a run is kept" if is_none else "the history of runs is lost at each boot",
            _configured("Storage=persistent", "zz-sereno") + " && journalctl --flush",
        )  # fmt: skip
    begins_s = facts.journal_begins_s
    if begins_s is None:
        return
    # Before it was installed a job can have left nothing.
    wanted = [
        (max(HISTORY_S, 2 * (job.period_s or 0)), job.id)
        for job in facts.jobs
        if job.installed_s < begins_s
    ]
    wanted_s, slowest = max(wanted, default=(0.0, ""))
    if facts.now_s - begins_s < wanted_s:
        yield warning("journal", "begins", shown_time(begins_s),
                      f"older records are gone; {slowest} needs {wanted_s / 86_400:.0f} days to be judged",
                      f"journalctl --disk-usage; {_configured('SystemMaxUse=4G', 'sereno')}")  # fmt: skip


def _configured(line: str, name: str) -> str:
    return (
        f"mkdir -p {_JOURNALD} && printf '[Journal]\\n{line}\\n' >{_JOURNALD}/{name}.conf"
        " && systemctl restart systemd-journald"
    )


def stamps(facts: Facts) -> Iterator[Finding]:
    lost = {stamp_name(job_id) for job_id in facts.orphans}
    old = [path for path in facts.old_stamps if path.rpartition("/")[2] not in lost]
    if old:
        yield warning(old[0], "timer", "missing",
                      f"stamps without a timer: {len(old)}; a new job of that name would take one for its last elapse",
                      f"rm {' '.join(map(shlex.quote, old))}")  # fmt: skip


def disks(facts: Facts) -> Iterator[Finding]:
    """One finding for each file system."""
    found = {place.mount: (path, place) for path, place in sorted(facts.places.items(), reverse=True)
             if place.kind == "directory" and path in (*WRITTEN, *facts.written)}  # fmt: skip
    for mount, (path, place) in sorted(found.items()):
        quoted = shlex.quote(mount)
        if place.is_read_only:
            yield problem(mount, "mounted", "read-only", f"nothing can be written to {path}",
                          f"journalctl -k -p err; mend it, then: mount -o remount,rw {quoted}")  # fmt: skip
        elif place.lacks:
            count = "--inodes " if place.lacks == "inodes" else ""
            yield problem(mount, "free", f"no {place.lacks}", f"the file system is full: {path} is on it",
                          f"du -x {count}{quoted} | sort -n | tail; delete what is not needed")  # fmt: skip


def mounts(facts: Facts) -> Iterator[Finding]:
    if facts.scope == "system" and facts.mounts >= MANY_MOUNTS:
        yield warning("/proc/self/mountinfo", "mounts", str(facts.mounts),
                      "for the sandbox of each run systemd reads all of them, once for each line that hides a path",
                      "findmnt; unmount what nobody needs")  # fmt: skip


def machine_ids(facts: Facts) -> Iterator[Finding]:
    """Copies of an image must not share an id: the jitter of their jobs and their journals go by it.

    One machine sees that it has none (missing, empty, "uninitialized", no id) and that D-Bus has another one. That a
    clone has the same id, only somebody who looks at both can see.
    """
    found = facts.machine_id
    if found is None or not re.fullmatch(r"[0-9a-f]{32}", found):
        yield problem("/etc/machine-id", "id", "missing" if found is None else found or "empty",
                      "the machine has no id of its own", "systemd-machine-id-setup")  # fmt: skip
    elif facts.bus_id not in (None, found):
        yield warning("/var/lib/dbus/machine-id", "id", str(facts.bus_id),
                      "D-Bus has another id: one of the two came with an image",
                      "ln -sf /etc/machine-id /var/lib/dbus/machine-id")  # fmt: skip


def messages(facts: Facts) -> Iterator[Finding]:
    told, path = facts.config_path, shlex.quote(facts.config_path)
    place = facts.at(told)
    if not facts.tells:
        return
    if place.kind != "file":
        yield problem(told, "kind", place.kind, "it is no file, so nobody is told of failures",
                      f"mv {path} {path}.off")  # fmt: skip
    elif place.open_at is not None:
        yield problem(told, "owner", str(place.uid),
                      f"another user may change {place.open_at}, and so who is told, and what runs then",
                      "chown root: {0} && chmod go-w {0}".format(shlex.quote(place.open_at)))  # fmt: skip
    elif place.mode & (0o077 if place.gid or facts.scope == "user" else 0o007):
        yield problem(told, "mode", f"{place.mode:04o}", "others may read the secrets in it",
                      f"chmod 600 {path}")  # fmt: skip
    for what in facts.untold:
        yield problem("notify", "handler", what, "nobody is told of failures by it",
                      facts.sereno("notify --test"))  # fmt: skip


def unread(facts: Facts) -> Iterator[Finding]:
    may = facts.scope == "user" or facts.user == "root"
    for what in facts.unread:
        yield warning("doctor", "not checked", what, "this could not be looked at" if may else "this user may not look",
                      "mend that first" if may else "run sereno doctor as root")  # fmt: skip
