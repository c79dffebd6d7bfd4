"""A registration as people write it, made into a `Job`: spans, sizes and functions in, validated values out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypedDict

from sereno.declare.access import READ_ONLY, access_of
from sereno.declare.function import how_to_run, leads_into_a_home
from sereno.declare.inputs import inputs_of
from sereno.declare.job import Job, ids_of
from sereno.declare.limits import Limits
from sereno.declare.namespaces import namespaces_refused
from sereno.declare.ping import Ping
from sereno.declare.quantities import Span, percent, seconds, size_bytes
from sereno.declare.retry import Retry
from sereno.errors import InvalidJob, UsageError
from sereno.triggers import Trigger

_RETRY = Retry()


class Options(TypedDict, total=False):
    """The options of a job, for type checkers and editors; `declare` says what they mean."""

    name: str | None
    max_instances: int
    timeout: Span | None
    user: str | None
    group: str | None
    umask: str | None
    working_directory: str | os.PathLike[str] | None
    network: bool
    home: bool | str
    write_paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
    jitter: Span
    persistent: bool
    accuracy: Span | None
    misfire_grace: Span | None
    kwargs: Mapping[str, Any] | None
    environment: Mapping[str, str] | None
    credentials: Mapping[str, str | os.PathLike[str]] | None
    retries: int
    retry_delay: Span
    retry_backoff: float
    retry_delay_max: Span
    memory_max: int | str | None
    cpu_quota: str | None
    nice: int | None
    io_class: str | None
    after: str | Iterable[str]
    only_if_success: bool
    ping_url: str | None
    ping_url_file: str | None


class Registration(Options, total=False):
    """With those of its registration, which `Scheduler.add_job` explains."""

    replace_existing: bool
    run_immediately: bool


@contextmanager
def refusals_name(job_id: str) -> Iterator[None]:
    """Let what is refused say of which job it is: an application registers many at once."""
    try:
        yield
    except UsageError as error:
        if not error.message.startswith("id: "):
            error.message = f"job {job_id}: {error.message}"
        raise


def declare(
    func: Callable[..., Any],
    job_id: str,
    trigger: Trigger,
    *,
    app: str,
    user_scope: bool,
    name: str | None = None,
    max_instances: int = 1,
    timeout: Span | None = None,
    user: str | None = None,
    group: str | None = None,
    umask: str | None = None,
    working_directory: str | os.PathLike[str] | None = None,
    network: bool = False,
    home: bool | str = False,
    write_paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    jitter: Span = 0,
    persistent: bool = True,
    accuracy: Span | None = None,
    misfire_grace: Span | None = None,
    kwargs: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    credentials: Mapping[str, str | os.PathLike[str]] | None = None,
    retries: int = 0,
    retry_delay: Span = _RETRY.delay_s,
    retry_backoff: float = _RETRY.backoff,
    retry_delay_max: Span = _RETRY.delay_max_s,
    memory_max: int | str | None = None,
    cpu_quota: str | None = None,
    nice: int | None = None,
    io_class: str | None = None,
    after: str | Iterable[str] = (),
    only_if_success: bool = False,
    ping_url: str | None = None,
    ping_url_file: str | None = None,
) -> Job:
    """The job that these arguments declare.

    Spans of time are numbers of seconds, text such as "5min" or "1h30m", or a timedelta.

    Args:
        func: module-level function, plain or async, that can be called with `kwargs` and returns a dict of
            statistics or None. It is run by this interpreter in a process of its own.
        job_id: unique on the machine; a unit name must be able to hold it.
        app: the application that it belongs to.
        user_scope: whether it is for a user's own manager.
        name: one line for people; default: the id.
        max_instances: only 1; two runs of a job never overlap.
        timeout: limit of a whole run, with all of its tries and delays; default: the template's (one hour). At the
            limit the run gets SIGTERM, as when it is stopped: an async function is cancelled, a plain one gets
            `sereno.errors.RunInterrupted`; ten seconds later it is killed.
        user: system user of the run, which has that user's own groups, and sereno's for the shared cache; default: the
            template's (sereno). Only in the system scope. One that this machine does not have is refused when the job
            is installed.
        group: primary group of the run, which its new files get; default: the user's own. As with `user`.
        umask: what the run's new files are not to grant, as octal text: "0027"; default: the template's ("0007").
        working_directory: absolute path of the directory in which the run starts; default: the root directory. If it is
            missing when a run starts, the run fails (status 200).
        network: whether the run may use the network; the sandbox has none. In the system scope, after a boot, such
            a run waits for network-online.target.
        home: whether the run finds /home, /root and /run/user: False, "read-only" or True; in the user scope False
            is "read-only". What its user may read and write there is another matter.
        write_paths: path of a file or directory, or several, that the run may write, as far as its user may; the
            sandbox lets it write its own /tmp and the cache alone.
        jitter: spread the runs of many machines over so many seconds; each machine keeps its own share of it. A
            calendar job runs late by it; an interval's first run comes early by it and its length stays.
        persistent: whether a calendar run that was missed while the machine was off is made up, once, at boot.
        accuracy: seconds by which systemd may be late to save wake-ups; default: 1, and for an interval at most a
            hundredth of it.
        misfire_grace: seconds after its elapse, jitter and accuracy not counted, from which a calendar run is left
            out and recorded as skipped; default: never. A run by hand is never left out.
        kwargs: keyword arguments of `func`, of what JSON can hold. They are seen in the unit file: no secrets.
        environment: variables of the run. Everybody on the machine can read them: no secrets.
        credentials: name → absolute path of a file with a secret, which may be readable by root alone. A run reads
            it by `sereno.credential(name)`, or as the file $CREDENTIALS_DIRECTORY/name. A file that is missing when
            a run starts fails the run (status 243).
        retries: how often a run tries again after a failed try. All tries are one run with one result. A job that
            keeps failing ends each of its runs as failed, after its tries, and its next elapse starts afresh.
        retry_delay: span before the second try.
        retry_backoff: factor by which each further delay is longer.
        retry_delay_max: what no delay exceeds.
        memory_max: bytes, or text such as "512M" (to the base of 1024); a run that needs more is killed.
        cpu_quota: share of one processor as text, "50%"; "200%" is two processors.
        nice: -20 (first) to 19 (last) in the queue for a processor; below 0 only in the system scope.
        io_class: "idle", "best-effort" or, in the system scope, "realtime" in the queue for the disk.
        after: id of another job, or several, of any application: a run waits for the end of theirs that are under
            way or start at the same time. It starts no job by itself.
        only_if_success: leave a run out, and record it as skipped, unless the latest run of each job in `after`
            succeeded. What counts is what systemd remembers: after a reboot they must have run first, and a run
            that was itself skipped or stopped is no success. A run by hand is never left out.
        ping_url: URL of a monitor's check: the run tells it its start, success and failure, as healthchecks.io
            defines it. It needs `network`, and never harms the run: a monitor that does not answer delays its end
            by 8 s at most. Everybody on the machine can read it in the unit.
        ping_url_file: absolute path of a file with that URL, which only root need be able to read.

    Raises:
        InvalidJob: an argument that another process or systemd could not use. That the jobs in `after` exist and make
            no circle is checked when the job is installed.
    """
    if max_instances != 1 or isinstance(max_instances, bool):
        raise InvalidJob(f"max_instances: {max_instances!r} is not 1; runs of a job never overlap")
    for field, value in (("user", user), ("group", group)):
        if value is not None and user_scope:
            raise InvalidJob(
                f"{field}: {value!r} cannot be given in the user scope, whose jobs run as yourself"
            )
    limits = Limits(
        memory_max_bytes=None if memory_max is None else size_bytes("memory_max", memory_max),
        cpu_quota_percent=None if cpu_quota is None else percent("cpu_quota", cpu_quota),
        nice=nice,
        io_class=io_class,
    )
    if user_scope:
        limits.check_for_user()
    inputs = inputs_of(kwargs, environment, credentials, umask, working_directory)
    function, interpreter, import_paths = how_to_run(func, kwargs or ())
    access = access_of(network, home, write_paths)
    if not access.home and leads_into_a_home(interpreter, *import_paths):
        access = replace(access, home=READ_ONLY)
    return Job(
        id=job_id,
        function=function,
        trigger=trigger,
        app=app,
        name=name or "",
        timeout_s=seconds("timeout", timeout),
        user=user,
        group=group,
        access=access,
        sandboxed=not user_scope,
        namespaces=not (user_scope and namespaces_refused()),
        interpreter=interpreter,
        import_paths=import_paths,
        jitter_s=seconds("jitter", jitter),
        persistent=persistent,
        accuracy_s=seconds("accuracy", accuracy),
        misfire_grace_s=seconds("misfire_grace", misfire_grace),
        retry=Retry(
            retries,
            seconds("retry_delay", retry_delay),
            retry_backoff,
            seconds("retry_delay_max", retry_delay_max),
        ),
        limits=limits,
        inputs=inputs,
        after=ids_of("after", after),
        only_if_success=only_if_success,
        ping=Ping(ping_url, ping_url_file),
    )
