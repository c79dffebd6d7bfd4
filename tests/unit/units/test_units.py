"""Whole generated unit files against golden ones, and systemd's own opinion of them.

`SERENO_TEST_GOLDEN=write` rewrites the golden files; read the diff before you commit it.
"""

import os
import shutil
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemd_judge import assert_reads_without_a_word

from sereno.declare.access import Access, namespaces_refused
from sereno.declare.inputs import Inputs
from sereno.declare.job import Job
from sereno.declare.limits import Limits
from sereno.declare.options import part
from sereno.declare.retry import Retry
from sereno.manager.names import service_name, timer_name
from sereno.triggers import BootTrigger, CronTrigger, IntervalTrigger
from sereno.units.quoting import exact_span, quote, quote_argument
from sereno.units.service_text import OF_NAMESPACES, OPEN_HOMES
from sereno.units.unit_text import own_keys, read, render
from shipped import REPOSITORY

HERE = Path(__file__).parents[1]
TEMPLATES = HERE.parents[1] / "systemd"

BACKEND = {
    "interpreter": "/srv/shop/venv/bin/python",
    "import_paths": ("/srv/shop", "/opt/sereno/lib"),
}
JOBS = [
    Job(
        "cache_cleanup_hourly",
        "sereno.jobs.cache_cleanup_job:cleanup_expired_cache",
        CronTrigger.from_expression("0 * * * *"),
        name="Cleanup of the metadata cache",
    ),
    Job("both_days", "m:f", CronTrigger.from_expression("0 0 13 * 5"), app="shop", **BACKEND),
    Job(
        "nightly",
        "shop.jobs:nightly",
        CronTrigger.from_fields(hour=3, timezone="Europe/Berlin"),
        app="shop",
        timeout_s=90,
        user="web",
        access=Access(network=True),
        **BACKEND,
    ),
    Job(
        "beats",
        "shop.jobs:f",
        IntervalTrigger(hours=1),
        app="shop",
        access=Access(network=True),
        inputs=Inputs(ping_url="https://ana:s%40c@hc.example.org/ping/abc?create=1"),
        **BACKEND,
    ),
    Job(
        "beats_secretly",
        "shop.jobs:f",
        IntervalTrigger(hours=1),
        app="shop",
        access=Access(network=True),
        inputs=Inputs(ping_url_file="/etc/shop/ping 100%"),
        **BACKEND,
    ),
    Job(
        "once_nightly",
        "shop.jobs:f",
        CronTrigger.from_fields(hour=3, timezone="Europe/Madrid"),
        app="shop",
        access=Access(network=True),
        once_per="fleet",
        jitter_s=20,
        **BACKEND,
    ),
    Job(
        "once_each_45_s",
        "shop.jobs:f",
        IntervalTrigger(seconds=45),
        access=Access(network=True),
        once_per="fleet",
        sandboxed=False,
        **BACKEND,
    ),
    Job("every_90_s", "shop.jobs:f", IntervalTrigger(seconds=90), app="shop", **BACKEND),
    Job("every_2_s", "shop.jobs:f", IntervalTrigger(seconds=2), app="shop", **BACKEND),
    Job(
        "fleet_nightly",
        "shop.jobs:f",
        CronTrigger.from_expression("0 3 * * *"),
        app="shop",
        jitter_s=900,
        misfire_grace_s=600,
        persistent=False,
        accuracy_s=0.000_001,
        **BACKEND,
    ),
    Job("fleet_hourly", "m:f", IntervalTrigger(hours=1), jitter_s=600, accuracy_s=60, **BACKEND),
    Job("warm_up", "shop.jobs:f", BootTrigger(), app="shop", jitter_s=30, **BACKEND),
    Job("each_10_s", "m:f", CronTrigger.from_fields(second="*/10"), accuracy_s=0.001, **BACKEND),
    Job(
        "limited",
        "shop.jobs:f",
        CronTrigger.from_expression("0 4 * * *"),
        app="shop",
        timeout_s=300,
        retry=Retry(retries=3, delay_s=5),
        limits=Limits(memory_max_bytes=512 << 20, cpu_quota_percent=50, nice=10, io_class="idle"),
        inputs=part(
            Inputs,
            {
                "kwargs": {"table": 'ventas "100%" $HOME', "rows": [1, None]},
                "environment": {"SHOP_MODE": "a b\t%h\n", "SHOP_PLAIN": "x"},
                "credentials": {"token": "/etc/shop/100% secret", "key": "/etc/shop/key"},
            },
        ),
        after=("nightly", "every_90_s"),
        only_if_success=True,
        **BACKEND,
    ),
    Job(
        "reaching",
        "shop.jobs:f",
        IntervalTrigger(hours=1),
        access=Access(
            home="read-only",
            write_paths=("/srv/shop/out", '/srv/100% "odd"\\path $HOME ñ', "/home/ada/in box"),
        ),
        **BACKEND,
    ),
    Job(
        "as_ada",
        "shop.jobs:f",
        IntervalTrigger(hours=1),
        user="ada",
        group="www-data",
        inputs=part(Inputs, {"umask": "0027", "working_directory": Path('/srv/100% "odd" \\path')}),
        **BACKEND,
    ),
    Job("as_root", "shop.jobs:f", IntervalTrigger(hours=1), user="root", **BACKEND),
    Job("at_home", "shop.jobs:f", IntervalTrigger(hours=1), access=Access(home=True), **BACKEND),
    Job(
        "after_script",
        "sereno.jobs.after:f",
        CronTrigger.from_expression("0 4 * * *"),
        after=("nightly",),
    ),
    Job(
        "odd-text_1.0",
        "m:f",
        IntervalTrigger(hours=1),
        app="odd",
        name='100% "sure" $HOME \\ %i ñ',
        timeout_s=0.5,
        interpreter="/home/o'neil/100% sure/$venv/bin/python",
        import_paths=('/srv/with "quotes"', "/srv/back\\slash"),
    ),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.id)
