"""The check of drop-ins that let a service do more than the template allows it. Pure.

Only what the template sets is judged (systemd/system/sereno@.service); what each setting means: systemd.exec(5).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator

from sereno.observe.doctor.facts import Facts, Finding, warning
from sereno.observe.doctor.job_facts import of_jobs

# systemd.syntax(7): the words for no.
_NO = ("no", "false", "off", "0", "n", "f")
_SYSTEM = ("/etc/", "/usr/", "/boot/", "/proc/", "/sys/")


def _is_root(value: str) -> bool:
    return bool({"root", "0"} & {*value.split()})


def _adds(value: str) -> bool:
    return value not in ("", "~") and not value.startswith("~")


def _opens_the_system(value: str) -> bool:
    paths = [path.lstrip("-+").rstrip("/") + "/" for path in value.split()]
    return any(path == "/" or path.startswith(_SYSTEM) for path in paths)


# Of each setting of the template: whether this value is weaker.
WEAKER: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(
        """
        NoNewPrivileges RestrictSUIDSGID LockPersonality RestrictRealtime RestrictNamespaces ProtectHome PrivateTmp
        PrivateDevices ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectControlGroups ProtectClock
        ProtectHostname PrivateIPC PrivateNetwork PrivateUsers
        """.split(),
        lambda value: value.lower() in _NO,
    ),
    # Empty, they take back what the template says.
    **dict.fromkeys(
        ("SystemCallArchitectures", "IPAddressDeny", "ReadOnlyPaths", "TemporaryFileSystem"),
        lambda value: value == "",
    ),
    "ProtectSystem": lambda value: value.lower() != "strict",
    "ProtectProc": lambda value: value in ("", "default"),
    "DevicePolicy": lambda value: value == "auto",
    "KeyringMode": lambda value: value in ("inherit", "shared"),
    # Without User= a service of the system's manager is root's; without the others it has the groups of its user.
    "User": lambda value: value == "" or _is_root(value),
    "Group": _is_root,
    "SupplementaryGroups": _is_root,
    "CapabilityBoundingSet": _adds,
    "AmbientCapabilities": _adds,
    # Without "~" it adds to what the template lets through; empty, it lets everything through.
    "SystemCallFilter": lambda value: not value.startswith("~"),
    "RestrictAddressFamilies": lambda value: value not in ("none", "AF_UNIX"),
    "IPAddressAllow": bool,
    "ReadWritePaths": _opens_the_system,
}


def weakenings(settings: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The (key, value) pairs of a section `[Service]` that take something from the template's sandbox."""
    return (pair for pair in settings if pair[0] in WEAKER and WEAKER[pair[0]](pair[1]))


def sandbox(facts: Facts) -> Iterator[Finding]:
    for path, lines in facts.drop_ins.items() if facts.scope == "system" else ():
        jobs = [job for job in facts.jobs if path in job.drop_ins]
        pairs = ((key, value) for section, key, value in lines if section == "[Service]")
        for key, value in weakenings(pairs):
            yield warning(path, key, value or "(empty)", f"it weakens the sandbox of {of_jobs(jobs)}",
                          f"take the line out of {shlex.quote(path)}, then: {facts.reload}")  # fmt: skip
