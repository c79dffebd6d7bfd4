"""Limits, retries, inputs and order of a job: what is refused when it is added, and what reaches the run."""

import math
import re
import signal
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sereno.declare.inputs import Inputs
from sereno.declare.job import Job
from sereno.declare.limits import TEMPLATE_TIMEOUT_S, Limits
from sereno.declare.options import part
from sereno.declare.order import check_order
from sereno.declare.quantities import percent, read_span_s, seconds, size_bytes
from sereno.declare.retry import Retry, retry_of
from sereno.errors import INTERRUPTED, SKIPPED, InvalidJob, InvalidTrigger, NotAvailable, UsageError
from sereno.run.credentials import credential
from sereno.triggers import IntervalTrigger

HOURLY = IntervalTrigger(hours=1)
TEMPLATES = Path(__file__).parents[3] / "systemd"


def job(**fields: object) -> Job:
    return Job("x", "m:f", HOURLY, **fields)


# --- quantities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [("5min", 300), ("5m", 300), ("1h30m", 5400), ("2d 3s", 172803), (7, 7), (0.5, 0.5)],
)
def test_a_span_is_a_number_of_seconds_or_says_its_units(value, expected) -> None:
    assert seconds("timeout", value) == expected


@pytest.mark.parametrize("text", ["", "5", "5 minutes", "-5s", "0.5s", "5s5s", "5M", "1y"])
def test_a_span_without_a_clear_unit_is_refused_by_name(text) -> None:
    with pytest.raises(InvalidJob, match=r"^timeout: ") as refusal:
        seconds("timeout", text)
    assert repr(text) in refusal.value.message
    with pytest.raises(InvalidTrigger, match=r"^--every: "):
        read_span_s("--every", text, error=InvalidTrigger)


def test_a_size_is_bytes_or_to_the_base_of_1024() -> None:
    assert [size_bytes("memory_max", size) for size in ("512M", "1G", "64K", 12)] == [
        512 << 20,
        1 << 30,
        64 << 10,
        12,
    ]
    for text in ("512", "512MB", "1.5G", "-1M", "512m", ""):
        with pytest.raises(InvalidJob, match=r"^memory_max: .* is not a size"):
            size_bytes("memory_max", text)


def test_a_share_of_a_processor_says_percent() -> None:
    assert [percent("cpu_quota", share) for share in ("50%", "200%")] == [50, 200]
    assert percent("cpu_quota", None) is None
    for value in (50, 0.5, "50", "0.5", "50 %", ""):
        with pytest.raises(InvalidJob, match=r"^cpu_quota: .* is not a percentage"):
            percent("cpu_quota", value)


