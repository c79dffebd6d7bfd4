"""The check of drop-ins that let a service do more than the template allows it. Pure.

Only what the template sets is judged (systemd/system/sereno@.service); what each setting means: systemd.exec(5).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator

from sereno.doctor.facts import Facts, Finding, warning
from sereno.doctor.job_facts import of_jobs

# systemd.syntax(7): the words for no.
_NO = ("no", "false", "off", "0", "n", "f")
_SYSTEM = ("/etc/", "/usr/", "/boot/", "/proc/", "/sys/")


def _is_no(value: str) -> bool:
    return value.lower() in _NO


def _is_empty(value: str) -> bool:
    return value == ""


def _is_root(value: str) -> bool:
    return bool({"root", "0"} & {*value.split()})


def _allows_root(value: str) -> bool:
    # Without User= a service of the system's manager is root's.
    return value == "" or _is_root(value)


def _adds(value: str) -> bool:
    return value not in ("", "~") and not value.startswith("~")


def _opens_the_system(value: str) -> bool:
    paths = [path.lstrip("-+").rstrip("/") + "/" for path in value.split()]
    return any(path == "/" or path.startswith(_SYSTEM) for path in paths)


# Of each setting of the template (systemd/system/sereno@.service): whether this value is weaker (systemd.exec(5)).
WEAKER: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(
        """
        NoNewPrivileges RestrictSUIDSGID LockPersonality RestrictRealtime RestrictNamespaces ProtectHome PrivateTmp
        PrivateDevices ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectControlGroups ProtectClock
        ProtectHostname PrivateIPC PrivateNetwork PrivateUsers
        """.split(),
        _is_no,
    ),
    "ProtectSystem": lambda value: value.lower() != "strict",
    "ProtectProc": lambda value: value in ("", "default"),
    "DevicePolicy": lambda value: value == "auto",
    "KeyringMode": lambda value: value in ("inherit", "shared"),
    "User": _allows_root,
    # Without them a service has the groups of its user.
    "Group": _is_root,
    "SupplementaryGroups": _is_root,
    "CapabilityBoundingSet": _adds,
    "AmbientCapabilities": _adds,
    # Without "~" it adds to what the template lets through; empty, it lets everything through.
    "SystemCallFilter": lambda value: not value.startswith("~"),
    "SystemCallArchitectures": _is_empty,
    "RestrictAddressFamilies": lambda value: value not in ("none", "AF_UNIX"),
    "IPAddressDeny": _is_empty,
    "IPAddressAllow": bool,
    "ReadWritePaths": _opens_the_system,
    # Empty, they take back what the template says.
    "ReadOnlyPaths": _is_empty,
    "TemporaryFileSystem": _is_empty,
}


def weakenings(settings: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The (key, value) pairs of a section `[Service]` that take something from the template's sandbox."""
    for key, value in settings:
        weaker = WEAKER.get(key)
        if weaker is not None and weaker(value):
            yield key, value


def sandbox(facts: Facts) -> Iterator[Finding]:
    if facts.scope == "user":
        return
    for path, lines in facts.drop_ins.items():
        for key, value in weakenings(
            (key, value) for where, key, value in lines if where == "[Service]"
        ):
            jobs = [job for job in facts.jobs if path in job.drop_ins]
            yield warning(path, key, value or "(empty)", f"it weakens the sandbox of {of_jobs(jobs)}",
                          f"take the line out of {shlex.quote(path)}, then: systemctl daemon-reload")  # fmt: skip
