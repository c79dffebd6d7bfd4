"""A registration as people write it, made into a `Job`: spans, sizes and functions in, validated values out.

To add an option: its row and its text in `Options`, its field with its check in the value that the row names, and its
line in `sereno.units.service_text`. docs/jobs.md and sereno-jobs(5) are generated from the text.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, NamedTuple, TypedDict, TypeVar, Unpack

from sereno.declare import inputs
from sereno.declare.access import READ_ONLY, Access, namespaces_refused, paths
from sereno.declare.function import how_to_run, leads_into_a_home
from sereno.declare.inputs import Inputs
from sereno.declare.job import Job, ids_of
from sereno.declare.limits import Limits
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


class Options(TypedDict, total=False):
    """The options of a job, with their types and fields. The page docs/jobs.md has these texts.

    Spans of time are numbers of seconds, text such as "5min" or "1h30m", or a timedelta.
    """

    name: Annotated[str | None, Field(Job, "name", lambda _, given: given or "")]
    """One line for people. Default: the id."""
    max_instances: int
    """Only 1: two runs of a job never overlap."""
    timeout: Annotated[Span | None, Field(Job, "timeout_s", seconds)]
    """Limit of a whole run, with all of its tries and delays: at it the run is stopped. Default: one hour."""
    user: Annotated[str | None, Field(Job, "user")]
    """System user of the run, which has that user's own groups, and `sereno` for the shared cache; in the system scope
    alone. Default: `sereno`."""
    group: Annotated[str | None, Field(Job, "group")]
    """Primary group of the run, which its new files get; in the system scope alone. Default: the user's own."""
    umask: Annotated[str | None, Field(Inputs, "umask")]
    """What the run's new files are not to grant, as octal text. Default: `"0007"`."""
    working_directory: Annotated[_Path | None, Field(Inputs, "working_directory", inputs.path)]
    """Absolute path of the directory in which the run starts; where it is missing the run fails (status 200). Default:
    `/`."""
    network: Annotated[bool, Field(Access, "network")]
    """Whether the run may use the network; after a boot it waits until that is up (`network-online.target`), or given
    up. Default: `False`."""
    home: Annotated[bool | str, Field(Access, "home")]
    """Whether the run finds `/home`, `/root` and `/run/user`: `"read-only"`, or `True` to write there, as far as its
    user may. Default: `False`, which in the user scope is `"read-only"`."""
    write_paths: Annotated[_Path | Iterable[_Path], Field(Access, "write_paths", paths)]
    """Path of a file or directory, or several, that the run may write, as far as its user may. Default: the cache, and
    its own `/tmp`."""
    jitter: Annotated[Span, Field(Job, "jitter_s", seconds)]
    """Spread the runs of many machines over so much time, each machine by its own share: a calendar job, or `@reboot`,
    runs late by it, an interval's first run comes early. Default: 0."""
    persistent: Annotated[bool, Field(Job, "persistent")]
    """Of a calendar job: make up, once, for a run that was missed while the machine was off. Default: `True`."""
    accuracy: Annotated[Span | None, Field(Job, "accuracy_s", seconds)]
    """How late systemd may be, to save wake-ups. Default: 1 s, of an interval its hundredth at most."""
    misfire_grace: Annotated[Span | None, Field(Job, "misfire_grace_s", seconds)]
    """Of a calendar job: leave out, and record as skipped, a run that would start so late after its elapse, jitter and
    accuracy not counted; never one that somebody starts. Default: never."""
    kwargs: Annotated[Mapping[str, Any] | None, Field(Inputs, "kwargs_json", inputs.to_json)]
    """Keyword arguments of the function, of what JSON can hold; they stand in the unit file: no secrets. Default:
    none."""
    environment: Annotated[Mapping[str, str] | None, Field(Inputs, "environment", inputs.pairs)]
    """Variables, which everybody on the machine can read: no secrets. Default: none."""
    credentials: Annotated[Mapping[str, _Path] | None, Field(Inputs, "credentials", inputs.files)]
    """Files with secrets by name, `{"token": "/etc/shop/token"}`, which root alone need be able to read; the run reads
    one with `sereno.credential("token")`. Where one is missing the run fails (status 243). Default: none."""
    retries: Annotated[int, Field(Retry, "retries")]
    """Tries after a failed one; all are one run with one result. Default: 0."""
    retry_delay: Annotated[Span, Field(Retry, "delay_s", seconds)]
    """Time before the second try. Default: 10 s."""
    retry_backoff: Annotated[float, Field(Retry, "backoff")]
    """Factor by which each further delay is longer. Default: 2."""
    retry_delay_max: Annotated[Span, Field(Retry, "delay_max_s", seconds)]
    """What no delay exceeds. Default: `"15min"`."""
    memory_max: Annotated[int | str | None, Field(Limits, "memory_max_bytes", size_bytes)]
    """Bytes, or text such as `"512M"` (to the base of 1024): a run that needs more is killed. Default: none."""
    cpu_quota: Annotated[str | None, Field(Limits, "cpu_quota_percent", percent)]
    """Share of one processor: `"50%"`; `"200%"` is two processors. Default: none."""
    nice: Annotated[int | None, Field(Limits, "nice")]
    """Place in the queue for a processor, -20 (first) to 19; below 0 in the system scope alone. Default: systemd's."""
    io_class: Annotated[str | None, Field(Limits, "io_class")]
    """`"idle"`, `"best-effort"` or, in the system scope, `"realtime"` in the queue for the disk. Default: systemd's."""
    after: Annotated[str | Iterable[str], Field(Job, "after", ids_of)]
    """Id of another job, or several, of any application: a run waits for the end of theirs that are under way, or due
    at the same time, and starts none. Default: none."""
    only_if_success: Annotated[bool, Field(Job, "only_if_success")]
    """Skip a run unless the latest run of each job in `after=` succeeded, since boot, and was neither skipped nor
    stopped; never one that somebody starts. Default: `False`."""
    once_per: Annotated[str, Field(Job, "once_per")]
    """`"fleet"`: of all hosts that have the job, the one that claims an elapse first, in [a database that they
    share](many-hosts.md#a-few-hosts-and-a-database), runs it; needs `network=True`, and `timezone=` or an interval that
    divides a day. Default: `"host"`."""
    ping_url: Annotated[str | None, Field(Inputs, "ping_url")]
    """URL of a monitor's check, which everybody on the machine can read: each run tells it start, success and failure,
    and waits 8 s at most for it; needs `network=True`. Default: none."""
    ping_url_file: Annotated[str | None, Field(Inputs, "ping_url_file")]
    """Absolute path of a file with that URL, which root alone need be able to read. Default: none."""


class Registration(Options, total=False):
    """With those of its registration."""

    replace_existing: bool
    """`False`: refuse an id that is registered already. Default: `True`."""
    run_immediately: bool
    """Run once when the timer is first started or its schedule changes. Default: `False`."""


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

    Args:
        func: module-level function, plain or async, that can be called with `kwargs` and returns a dict of
            statistics or None. It is run by this interpreter in a process of its own.
        job_id: unique on the machine; a unit name must be able to hold it.
        user_scope: whether it is for a user's own manager.

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
