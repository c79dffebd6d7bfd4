"""Jobs as CronJobs of Kubernetes: the second renderer of `Job`, beside the units. Pure.

The cluster's controller is the scheduler then, and the pod the sandbox. What has no equivalent there is refused, and
what differs is said: a manifest that is quietly another schedule would be found out in the autumn.
"""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from hashlib import sha256
from typing import Any, NamedTuple

from sereno import setting_names
from sereno.declare.access import READ_ONLY
from sereno.declare.job import Job
from sereno.declare.limits import TEMPLATE_TIMEOUT_S
from sereno.errors import InvalidJob, InvalidTrigger, UsageError
from sereno.export.cron_text import CronText, cron_text

CREDENTIALS = "/run/sereno/credentials"
# The controller appends "-" and the minute of the elapse to make a Job's name, which has at most 63 characters.
MOST_NAME_CHARACTERS = 52
# A pod that never starts, for want of its image or of a node, ends so long after its time limit: under Forbid it would
# keep away all further ones.
STARTING_S = 600
# There were controllers that started nothing once more than 100 elapses had been missed within the deadline.
_MOST_MISSED = 99
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")


class Exported(NamedTuple):
    """What was made of jobs.

    Attributes:
        manifests: a `List` with one CronJob for each, and a NetworkPolicy where one has no network.
        secrets: one kubectl command for each job with credentials; it has the paths of files, and no secret.
        warnings: what is different there, a line each.
    """

    manifests: dict[str, Any]
    secrets: list[str]
    warnings: list[str]


def export(
    jobs: Iterable[Job], image: str, zone: str, *, namespace: str | None = None,
    code_in_home: Collection[str] = (),
) -> Exported:  # fmt: skip
    """The manifests of an application's jobs.

    Args:
        jobs: one or more.
        image: name of the image, whose python3 finds sereno and the functions.
        zone: in which schedules count that name none: a controller would take its own.
        namespace: default: kubectl's own.
        code_in_home: ids of jobs that find homes only because this machine has their code in one.

    Raises:
        UsageError: the image or the namespace is no name.
        InvalidJob: options that have no equivalent, all of them with their jobs.
    """
    if not _IMAGE.fullmatch(image):
        raise UsageError(f"image: {image!r} is not the name of one", hint="as registry/shop:1.4")
    if namespace is not None and not _NAMESPACE.fullmatch(namespace):
        raise UsageError(
            f"namespace: {namespace!r} is not the name of one", hint="1 to 63 of a-z, 0-9 and '-'"
        )
    jobs = sorted(jobs, key=lambda job: job.id)
    schedules: dict[str, CronText] = {}
    refused = []
    for job in jobs:
        faults = _faults(job, job.id in code_in_home)
        try:
            schedules[job.id] = cron_text(job.trigger, zone)
        except InvalidTrigger as error:
            faults.append(f"{error.message}; {error.hint}")
        refused += [f"\n  job {job.id}: {fault}" for fault in faults]
    if refused:
        raise InvalidJob(
            f"Kubernetes has no equivalent, and nothing was written:{''.join(refused)}",
            hint="such a job can stay on a host with systemd",
        )
    names = _names(job.id for job in jobs)
    (app,) = _names({job.app for job in jobs}).values()
    metadata = {
        **({} if namespace is None else {"namespace": namespace}),
        "labels": {"app.kubernetes.io/managed-by": "sereno", "app.kubernetes.io/part-of": app},
    }
    items = [
        _cron_job(job, schedules[job.id], {**metadata, "name": names[job.id]}, image)
        for job in jobs
    ]
    if not all(job.access.network for job in jobs):
        items.append(_policy({**metadata, "name": f"{app}-no-network"}))
    return Exported(
        {"apiVersion": "v1", "kind": "List", "items": items},
        [_kubectl(job, names[job.id], namespace) for job in jobs if _secret_files(job)],
        _warnings(jobs, schedules),
    )


def _faults(job: Job, code_in_home: bool) -> list[str]:
    """What of a job a pod cannot be told: field, reason and way out."""
    access, home = job.access, job.access.home
    faults = {
        "after: CronJobs know nothing of each other; call the functions in their order in one job": job.after,
        "write_paths: they are of this machine; a database, an object store, or /tmp while it runs": access.write_paths,
        "home: a pod has none; put what it reads into the image": home is True
        or (home == READ_ONLY and not code_in_home),
        "umask: a pod has no such setting; os.umask() in the function": job.inputs.umask,
    }
    for field, account in (("user", job.user), ("group", job.group)):
        # The API takes what an int32 holds.
        known = account is None or (account.isdigit() and int(account) < 1 << 31)
        fault = f"{field}: {account!r} is this machine's name; give its number in the image"
        faults[fault] = not known
    return [fault for fault, is_so in faults.items() if is_so]


def _names(ids: Iterable[str]) -> dict[str, str]:
    """A name of DNS-1123 for each id, at most 52 characters long.

    With a hash where it would be longer, or another's too; or might be taken for one with a hash.
    """
    plain = {each: re.sub(r"[^a-z0-9]+", "-", each.lower()).strip("-") for each in ids}
    times = Counter(plain.values())
    names = {}
    for each, name in plain.items():
        fits = 0 < len(name) <= MOST_NAME_CHARACTERS
        if times[name] > 1 or not fits or re.search(r"-[0-9a-f]{8}$", name):
            stem = name[: MOST_NAME_CHARACTERS - 9].rstrip("-") or "job"
            name = f"{stem}-{sha256(each.encode()).hexdigest()[:8]}"
        names[each] = name
    return names