# --- limits and retries -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"memory_max_bytes": 512}, "memory_max: 512 is not a whole number from 16777216"),
        ({"memory_max_bytes": 1e9}, "memory_max: 1000000000.0 is not a whole"),
        ({"memory_max_bytes": True}, "memory_max: True"),
        ({"cpu_quota_percent": 0}, "cpu_quota: 0"),
        ({"nice": 20}, "nice: 20"),
        ({"nice": -21}, "nice: -21"),
        ({"nice": "5"}, "nice: '5'"),
        ({"io_class": "low"}, "io_class: 'low'"),
        ({"io_class": 3}, "io_class: 3"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_by_name(fields, says) -> None:
    with pytest.raises(InvalidJob) as refusal:
        Limits(**fields)
    assert refusal.value.message.startswith(says)


@pytest.mark.parametrize("limits", [Limits(nice=-1), Limits(io_class="realtime")])
def test_what_a_users_manager_may_not_set_is_refused_for_it(limits) -> None:
    with pytest.raises(InvalidJob, match="only root may give"):
        limits.check_for_user()


@pytest.mark.parametrize(
    ("retry", "says"),
    [
        (Retry(retries=-1), "retries: -1"),
        (Retry(retries=101), "retries: 101"),
        (Retry(retries=1.5), "retries: 1.5"),
        (Retry(1, delay_s=-1), "retry_delay: -1 s"),
        (Retry(1, delay_s=math.nan), "retry_delay: nan s"),
        (Retry(1, delay_s="5"), "retry_delay: '5' is not a number of seconds"),
        (Retry(1, backoff=0.5), "retry_backoff: 0.5"),
        (Retry(1, backoff=math.nan), "retry_backoff: nan"),
        (Retry(1, delay_max_s=-1), "retry_delay_max: -1 s"),
    ],
)
def test_retries_that_make_no_sense_are_refused_by_name(retry, says) -> None:
    with pytest.raises(InvalidJob) as refusal:
        job(retry=retry)
    assert refusal.value.message.startswith(says)


def test_delays_that_alone_fill_the_time_limit_are_refused() -> None:
    assert Retry(3, delay_s=10).total_delay_s == 10 + 20 + 40
    job(retry=Retry(3, delay_s=10), timeout_s=71)
    with pytest.raises(InvalidJob, match=r"the delays of 3 retries take 70 s, .* may take 70 s"):
        job(retry=Retry(3, delay_s=10), timeout_s=70)
    with pytest.raises(InvalidJob, match="may take 3600 s"):
        job(retry=Retry(10))


@pytest.mark.parametrize("scope", ["system", "user"])
def test_the_default_time_limit_that_retries_are_checked_against_is_the_templates(scope) -> None:
    template = (TEMPLATES / scope / "sereno@.service").read_text()
    assert re.search(r"^TimeoutStartSec=(.*)$", template, re.MULTILINE)[1] == "1h"
    assert TEMPLATE_TIMEOUT_S == 3600
    assert f"\nSuccessExitStatus={INTERRUPTED} SIGTERM {SKIPPED}\n" in template


def test_delays_grow_up_to_their_maximum() -> None:
    retry = Retry(retries=6, delay_s=1, backoff=3, delay_max_s=20)
    assert [retry.delay_before_s(number) for number in range(1, 6)] == [1, 3, 9, 20, 20]


@given(
    st.builds(
        Retry,
        retries=st.integers(1, 100),
        delay_s=st.floats(0, 86400),
        backoff=st.floats(1, 100),
        delay_max_s=st.floats(0, 86400),
    )
)
def test_a_run_reads_its_retries_back_as_they_were_given(retry: Retry) -> None:
    assert retry_of(retry.environment()) == retry
    assert 0 <= retry.total_delay_s < math.inf


def test_without_retries_the_run_is_told_nothing() -> None:
    assert Retry().environment() == {}
    for wrong in ("x", ""):
        with pytest.raises(ValueError, match="invalid literal"):
            retry_of({"SERENO_RETRIES": wrong})
    with pytest.raises(ValueError, match="delay_s=-1"):
        retry_of({"SERENO_RETRIES": "1", "SERENO_RETRY_DELAY_S": "-1"})


# --- inputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        *({1, 2}, (1, 2), {1: "a"}, b"x", math.nan, math.inf, object(), [{"a": (1,)}]),
        *(signal.SIGTERM, [OrderedDict(a=1)]),
    ],
)
def test_an_argument_that_json_would_change_or_refuse_is_refused_by_name(value) -> None:
    with pytest.raises(InvalidJob, match=r"^kwargs: rows="):
        part(Inputs, {"kwargs": {"fine": 1, "rows": value}})


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
    )
)  # fmt: skip
@example({"\x7f": ["\x7f\n\x00 \ud800"]})
def test_arguments_are_one_printable_line_that_gives_them_back(kwargs) -> None:
    inputs = part(Inputs, {"kwargs": kwargs})
    assert inputs.kwargs == kwargs
    assert inputs.kwargs_json.isascii()
    assert inputs.kwargs_json.isprintable()
    assert not inputs.kwargs_json.endswith("\\")


def test_arguments_too_large_for_a_variable_are_refused() -> None:
    with pytest.raises(InvalidJob, match="bytes as JSON are more than 65536"):
        part(Inputs, {"kwargs": {"text": "x" * 70000}})


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"1X": "a"}, "'1X' is not a name"),
        ({"A-B": "a"}, "'A-B' is not a name"),
        ({"A=B": "a"}, "'A=B' is not a name"),
        ({"SERENO_RETRIES": "1"}, "'SERENO_RETRIES' is a variable that systemd or sereno sets"),
        ({"INVOCATION_ID": "1"}, "'INVOCATION_ID' is a variable that"),
        ({"A": 1}, "A=1 is not text"),
        ({"A": "a\0b"}, "is not text that a variable"),
        ({"A": "a\rb"}, "is not text that a variable"),
        ({"A": "\x7f"}, "is not text that a variable"),
        ({"A": "\ud800"}, "is not text that a variable"),
        ({"A": "x" * 70000}, "A has more than 65536 bytes"),
        ({1: "a"}, "is not a mapping"),
        ("A=1", "is not a mapping"),
    ],
)
def test_a_variable_that_systemd_would_drop_or_that_is_not_the_jobs_is_refused(
    environment, says
) -> None:
    with pytest.raises(InvalidJob, match=r"^environment: ") as refusal:
        part(Inputs, {"environment": environment})
    assert says in refusal.value.message