def test_the_unit_files_of_a_job_are_the_golden_ones(job: Job) -> None:
    golden = HERE / "golden" / job.id
    rendered = render(job)
    if os.environ.get("SERENO_TEST_GOLDEN") == "write":
        shutil.rmtree(golden, ignore_errors=True)
        for name, text in rendered.items():
            (golden / name).parent.mkdir(parents=True, exist_ok=True)
            (golden / name).write_text(text)
    expected = {
        str(path.relative_to(golden)): path.read_text()
        for path in golden.rglob("*")
        if path.is_file()
    }
    assert rendered == expected


def test_an_hourly_schedule_is_written_in_utc_where_the_machines_zone_allows_it() -> None:
    timer = render(JOBS[0], local_zone="Europe/Berlin")["sereno@cache_cleanup_hourly.timer"]
    assert "\nOnCalendar=*-*-* *:00:00 UTC\n" in timer


@pytest.mark.parametrize("namespaces", [True, False])
def test_a_users_sandbox_lets_through_what_is_asked_for_and_stands_on_what_there_is(
    namespaces: bool,
) -> None:
    job = Job(
        "mine",
        "m:f",
        IntervalTrigger(hours=1),
        access=Access(network=True),
        sandboxed=False,
        namespaces=namespaces,
        interpreter="/home/ada/venv/bin/python",
    )
    drop_in = render(job)["sereno@mine.service.d/50-sereno.conf"]
    assert "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK" in drop_in
    assert ("PrivateUsers=no" in drop_in) != namespaces
    # The template lets homes be read.
    assert ("ProtectHome=no" in drop_in) != namespaces
    # A user's manager has no such target, mounts nothing and filters no addresses.
    for setting in ("network-online.target", "RequiresMountsFor", "IPAddressDeny"):
        assert setting not in drop_in


def test_open_homes_leave_the_runs_shared_memory_as_the_template_has_it() -> None:
    template = (REPOSITORY / "systemd/system/sereno@.service").read_text()
    assert OPEN_HOMES[-1] in template.splitlines()


def test_what_is_off_without_namespaces_is_what_the_users_template_has() -> None:
    template = (REPOSITORY / "systemd/user/sereno@.service").read_text()
    assert [name for name in OF_NAMESPACES if f"\n{name}=" not in template] == []


