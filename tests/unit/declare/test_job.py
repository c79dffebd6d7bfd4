"""A job that another process could not run is refused when it is added, and the message says what to do."""

import functools
import sys
import types
from pathlib import Path

import pytest

from sereno.declare.access import Access
from sereno.declare.function import function_reference, how_to_run, import_root, leads_into_a_home
from sereno.declare.inputs import Inputs
from sereno.declare.job import Job
from sereno.errors import InvalidJob, UsageError
from sereno.triggers import BootTrigger, CronTrigger, GridTrigger, IntervalTrigger

EVERY_HOUR = IntervalTrigger(hours=1)


def report() -> dict[str, int]:
    return {}


def report_with_default(limit: int = 3, *args: int, **kwargs: int) -> None:
    return None


async def report_async() -> None:
    return None


def needs_argument(limit: int) -> None:
    return None


class Reports:
    @staticmethod
    def build() -> None:
        return None

    def __call__(self) -> None:
        return None


@pytest.mark.parametrize("function", [report, report_async, report_with_default])
def test_a_module_level_function_is_named_by_module_and_name(function) -> None:
    reference, module = function_reference(function)
    assert reference == f"{__name__}:{function.__name__}"
    assert module is sys.modules[__name__]


def nested():
    def inner() -> None:
        return None

    return inner


def lying() -> None:
    return None


lying.__qualname__ = "report"


def from_main() -> None:
    return None


from_main.__module__ = "__main__"


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda: None, "lambda"),
        (nested(), "defined inside 'nested'"),
        (Reports.build, "defined inside 'Reports'"),
        (Reports(), "is not a function"),
        (Reports().__call__, "is not a function"),
        (functools.partial(needs_argument, 3), "is not a function"),
        (print, "is not a function"),
        ("shop.jobs:sync", "is text"),
        (None, "is not a function"),
        (needs_argument, "missing a required argument: 'limit'"),
        (lying, "no function 'report' that is this one"),
        (from_main, "script that was started"),
    ],
)
def test_what_another_process_cannot_import_is_refused_with_the_reason(function, says) -> None:
    with pytest.raises(InvalidJob, match=r"^func: ") as refusal:
        function_reference(function)
    assert says in refusal.value.message
    assert refusal.value.hint


def keyword_only(*, limit: int, text: str = "") -> None:
    return None


def positional_only(limit: int, /) -> None:
    return None


@pytest.mark.parametrize(
    ("function", "kwargs"),
    [
        (needs_argument, {"limit"}),
        (keyword_only, {"limit"}),
        (keyword_only, {"limit", "text"}),
        (report_with_default, {"anything"}),
    ],
)
def test_arguments_that_a_function_takes_are_taken(function, kwargs) -> None:
    assert function_reference(function, kwargs)[0].endswith(f":{function.__name__}")


@pytest.mark.parametrize(
    ("function", "kwargs", "says"),
    [
        (report, {"limit"}, "unexpected keyword argument 'limit'"),
        (keyword_only, {"text"}, "'limit'"),
        (keyword_only, {"limit", "x"}, "unexpected keyword argument 'x'"),
        (positional_only, {"limit"}, "'limit'"),
    ],
)
def test_arguments_that_a_function_does_not_take_are_refused(function, kwargs, says) -> None:
    with pytest.raises(InvalidJob) as refusal:
        function_reference(function, kwargs)
    assert refusal.value.message.startswith(f"kwargs: test_job.{function.__name__} ")
    assert says in refusal.value.message
    assert refusal.value.hint


@pytest.mark.parametrize(
    "job_id", ["", "a b", "a/b", "../x", "-x", ".x", "ñ", "a@b", "a\nb", "a%b", "x" * 201, None, 3]
)
def test_an_id_that_a_unit_name_cannot_hold_is_refused(job_id) -> None:
    with pytest.raises(InvalidJob, match=r"^id: ") as refusal:
        Job(job_id, "m:f", EVERY_HOUR)
    assert repr(job_id) in refusal.value.message


@pytest.mark.parametrize("job_id", ["a", "cache_cleanup_hourly", "a-b.c_d", "0", "x" * 200])
def test_an_id_of_plain_characters_is_taken(job_id) -> None:
    assert Job(job_id, "m:f", EVERY_HOUR).name == job_id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("app", "my app"),
        ("name", "two\nlines"),
        ("name", "joins the next line\\"),
        ("name", "bell\x07"),
        ("timeout_s", 0),
        ("timeout_s", -1),
        ("timeout_s", float("nan")),
        ("timeout_s", True),
        ("timeout_s", "5"),
        ("timeout_s", 1e9),
        ("user", "Root User"),
        ("user", "-x"),
        ("interpreter", "python3"),
        ("import_paths", ("/a:b",)),
    ],
)
def test_a_value_that_a_unit_cannot_hold_is_refused_by_name(field, value) -> None:
    with pytest.raises(InvalidJob) as refusal:
        Job("x", "m:f", EVERY_HOUR, **{field: value})
    shown = value[0] if isinstance(value, tuple) else value
    assert repr(shown) in refusal.value.message