def _cron_job(job: Job, schedule: CronText, metadata: dict[str, Any], image: str) -> dict[str, Any]:
    timeout_s = math.ceil(TEMPLATE_TIMEOUT_S if job.timeout_s is None else job.timeout_s)
    described = {"sereno/job": job.id, "sereno/name": job.name, "sereno/trigger": job.trigger.text}
    labels = {"labels": metadata["labels"] if job.access.network else _without_network(metadata)}
    template = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": timeout_s + STARTING_S,
        # Not while the one before is still ending.
        "podReplacementPolicy": "Failed",
        "template": {"metadata": labels, "spec": _pod(job, metadata["name"], image, timeout_s)},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {**metadata, "annotations": described},
        "spec": {
            "schedule": schedule.text,
            "timeZone": schedule.zone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": _starting_deadline_s(job, schedule),
            "jobTemplate": {"metadata": labels, "spec": template},
        },
    }


def _policy(metadata: dict[str, Any]) -> dict[str, Any]:
    chosen = {"matchLabels": _without_network(metadata)}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {"podSelector": chosen, "policyTypes": ["Ingress", "Egress"]},
    }


def _without_network(metadata: dict[str, Any]) -> dict[str, str]:
    return {**metadata["labels"], "sereno/network": "none"}


def _starting_deadline_s(job: Job, schedule: CronText) -> int:
    if job.misfire_grace_s is not None:
        # The controller looks every ten seconds.
        return max(10, math.ceil(job.misfire_grace_s))
    if not job.persistent:
        return 60
    return 86_400 if schedule.most_a_day <= _MOST_MISSED else 60 * _MOST_MISSED


def _pod(job: Job, name: str, image: str, timeout_s: int) -> dict[str, Any]:
    owner = job.group or job.user
    ids = {"runAsUser": job.user, "runAsGroup": job.group, "fsGroup": owner}
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    if _secret_files(job):
        # Only this container mounts it. As whom the image runs is not known without user=.
        secret = {"secretName": name, "defaultMode": 0o444 if owner is None else 0o440}
        mounts.append({"name": "credentials", "mountPath": CREDENTIALS, "readOnly": True})
        volumes.append({"name": "credentials", "secret": secret})
    container = {
        "name": "job",
        "image": image,
        "command": ["python3", "-m", "sereno.runner", job.id, job.function],
        "env": _environment(job),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    limits = {
        "memory": job.limits.memory_max_bytes and str(job.limits.memory_max_bytes),
        "cpu": job.limits.cpu_quota_percent and f"{10 * job.limits.cpu_quota_percent}m",
    }
    if any(limits.values()):
        container["resources"] = {"limits": {name: most for name, most in limits.items() if most}}
    if job.inputs.working_directory is not None:
        container["workingDir"] = job.inputs.working_directory
    return {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": timeout_s,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": job.user is None or int(job.user) > 0,
            **{field: int(number) for field, number in ids.items() if number is not None},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }


def _environment(job: Job) -> list[dict[str, Any]]:
    values = {
        setting_names.LOG: "json",
        setting_names.EXIT_SKIPPED: 0,
        setting_names.INTERVAL_S: job.interval_s,
        setting_names.MISFIRE_GRACE_S: job.misfire_grace_s,
        setting_names.KWARGS: job.inputs.kwargs_json or None,
        setting_names.PING_URL: job.inputs.ping_url,
        setting_names.PING_URL_FILE: job.inputs.ping_url_file and f"{CREDENTIALS}/sereno_ping_url",
        "CREDENTIALS_DIRECTORY": CREDENTIALS if _secret_files(job) else None,
        **job.retry.environment(),
        **dict(job.inputs.environment),
    }
    of_pod = {
        setting_names.RUN_ID: "metadata.uid",
        setting_names.ELAPSE: "metadata.labels['batch.kubernetes.io/job-name']",
    }
    # "$(NAME)" would be replaced, and "$$" stands for "$".
    told = {
        name: str(value).replace("$", "$$") for name, value in values.items() if value is not None
    }
    fields = {name: {"fieldRef": {"fieldPath": path}} for name, path in of_pod.items()}
    found: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in told.items()]
    return found + [{"name": name, "valueFrom": field} for name, field in fields.items()]


def _secret_files(job: Job) -> dict[str, str]:
    """The keys of a job's Secret, and the file of each on a host."""
    files = dict(job.inputs.credentials)
    if job.inputs.ping_url_file is not None:
        files["sereno_ping_url"] = job.inputs.ping_url_file
    return files


def _kubectl(job: Job, name: str, namespace: str | None) -> str:
    files = (f"--from-file={key}={path}" for key, path in _secret_files(job).items())
    place = [f"--namespace={namespace}"] if namespace else []
    return shlex.join(["kubectl", "create", "secret", "generic", name, *place, *files])


def _warnings(jobs: Collection[Job], schedules: dict[str, CronText]) -> list[str]:
    told: defaultdict[str, list[str]] = defaultdict(list)
    for job in jobs:
        _, zone, is_local, _, twice, is_misread = schedules[job.id]
        differs = {
            f"two runs at {twice} on the day on which the clocks of {zone} go back; systemd has one": twice,
            f"a run may be left out, or be a day wrong, when the clocks of {zone} change": is_misread,
            "counts from midnight UTC, and not from the run before": job.interval_s,
            f"counts in {zone}, for want of a timezone of its own": is_local,
            "has no network only where the cluster's network plugin heeds a NetworkPolicy": not job.access.network,
            "jitter is left out: a CronJob has none": job.jitter_s,
            "accuracy is left out: the controller has its own": job.accuracy_s,
            "nice is left out: cpu_quota is what a pod has": job.limits.nice,
            "io_class is left out: a pod has none": job.limits.io_class,
        }
        for text, is_so in differs.items():
            if is_so:
                told[text].append(job.id)
    return [f"{', '.join(ids)}: {text}" for text, ids in told.items()]