def test_settings_of_sereno_that_are_for_everybody_may_be_given() -> None:
    variables = {
        "SERENO_ALERT_CAPACITY_PERCENT": "95",
        "SERENO_CACHE_DIR": "/srv/cache",
        "A": "\t\n",
    }
    assert dict(part(Inputs, {"environment": variables}).environment) == variables


def test_the_import_path_of_a_backends_run_is_not_to_be_replaced() -> None:
    inputs = part(Inputs, {"environment": {"PYTHONPATH": "/srv"}})
    job(inputs=inputs)
    with pytest.raises(InvalidJob, match="environment: 'PYTHONPATH' is how the run finds"):
        job(inputs=inputs, import_paths=("/srv/shop",))


@pytest.mark.parametrize(
    "path",
    ["token", "s3cr3t", "/etc/../token", "//etc/token", "/etc/", "/a\nb", " /a", "/a ", "/a\\", 3],
)
def test_a_credential_that_is_no_path_of_a_file_is_refused(path) -> None:
    with pytest.raises(InvalidJob, match=r"^credentials: token="):
        part(Inputs, {"credentials": {"token": path}})


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", ".x", "ñ"])
def test_a_credential_under_a_name_that_is_no_file_name_is_refused(name) -> None:
    with pytest.raises(InvalidJob, match=r"^credentials: .* is not a name"):
        part(Inputs, {"credentials": {name: "/etc/token"}})


def test_a_credential_may_be_given_as_a_path() -> None:
    inputs = part(Inputs, {"credentials": {"token": Path("/etc/token")}})
    assert inputs == Inputs(credentials=(("token", "/etc/token"),))


def test_a_run_reads_its_credentials_by_name(tmp_path, monkeypatch) -> None:
    (tmp_path / "token").write_text("s3cr3t ñ\n")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(NotAvailable, match="this process has no credentials"):
        credential("token")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credential("token") == "s3cr3t ñ"
    with pytest.raises(NotAvailable, match="this run has no 'key'"):
        credential("key")
    for name in ("", "..", "../token", "/etc/passwd"):
        with pytest.raises(UsageError, match="is not a name"):
            credential(name)


# --- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"after": ("a b",)}, "after: 'a b' cannot be part of a unit name"),
        ({"after": ("x",)}, "after: ('x',) names the job itself"),
        ({"after": ("a", "a")}, "after: ('a', 'a') names the job itself, or a job twice"),
        ({"only_if_success": True}, "only_if_success: True without after="),
        ({"after": ("a",), "only_if_success": 1}, "only_if_success: 1 is neither"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_by_name(fields, says) -> None:
    with pytest.raises(InvalidJob) as refusal:
        job(**fields)
    assert refusal.value.message.startswith(says)


def test_a_chain_of_jobs_that_are_there_is_taken() -> None:
    check_order({"a": ["b", "c"], "b": ["c"]}, ["a", "b", "c"], ["a", "b", "c"])


def test_a_job_after_one_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidJob, match="'a' comes after 'z', and no job of that id"):
        check_order({"a": ["z"]}, ["a"], ["a"])
    # What was installed earlier is not this change's business.
    check_order({"old": ["z"]}, ["a"], ["a", "old"])


def test_a_circle_of_jobs_is_refused_and_shown() -> None:
    after = {"a": ["b"], "b": ["c"], "c": ["d", "a"], "d": []}
    with pytest.raises(InvalidJob) as refusal:
        check_order(after, ["c"], "abcd")
    assert refusal.value.message == "after: 'c' after 'a' after 'b' after 'c' is a circle"
    # A circle that is there already does not hang a job that leads to it.
    check_order({**after, "e": ["a"]}, ["e"], "abcde")