def test_the_kernels_refusal_of_namespaces_is_named(tmp_path: Path) -> None:
    assert namespaces_refused(tmp_path) is None
    (tmp_path / "user").mkdir()
    (tmp_path / "user/max_user_namespaces").write_text("96365\n")
    assert namespaces_refused(tmp_path) is None
    (tmp_path / "user/max_user_namespaces").write_text("0\n")
    assert namespaces_refused(tmp_path) == "user.max_user_namespaces=0"


@pytest.fixture(scope="module")
def unit_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Templates and generated units together, with programs that exist."""
    directory = tmp_path_factory.mktemp("units")
    release = directory / "release"
    (release / "bin").mkdir(parents=True)
    for name in ("sereno", *(job.id for job in JOBS)):
        (release / "bin" / name).write_text("#!/bin/sh\n")
        (release / "bin" / name).chmod(0o755)
    for template in (*TEMPLATES.glob("both/*"), *TEMPLATES.glob("system/*")):
        text = template.read_text().replace("@RELEASE@", str(release))
        (directory / template.name).write_text(text)
    for job in JOBS:
        for name, text in render(job).items():
            (directory / name).parent.mkdir(exist_ok=True)
            if job.interpreter:
                text = text.replace(quote_argument(job.interpreter), "/usr/bin/python3")
            (directory / name).write_text(text)
    return directory


def test_systemd_reads_every_unit_without_a_warning(unit_directory: Path) -> None:
    names = [name for job in JOBS for name in (timer_name(job.id), service_name(job.id))]
    names += ["sereno.target", "sereno-app@shop.target", "sereno.slice", "sereno-seed.service"]
    names += ["sereno-start.service", "sereno-apps.target"]
    names += ["sereno-start@shop.service", "sereno-jobs@shop.target"]
    assert_reads_without_a_word(unit_directory, names)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.id)
def test_a_job_is_read_back_from_its_own_files(job: Job) -> None:
    installed = read(job.id, render(job), enabled=True)
    assert installed is not None
    assert (installed.id, installed.app, installed.name) == (job.id, job.app, job.name)
    assert (installed.function, installed.trigger) == (job.function, job.trigger.text)
    assert installed.has_entry_script is (job.interpreter is None)
    assert (installed.interval_s, installed.once_per) == (job.interval_s, job.once_per)
    assert installed.jitter_s == (0 if job.interval_s is None else job.jitter_s)
    assert installed.persistent is job.persistent
    assert (installed.after, installed.kwargs) == (job.after, job.inputs.kwargs)


def test_a_unit_without_our_section_is_not_ours() -> None:
    assert read("x", {"sereno@x.timer": "[Timer]\nOnCalendar=daily\nApp=x\n"}, enabled=True) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90, "90s"), (0.5, "500ms"), (1.0, "1s"), (0.000_001, "1us"), (0.0015, "1500us")],
)
def test_a_time_span_is_exact_to_the_microsecond(seconds: float, text: str) -> None:
    assert exact_span(seconds) == text


@given(st.text())
def test_a_quoted_word_is_one_line_that_systemd_reads_back_as_it_was(text: str) -> None:
    quoted = quote(text)
    assert quoted.isprintable()
    assert "%" not in quoted.replace("%%", "")
    if quoted == text:
        assert set(text) <= {*string.ascii_letters, *string.digits, *"_@/.:+,=-"}
        return
    inner = quoted.removeprefix('"').removesuffix('"')
    # systemd.syntax(7): \xNN is a byte, \" and \\ are themselves; printable non-ASCII stands for itself.
    raw, position = bytearray(), 0
    while position < len(inner):
        if inner[position] != "\\":
            assert inner[position] != '"'
            raw += inner[position].encode()
            position += 1
        elif inner[position + 1] == "x":
            raw.append(int(inner[position + 2 : position + 4], 16))
            position += 4
        else:
            raw += inner[position + 1].encode()
            position += 2
    assert raw.decode("utf-8", "surrogateescape").replace("%%", "%") == text


def test_a_dollar_starts_no_variable_in_an_argument() -> None:
    assert quote_argument("$HOME/${x}") == '"$$HOME/$${x}"'


@given(st.text())
def test_no_text_of_a_unit_can_forge_a_key_of_ours(text: str) -> None:
    keys = own_keys(f"[Timer]\n{text}\n")
    if "[X-Sereno]" not in text:
        assert keys == {}
