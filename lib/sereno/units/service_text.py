"""Lines of a job's service: its account and limits, what its run is given and may reach, what it comes after. Pure.

What the runner itself goes by are variables `SERENO_…`: systemd's own settings cannot say them, and an administrator
can change them with `systemctl edit` like all others.
"""

from __future__ import annotations

import sereno.setting_names as settings
from sereno.declare.job import HOST, Job
from sereno.manager.names import service_name
from sereno.units.quoting import plain, quote

# Of the user scope's template, what a machine that gives users no namespaces cannot make.
OF_NAMESPACES = (
    *("PrivateUsers", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices"),
    *("ProtectKernelTunables", "ProtectKernelModules", "ProtectControlGroups", "ProtectClock"),
    *("ProtectHostname", "PrivateIPC", "PrivateNetwork"),
)

# Opens, with ProtectHome=, what the template closes. A list can only be taken back as a whole: /dev/shm is said again.
OPEN_HOMES = (
    "TemporaryFileSystem=",
    "TemporaryFileSystem=/dev/shm:mode=1777,size=50%,nosuid,nodev",
)


def account_lines(job: Job) -> list[str]:
    """The `[Service]` lines that say as whom a run acts: its user, his own groups, and sereno for the shared cache."""
    lines = [f"User={job.user}"] if job.user is not None else []
    if lines or job.group is not None:
        # Empty, it is no longer the template's, but the user's own.
        lines += [f"Group={job.group or ''}", "SupplementaryGroups=sereno"]
    if job.user is not None and (job.user == "root" or job.user.strip("0") == ""):
        # What the template makes read-only leaves files below /proc that root may write without any capability.
        lines.append("ProtectKernelTunables=yes")
    return lines


def run_lines(job: Job) -> list[str]:
    """The `[Service]` lines of a job's retries, limits and inputs; of after=, what the run itself must know."""
    inputs, start = job.inputs, job.inputs.working_directory
    variables = job.retry.environment()
    if job.only_if_success:
        variables[settings.ONLY_IF_SUCCESS] = " ".join(job.after)
    if inputs.kwargs_json:
        variables[settings.KWARGS] = inputs.kwargs_json
    variables.update(inputs.environment)
    return [
        *(f"Environment={quote(f'{name}={value}')}" for name, value in variables.items()),
        *(f"LoadCredential={name}:{plain(path)}" for name, path in inputs.credentials),
        *([f"UMask={inputs.umask}"] if inputs.umask is not None else []),
        *([f"WorkingDirectory={plain(start)}"] if start is not None else []),
        *_ping_lines(job),
        *_fleet_lines(job),
        *_limit_lines(job),
    ]


def _ping_lines(job: Job) -> list[str]:
    """What sereno.run.heartbeat goes by."""
    url, file = job.inputs.ping_url, job.inputs.ping_url_file
    if url is not None:
        return [f"Environment={quote(f'{settings.PING_URL}={url}')}"]
    if file is None:
        return []
    if not job.sandboxed:
        return [f"Environment={quote(f'{settings.PING_URL_FILE}={file}')}"]
    # Read by the manager, so that the file need not be the run's user's. %d is the directory of credentials.
    return [
        f"LoadCredential=sereno_ping_url:{plain(file)}",
        f"Environment={settings.PING_URL_FILE}=%d/sereno_ping_url",
    ]


def _fleet_lines(job: Job) -> list[str]:
    """What sereno.run.claiming goes by; the declaration is for `sereno doctor` on other hosts."""
    if job.once_per == HOST:
        return []
    declaration = f"{settings.DECLARATION}={job.trigger.text} {job.function}"
    lines = [
        f"Environment={settings.ONCE_PER}={job.once_per} {settings.FLEET_APP}={job.app}",
        f"Environment={quote(declaration)}",
    ]
    if not job.sandboxed:
        return [*lines, f"Environment={settings.FLEET_URL_FILE}=%E/sereno/fleet.url"]
    return [
        *lines,
        "LoadCredential=sereno_fleet_url:/etc/sereno/fleet.url",
        f"Environment={settings.FLEET_URL_FILE}=%d/sereno_fleet_url",
    ]


def _limit_lines(job: Job) -> list[str]:
    limits = job.limits
    values = {
        "MemoryMax={}": limits.memory_max_bytes,
        "CPUQuota={}%": limits.cpu_quota_percent,
        "Nice={}": limits.nice,
        "IOSchedulingClass={}": limits.io_class,
    }
    return [setting.format(value) for setting, value in values.items() if value is not None]


def access_lines(job: Job) -> list[str]:
    """The `[Service]` lines that let a run out of the template's sandbox, as far as it needs."""
    access = job.access
    lines = []
    if not job.namespaces:
        lines += [*(f"{setting}=no" for setting in OF_NAMESPACES), "ProtectProc=default"]
    elif access.home is True:
        lines += ["ProtectHome=no", *(OPEN_HOMES if job.sandboxed else ())]
    elif job.sandboxed and job.finds_homes:
        lines += ["ProtectHome=read-only", *OPEN_HOMES]
    # "-": where it is missing the run begins, and fails with words of its own.
    lines += [f"ReadWritePaths={quote(f'-{path}')}" for path in access.write_paths]
    if access.network:
        # AF_NETLINK: the resolver asks the kernel for the machine's addresses.
        lines += [
            "PrivateNetwork=no",
            "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK",
            *(["IPAddressDeny="] if job.sandboxed else []),
        ]
    return lines


def ordering_lines(job: Job) -> list[str]:
    """The `[Unit]` lines by which a run waits for what must come before it: runs of other jobs that are under way or
    about to start, the file systems that its code is on, and the network."""
    lines = []
    if job.sandboxed and job.interpreter is not None:
        # A user's manager mounts nothing.
        start = job.inputs.working_directory
        paths = dict.fromkeys((job.interpreter, *job.import_paths, *([start] if start else [])))
        lines.append(f"RequiresMountsFor={' '.join(map(quote, paths))}")
    if job.after:
        lines.append(f"After={' '.join(map(service_name, job.after))}")
    if job.sandboxed and job.access.network:
        # A run that a boot makes up for would come before the network is up (systemd.special(7)). Wants=: where that
        # fails the run comes all the same. A user's manager has no such target.
        lines += ["Wants=network-online.target", "After=network-online.target"]
    return lines