NIGHTLY = CronTrigger.from_expression("0 3 * * *")


@pytest.mark.parametrize("value", [True, "5", None, -1, float("nan"), float("inf"), 1e9])
@pytest.mark.parametrize("trigger", [EVERY_HOUR, NIGHTLY])
@pytest.mark.parametrize("field", ["jitter_s", "accuracy_s", "misfire_grace_s"])
def test_seconds_that_a_timer_cannot_hold_are_refused_by_name(field, trigger, value) -> None:
    if value is None and field != "jitter_s":
        return
    with pytest.raises(InvalidJob, match=f"^{field.removesuffix('_s')}: {value!r} ") as refusal:
        Job("x", "m:f", trigger, **{field: value})
    assert "seconds" in refusal.value.message or "range" in refusal.value.message


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"jitter_s": 3600}, "jitter: 3600 s is not less than the interval, 3600 s"),
        ({"accuracy_s": 3601}, "accuracy: 3601 s is not in the range 0.000001 to 3600 s"),
        ({"accuracy_s": 0}, "accuracy: 0 s is not in the range 0.000001 to 3600 s"),
        ({"persistent": False}, "persistent: an interval is kept over a reboot"),
        ({"misfire_grace_s": 60}, "misfire_grace: an interval counts from its last run"),
        ({"persistent": 1}, "persistent: 1 is neither True nor False"),
    ],
)
def test_what_makes_no_sense_for_an_interval_is_refused_by_name(fields, says) -> None:
    with pytest.raises(InvalidJob) as refusal:
        Job("x", "m:f", EVERY_HOUR, **fields)
    assert refusal.value.message.startswith(says)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"persistent": False}, "persistent: @reboot has a run after each boot"),
        ({"misfire_grace_s": 60}, "misfire_grace: a run of @reboot has no time"),
    ],
)
def test_what_makes_no_sense_for_a_job_of_each_boot_is_refused_by_name(fields, says) -> None:
    with pytest.raises(InvalidJob) as refusal:
        Job("x", "m:f", BootTrigger(), **fields)
    assert refusal.value.message.startswith(says)
    assert Job("x", "m:f", BootTrigger(), jitter_s=7200, accuracy_s=5).at_boot


def test_a_calendar_job_may_be_spread_not_persistent_and_as_exact_as_systemd() -> None:
    job = Job("x", "m:f", NIGHTLY, jitter_s=7200, persistent=False, accuracy_s=1e-6)
    assert (job.jitter_s, job.persistent, job.accuracy_s) == (7200, False, 1e-6)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"ping_url": "hc-ping.com/abc"}, "ping_url: 'hc-ping.com/abc' is not an http or https URL"),
        ({"ping_url": "https://h/a b"}, "ping_url: 'https://h/a b' is not"),
        ({"ping_url": "https://h/\r\nX: y"}, "ping_url: "),
        ({"ping_url": "https:///abc"}, "ping_url: "),
        ({"ping_url": 3}, "ping_url: 3 is not"),
        ({"ping_url_file": "etc/ping"}, "ping_url_file: 'etc/ping' is not the path of a file"),
        ({"ping_url_file": "/etc/ping\\"}, "ping_url_file: "),
        ({"ping_url_file": "/etc/../ping"}, "ping_url_file: '/etc/../ping' is not"),
        ({"ping_url": "https://h/a", "ping_url_file": "/f"}, "given together with ping_url_file"),
    ],
)  # fmt: skip
def test_a_monitor_that_a_run_could_not_call_is_refused_by_name(fields, says) -> None:
    with pytest.raises(InvalidJob) as error:
        Inputs(**fields)
    assert says in error.value.message


def test_a_monitor_needs_the_network_in_either_scope() -> None:
    trigger = CronTrigger.from_expression("0 3 * * *")
    for sandboxed in (True, False):
        with pytest.raises(InvalidJob, match="ping_url: the run itself calls the monitor"):
            Job("j", "m:f", trigger, inputs=Inputs(ping_url="https://h/a"), sandboxed=sandboxed)
    Job("j", "m:f", trigger, inputs=Inputs(ping_url="https://h/a"), access=Access(network=True))


