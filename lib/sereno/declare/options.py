"""A registration as people write it, made into a `Job`: spans, sizes and functions in, validated values out.

To add an option: its row in `Options` and its words in `declare`, its field with its check in the value that the row
names, and its line in `sereno.units.service_text`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, NamedTuple, TypedDict, TypeVar, Unpack

from sereno.declare import inputs
from sereno.declare.access import READ_ONLY, Access, paths
from sereno.declare.function import how_to_run, leads_into_a_home
from sereno.declare.inputs import Inputs
from sereno.declare.job import Job, ids_of
from sereno.declare.limits import Limits
from sereno.declare.namespaces import namespaces_refused
from sereno.declare.ping import Ping
from sereno.declare.quantities import Span, percent, seconds, size_bytes
from sereno.declare.retry import Retry
from sereno.errors import InvalidJob, UsageError
from sereno.triggers import Trigger

_Path = str | os.PathLike[str]
_Part = TypeVar("_Part")


class Field(NamedTuple):
    """Where an option's value goes: to a field of `part`, as `read` makes it of the option's name and what is given."""

    part: type
    name: str
    read: Callable[[str, Any], Any] = lambda _, given: given


def _share(option: str, given: str | None) -> int | None:
    return None if given is None else percent(option, given)


class Options(TypedDict, total=False):
    """The options of a job with their types and fields; `declare` says what they mean."""

    name: Annotated[str | None, Field(Job, "name", lambda _, given: given or "")]
    max_instances: int
    timeout: Annotated[Span | None, Field(Job, "timeout_s", seconds)]
    user: Annotated[str | None, Field(Job, "user")]
    group: Annotated[str | None, Field(Job, "group")]
    umask: Annotated[str | None, Field(Inputs, "umask")]
    working_directory: Annotated[_Path | None, Field(Inputs, "working_directory", inputs.path)]
    network: Annotated[bool, Field(Access, "network")]
    home: Annotated[bool | str, Field(Access, "home")]
    write_paths: Annotated[_Path | Iterable[_Path], Field(Access, "write_paths", paths)]
    jitter: Annotated[Span, Field(Job, "jitter_s", seconds)]
    persistent: Annotated[bool, Field(Job, "persistent")]
    accuracy: Annotated[Span | None, Field(Job, "accuracy_s", seconds)]
    misfire_grace: Annotated[Span | None, Field(Job, "misfire_grace_s", seconds)]
    kwargs: Annotated[Mapping[str, Any] | None, Field(Inputs, "kwargs_json", inputs.to_json)]
    environment: Annotated[Mapping[str, str] | None, Field(Inputs, "environment", inputs.pairs)]
    credentials: Annotated[Mapping[str, _Path] | None, Field(Inputs, "credentials", inputs.files)]
    retries: Annotated[int, Field(Retry, "retries")]
    retry_delay: Annotated[Span, Field(Retry, "delay_s", seconds)]
    retry_backoff: Annotated[float, Field(Retry, "backoff")]
    retry_delay_max: Annotated[Span, Field(Retry, "delay_max_s", seconds)]
    memory_max: Annotated[int | str | None, Field(Limits, "memory_max_bytes", size_bytes)]
    cpu_quota: Annotated[str | None, Field(Limits, "cpu_quota_percent", _share)]
    nice: Annotated[int | None, Field(Limits, "nice")]
    io_class: Annotated[str | None, Field(Limits, "io_class")]
    after: Annotated[str | Iterable[str], Field(Job, "after", ids_of)]
    only_if_success: Annotated[bool, Field(Job, "only_if_success")]
    ping_url: Annotated[str | None, Field(Ping, "url")]
    ping_url_file: Annotated[str | None, Field(Ping, "file")]


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
    **options: Unpack[Options],
) -> Job:
    """The job that these arguments declare.

    Spans of time are numbers of seconds, text such as "5min" or "1h30m", or a timedelta.

    Args:
        func: module-level function, plain or async, that can be called with `kwargs` and returns a dict of
            statistics or None. It is run by this interpreter in a process of its own.
        job_id: unique on the machine; a unit name must be able to hold it.
        app: the application that it belongs to.
        user_scope: whether it is for a user's own manager.
        options: those that follow.
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
    number = options.get("max_instances", 1)
    if number != 1 or isinstance(number, bool):
        raise InvalidJob(f"max_instances: {number!r} is not 1; runs of a job never overlap")
    for field in ("user", "group"):
        if user_scope and options.get(field) is not None:
            raise InvalidJob(
                f"{field}: {options[field]!r} cannot be given in the user scope, whose jobs run as yourself"
            )
    limits = part(Limits, options)
    if user_scope:
        limits.check_for_user()
    given = part(Inputs, options)
    function, interpreter, import_paths = how_to_run(func, given.kwargs)
    access = part(Access, options)
    if not access.home and leads_into_a_home(interpreter, *import_paths):
        access = replace(access, home=READ_ONLY)
    return Job(
        id=job_id,
        function=function,
        trigger=trigger,
        app=app,
        access=access,
        sandboxed=not user_scope,
        namespaces=not (user_scope and namespaces_refused()),
        interpreter=interpreter,
        import_paths=import_paths,
        retry=part(Retry, options),
        limits=limits,
        inputs=given,
        ping=part(Ping, options),
        **_fields(Job, options),
    )


def part(kind: type[_Part], options: Options) -> _Part:
    """The part of a job, such as its `Limits`, that these options give."""
    return kind(**_fields(kind, options))


def _fields(kind: type, options: Options) -> dict[str, Any]:
    found = {}
    for name, given in options.items():
        (field,) = getattr(Options.__annotations__[name], "__metadata__", (None,))
        if field is not None and field.part is kind:
            found[field.name] = field.read(name, given)
    return found
