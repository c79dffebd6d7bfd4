"""Calls that do not fit, most of all APScheduler 3's: each of its arguments and methods, with what to write instead.

The page docs/from-apscheduler.md has the same words.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NoReturn, TypeVar, cast

from sereno.declare.options import Registration
from sereno.errors import InvalidJob, InvalidTrigger, UsageError, did_you_mean
from sereno.triggers.fields import DAY, WEEKDAY, or_star

PAGE = "docs/from-apscheduler.md"
# The answer: arguments with "=", and methods, that it is for.
_ANSWERS = {
    "`add_interval_job` or `add_cron_job`": "trigger=",
    "none: one run at a date is `systemd-run --on-calendar=` or `at`": "run_date=",
    "`job_id`, the second argument: required, and one on the whole machine": "id=",
    "`kwargs=`, by their names, of what JSON can hold": "args=",
    "`misfire_grace=`, of a calendar job; without it a late run is made up, however late": "misfire_grace_time=",
    "leave it away: what was missed is made up once; `persistent=False`: not at all": "coalesce=",
    "`run_immediately=True`: one run at once; `pause_job(id)` after `start()`: none": "next_run_time=",
    "leave it away: a schedule holds from `start()` to `remove_job(id)`; the function can look at the date": (
        "start_date= end_date= year= week="
    ),
    "leave it away: only a calendar job has a zone, each its own": "timezone=",
    "`add_cron_job` with `month=` and `day=`": "years= months=",
    "leave it away: systemd keeps the jobs": (
        "jobstore= jobstores= jobstore_retry_interval add_jobstore remove_jobstore import_jobs"
    ),
    "leave it away: each run is a process of its own": "executor= executors= add_executor remove_executor",
    "the arguments of each job": "job_defaults= gconfig= configure",
    "`pause_job(id)` for each job; it holds until `resume_job(id)`": "paused= pause",
    "`resume_job(id)` for each job, or `start()`": "resume",
    "leave it away: all of them are there, with `next_run` None before `start()`": "pending=",
    "a file that says who is told: `docs/notify.md`": "add_listener remove_listener",
    "a `register(scheduler)` that calls `add_interval_job` or `add_cron_job`": "scheduled_job",
    "register it again: the same id replaces it": "modify_job reschedule_job",
    "`get_job_status(id)`: a dict, or None": "get_job",
    "`get_jobs()`, or `list` of the command": "print_jobs",
    "`remove_job(id)` for each; or `start()` without them": "remove_all_jobs",
    "`is_running`": "running state",
    "`render()`: the unit files": "export_jobs",
    "leave it away: systemd keeps the time": "wakeup",
}
_NO_SUCH_TRIGGER = "none: two jobs, or a function that looks at the date"
# By name; that of an argument ends with "=".
ANSWERS = {name: answer for answer, names in _ANSWERS.items() for name in names.split()}
# Names that others have for an argument, where no letters tell which one is meant.
_MEANT = {
    **dict.fromkeys(("weekday", "dow"), "day_of_week"), **dict.fromkeys(("at", "time"), "hour"),
    **dict.fromkeys(("crontab", "schedule"), "cron_expression"), "tz": "timezone", "retry": "retries",
    **dict.fromkeys(("every", "interval", "period"), "minutes"),
}  # fmt: skip
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NTH = {"1st": "#1", "2nd": "#2", "3rd": "#3", "4th": "#4", "5th": "#5", "last": "L"}
_ADD_JOB = ("func", "trigger", "args", "kwargs", "id", "name", "misfire_grace_time", "coalesce",
            "max_instances", "next_run_time", "jobstore", "executor", "replace_existing")  # fmt: skip
_FIELDS = ("weeks", "days", "hours", "minutes", "seconds",
           "month", "day", "day_of_week", "hour", "minute", "second", "timezone", "jitter")  # fmt: skip
_Class = TypeVar("_Class", bound=type)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class NoSuchMethod(UsageError, AttributeError):
    """The scheduler has no such method; what to call instead is in the message."""


def answering(scheduler: _Class) -> _Class:
    """Make every use of the class that does not fit a `UsageError` that says what to write instead."""
    for name, method in list(vars(scheduler).items()):
        if inspect.isfunction(method) and (name == "__init__" or not name.startswith("_")):
            setattr(scheduler, name, answered(method))
    # Not in the class itself, where a type checker would take any name for a method.
    scheduler.__getattr__ = _no_method  # type: ignore[attr-defined]
    return scheduler


def _no_method(scheduler: object, name: str) -> NoReturn:
    said = ANSWERS.get(name)
    public = [each for each in dir(type(scheduler)) if not each.startswith("_")]
    hint = f"see {PAGE}" if said else did_you_mean(name, public)
    raise NoSuchMethod(f"scheduler: no {name!r}" + (f": {said}" if said else ""), hint=hint)


def answered(function: _Function) -> _Function:
    """Make a call that does not fit a `UsageError` in place of a TypeError; `**options` are those of `Registration`."""
    signature = inspect.signature(function)
    parameters = signature.parameters
    known = [name for name in parameters if name not in ("self", "options")]
    known += sorted(Registration.__optional_keys__) if "options" in parameters else ()

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        why, given = None, args["self" in parameters :]
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            why = str(error)
        theirs = function.__name__ == "add_job" and _is_theirs(given, kwargs)
        if why or theirs or not kwargs.keys() <= set(known):
            raise _refusal(function.__name__, given, kwargs, known, why)
        return function(*args, **kwargs)

    return cast(_Function, call)


def _is_theirs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of `add_job` is APScheduler's: (func, trigger, …) where sereno has (func, job_id, trigger)."""
    trigger = args[2] if len(args) > 2 else kwargs.get("trigger")
    is_ours = hasattr(trigger, "timer_lines") or (isinstance(trigger, str) and " " in trigger)
    return not is_ours and ("id" in kwargs or any(map(_is_their_trigger, (*args[1:2], trigger))))