@pytest.mark.parametrize(
    ("trigger", "options", "says"),
    [
        (CronTrigger.from_fields(hour=3), {}, "once_per: timezone= is needed"),
        (BootTrigger(), {}, "once_per: @reboot is a run of each host"),
        (IntervalTrigger(minutes=7), {}, "a day is no multiple of 7min"),
        (EVERY_HOUR, {"after": ("other",)}, "once_per: after= asks this host"),
        (EVERY_HOUR, {"access": Access()}, "once_per: the run itself asks a database"),
        (EVERY_HOUR, {"once_per": "cluster"}, "once_per: 'cluster' is neither 'host' nor 'fleet'"),
        (EVERY_HOUR, {"once_per": None}, "once_per: None is neither"),
    ],
)  # fmt: skip
def test_what_hosts_cannot_share_is_refused_by_name(trigger, options, says) -> None:
    with pytest.raises(UsageError) as error:
        Job("j", "m:f", trigger, **{"once_per": "fleet", "access": Access(network=True), **options})
    assert says in error.value.message


def test_an_interval_of_a_fleet_is_a_calendar_job_and_what_such_a_job_may_have_it_may() -> None:
    shared = {"once_per": "fleet", "access": Access(network=True)}
    job = Job("j", "m:f", EVERY_HOUR, misfire_grace_s=60, persistent=False, jitter_s=7200, **shared)
    assert (job.trigger, job.interval_s) == (GridTrigger(3600), None)
    assert Job("j", "m:f", CronTrigger.from_fields(hour=3, timezone="UTC"), **shared)


def test_a_cache_server_on_the_network_needs_it_and_its_password_stands_in_no_unit() -> None:
    trigger = IntervalTrigger(hours=1)

    def job(url: str, **access: bool) -> Job:
        inputs = Inputs(environment=(("SERENO_CACHE_URL", url),))
        return Job("j", "m:f", trigger, inputs=inputs, access=Access(**access))

    with pytest.raises(InvalidJob, match="SERENO_CACHE_URL names a server") as refused:
        job("valkey://h")
    assert refused.value.hint == "add network=True"
    job("valkey://h", network=True)
    job("unix:///run/s")
    with pytest.raises(InvalidJob, match="has a password") as refused:
        job("unix://:hunter2@/run/s")
    assert "hunter2" not in str(refused.value)


def test_a_run_starts_in_a_home_only_where_it_finds_homes() -> None:
    trigger, there = IntervalTrigger(hours=1), Inputs(working_directory="/home/ada/reports")
    with pytest.raises(InvalidJob, match="working_directory: '/home/ada/reports' is in a home"):
        Job("j", "m:f", trigger, inputs=there)
    Job("j", "m:f", trigger, inputs=there, access=Access(home="read-only"))
    Job("j", "m:f", trigger, inputs=there, interpreter="/home/ada/venv/bin/python")
    Job("j", "m:f", trigger, inputs=there, sandboxed=False)


def test_an_account_is_a_name_or_a_number() -> None:
    trigger = IntervalTrigger(hours=1)
    Job("j", "m:f", trigger, user="1000", group="www-data")
    for kind in ("user", "group"):
        with pytest.raises(InvalidJob, match=f"^{kind}: 'a b' is not the name of a system {kind}"):
            Job("j", "m:f", trigger, **{kind: "a b"})


def test_the_import_root_is_the_directory_above_the_outermost_package(tmp_path: Path) -> None:
    for name, file, depth in [
        ("alone", "alone.py", 0),
        ("pack", "pack/__init__.py", 0),
        ("pack.sub.part", "pack/sub/part.py", 0),
    ]:
        module = types.ModuleType(name)
        module.__file__ = str(tmp_path / file)
        assert import_root(module) == str(tmp_path), (name, depth)


def test_the_import_root_keeps_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "releases/1/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("releases/1/lib")
    module = types.ModuleType("alone")
    module.__file__ = str(tmp_path / "lib" / "alone.py")
    assert import_root(module) == str(tmp_path / "lib")


def test_the_standard_library_needs_no_import_root() -> None:
    assert import_root(functools) is None


def test_a_module_without_a_file_is_refused() -> None:
    with pytest.raises(InvalidJob, match="has no file"):
        import_root(types.ModuleType("made_up"))


def test_an_interpreter_that_is_a_link_into_a_home_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sereno.declare.access.HOMES", (str(tmp_path / "home"),))
    (tmp_path / "python").symlink_to(tmp_path / "home/ada/.local/bin/python")
    assert leads_into_a_home(str(tmp_path / "python"), "/srv/shop")
    assert not leads_into_a_home(None, "/srv/shop")


def test_a_process_that_does_not_know_its_interpreter_registers_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(InvalidJob, match="does not know its own interpreter"):
        how_to_run(
            test_an_interpreter_that_is_a_link_into_a_home_is_seen, ("tmp_path", "monkeypatch")
        )