def _is_their_trigger(value: object) -> bool:
    alias = isinstance(value, str) and value in ("interval", "cron", "date", "calendarinterval")
    return alias or _is_object_of_theirs(value)


def _is_object_of_theirs(value: object) -> bool:
    return type(value).__module__.startswith("apscheduler.")


def _refusal(
    method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], known: list[str], why: str | None
) -> UsageError:
    theirs = method == "add_job" and _is_theirs(args, kwargs)
    unknown = [name for name in kwargs if name not in known]
    said = unknown if not theirs else [name for name in unknown if name not in _FIELDS]
    lines = [f"{name}=: {ANSWERS.get(f'{name}=', f'no argument of {method}')}" for name in said]
    unheard = [_MEANT.get(name, name) for name in said if f"{name}=" not in ANSWERS]
    hint = next((did_you_mean(name, known) for name in unheard), None)
    if not method.startswith("add_"):
        about = "Scheduler" if method == "__init__" else method
        return UsageError(_joined(about, lines or [str(why)]), hint=hint)
    second = args[1] if len(args) > 1 else None
    positions = _ADD_JOB if theirs and ("id" in kwargs or _is_their_trigger(second)) else known
    given = {**dict(zip(positions, args, strict=False)), **kwargs}
    given["id"] = given.pop("job_id", None) or given.get("id")
    if method != "add_job":
        given["trigger"] = method.split("_")[1]
    elif theirs:
        lines.insert(0, f"trigger: {ANSWERS['trigger=']}")
    written, notes = _written(given, theirs=theirs)
    if written and (theirs or all(f"{name}=" in ANSWERS for name in unknown)):
        hint = f"{written}; what else differs: {PAGE}"
    about = f"job {given['id']}: {method}" if given["id"] else method
    return InvalidJob(_joined(about, [*lines, *notes] or [str(why)]), hint=hint)


def _joined(about: str, lines: list[str]) -> str:
    return f"{about}: {lines[0]}" if len(lines) == 1 else "\n    ".join((f"{about}:", *lines))


def _written(given: dict[str, Any], *, theirs: bool) -> tuple[str | None, list[str]]:
    """The call that says the same here, None where there is none, and what about it is another thing."""
    trigger, func, notes = given.get("trigger"), given.get("func"), list[str]()
    kind, taken = trigger, dict[str, Any]()
    if trigger is not None and _is_object_of_theirs(trigger):
        kind = type(trigger).__name__.removesuffix("Trigger").lower()
        taken = {one.name: str(one) for one in getattr(trigger, "fields", ()) if not one.is_default}
        if hasattr(trigger, "interval"):
            taken["seconds"] = round(trigger.interval.total_seconds())
        taken |= {name: getattr(trigger, name, None) for name in ("timezone", "jitter", "end_date")}
        left = [name for name in ("year", "week", "end_date") if taken.get(name)]
        notes += [f"{name}=: {ANSWERS[f'{name}=']}" for name in left]
    if kind not in ("interval", "cron"):
        if kind in ("calendarinterval", "and", "or"):
            notes.append(f"{kind}: {_NO_SUCH_TRIGGER}")
        elif func is not None and kind in ("date", None) and "run_date" not in given:
            notes.append(f"date: {ANSWERS['run_date=']}")
        return None, notes
    taken |= {name: value for name, value in given.items() if name not in _ADD_JOB}
    zone = taken.pop("timezone", None)
    if kind == "cron":
        notes += _in_crons_language(taken, theirs=theirs)
        taken.setdefault("misfire_grace", given.get("misfire_grace_time"))
    if given.get("max_instances", 1) != 1:
        notes.append("max_instances=: always 1; two runs of a job never overlap")
    if isinstance(func, str):
        notes.append(f"func: {func!r} is text: import it, and give the function itself")
    if func is None or taken.keys().isdisjoint((*_FIELDS[:-2], "cron_expression")):
        return None, notes
    named = given.get("kwargs") if isinstance(given.get("kwargs"), dict) else {}
    taken["kwargs"] = {**_named(func, given.get("args") or ()), **(named or {})} or None
    taken |= {"run_immediately": given.get("next_run_time") and True, "name": given.get("name")}
    taken = {name: value for name, value in taken.items() if f"{name}=" not in ANSWERS}
    taken["timezone"] = str(zone) if zone and kind == "cron" else None
    name = getattr(func, "__name__", str(func).rpartition(":")[2])
    words = [f"{field}={value!r}" for field, value in taken.items() if value is not None]
    call = ", ".join((name, repr(given["id"] or name), *words))
    return f"scheduler.add_{kind}_job({call})", notes


def _in_crons_language(taken: dict[str, Any], *, theirs: bool) -> list[str]:
    """Rewrite weekdays and days to mean the same in cron's language; return what cannot be."""
    weekday, notes = taken.get("day_of_week"), list[str]()
    if weekday is not None and theirs:
        taken["day_of_week"] = _weekdays(str(weekday))
    elif weekday is not None and _weekdays(str(weekday)) != weekday:
        notes.append(
            "day_of_week=: APScheduler counts from Monday, cron from Sunday: better write names"
        )
    for field in (DAY, WEEKDAY):
        with suppress(InvalidTrigger):
            if or_star(field, str(taken.get(field.name))) == "*":
                taken[field.name] = "*"
    day, weekday = taken.get("day"), taken.get("day_of_week")
    nth = re.fullmatch(r"(\w+) (\w{3})", str(day))
    if day == "last":
        taken["day"] = "L"
    elif nth and nth[1] in _NTH and weekday in (None, "*"):
        del taken["day"]
        taken["day_of_week"] = nth[2] + _NTH[nth[1]]
    elif {str(day), str(weekday)}.isdisjoint(("None", "*")):
        why = "APScheduler wants both to hold, cron either: ask for one in the function"
        notes.append(f"day=, day_of_week=: {why}")
    return notes


def _weekdays(text: str) -> str:
    """Their field of weekdays, in which 0 and the first of `*/2` is Monday, by names; text that is none as it is."""
    found: set[int] = set()
    for item in text.lower().split(","):
        span, _, step = item.partition("/")
        ends = ("0-6" if span == "*" else span).split("-")
        places = [_WEEKDAYS.index(end) if end in _WEEKDAYS else end for end in ends]
        if not all(str(place).isdigit() for place in (*places, step or 1)):
            return text
        found.update(range(int(places[0]), int(places[-1]) + 1, int(step or 1) or 1))
    days = [name for place, name in enumerate(_WEEKDAYS) if place in found]
    names = ",".join(days)
    # Cron's week begins on Sunday, so that no range of names ends there.
    in_a_row = len(days) > 2 and names in ",".join(_WEEKDAYS[:6])
    return f"{days[0]}-{days[-1]}" if in_a_row else names or text


def _named(func: Any, args: Iterable[Any]) -> dict[str, Any]:
    try:
        return dict(inspect.signature(func).bind_partial(*args).arguments)
    except (TypeError, ValueError):
        return {}
