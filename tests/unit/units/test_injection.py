"""Any text of Unicode, from jobs, registrations and callers, stays text in units, records, shells and terminals."""

from __future__ import annotations

import ast
import json
import logging
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemd_judge import assert_reads_without_a_word

from sereno import cli, errors
from sereno.declare.access import Access
from sereno.declare.inputs import Inputs
from sereno.declare.job import Job
from sereno.declare.options import part
from sereno.errors import InvalidJob, InvalidTrigger, SerenoError
from sereno.manager.names import service_name, timer_name
from sereno.records import journal
from sereno.run import closing as ending
from sereno.run.failure import summary
from sereno.triggers import CronTrigger, IntervalTrigger
from sereno.units.unit_text import read, render

HERE = Path(__file__).parents[1]
LIB = HERE.parents[1] / "lib"
TEMPLATES = HERE.parents[1] / "systemd"
# st.text() leaves lone surrogates out, which file names and arguments may bring along.
anything = st.text(st.characters(exclude_categories=()))
# What has a meaning to somebody on the way.
NASTY = [
    *("%", "%%", "%i", "$HOME", "${HOME}", "$$", '"', "'", "\\", "\\x41", ";", "#", "=", "[X]", "`id`"),
    *("\n", "\r", "\t", "\0", "\x0b", "\x1b[2J", "\x7f", "\x85", "\x9b31m", "\u2028", "\u202e", "\ufeff"),
    *("\nExecStart=/bin/sh", "\n[Service]\nUser=root", "$(id)", "&& id", "|| id", " ", "-", "+", "!"),
    *("\ud800", "\udcff", "ñ", "日本", "🦤", "\U000e0001"),
]  # fmt: skip
nasty = anything | st.lists(st.sampled_from(NASTY), max_size=5).map("".join)


def joined(text: str) -> str:
    """`text` as JSON gives it back: two surrogates that make a pair are one character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def job_with(text: str, other: str = "x", **options) -> Job:
    return Job(
        "odd",
        "m:f",
        options.pop("trigger", IntervalTrigger(hours=1)),
        interpreter="/usr/bin/python3",
        import_paths=("/srv/shop",),
        **options,
    )


FIELDS = {
    "name": lambda text: job_with(text, name=text),
    "kwargs": lambda text: job_with(text, inputs=part(Inputs, {"kwargs": {"a": text}})),
    "environment": lambda text: job_with(text, inputs=part(Inputs, {"environment": {"A": text}})),
    "credentials": lambda text: job_with(text, inputs=part(Inputs, {"credentials": {"a": f"/srv/{text}"}})),
    "write_paths": lambda text: job_with(text, access=part(Access, {"write_paths": f"/srv/{text}"})),
    "working_directory": lambda text: job_with(
        text, inputs=part(Inputs, {"working_directory": f"/srv/{text}"})
    ),
    "umask": lambda text: job_with(text, inputs=part(Inputs, {"umask": text})),
    "group": lambda text: job_with(text, group=text),
    "interpreter": lambda text: Job("odd", "m:f", IntervalTrigger(hours=1), interpreter=f"/srv/{text}"),
    "import_paths": lambda text: Job(
        "odd", "m:f", IntervalTrigger(hours=1), interpreter="/x", import_paths=(f"/srv/{text}",)
    ),
    "user": lambda text: job_with(text, user=text),
    "app": lambda text: job_with(text, app=text),
    "timezone": lambda text: job_with(
        text, trigger=CronTrigger.from_fields(hour=3, timezone=text)
    ),
    "cron": lambda text: job_with(text, trigger=CronTrigger.from_expression(f"0 3 * * {text}")),
}  # fmt: skip


def keys_of(unit: str) -> list[tuple[str, str]]:
    """(section, key) of each line, as systemd splits a unit file: lines, and those that a backslash joins."""
    found, section = [], ""
    joined = ""
    for line in unit.split("\n"):
        joined += line
        if joined.endswith("\\") and not joined.startswith(("#", ";")):
            joined = joined[:-1] + " "
            continue
        line, joined = joined.strip(" \t\r"), ""
        if line.startswith("["):
            section = line
        elif line and not line.startswith(("#", ";")):
            found.append((section, line.partition("=")[0]))
    return found


@pytest.mark.parametrize("field", FIELDS)
def test_no_text_of_a_registration_adds_a_line_or_a_section_to_a_unit(field: str) -> None:
    plain = {"timezone": "UTC", "cron": "1", "umask": "0027", "user": "root"}.get(field, "plain")
    expected = {name: keys_of(unit) for name, unit in render(FIELDS[field](plain)).items()}

    @given(nasty)
    def check(text: str) -> None:
        try:
            job = FIELDS[field](text)
        except (InvalidJob, InvalidTrigger):
            return
        files = render(job)
        for name, unit in files.items():
            assert set(keys_of(unit)) <= set(expected[name]) | {("[Timer]", "OnCalendar")}
            assert sum(key != "OnCalendar" for _, key in keys_of(unit)) <= sum(
                key != "OnCalendar" for _, key in expected[name]
            )
            assert unit.replace("\n", "").isprintable()
            unit.encode()
        installed = read("odd", files, enabled=True)
        assert installed is not None
        assert (installed.name, installed.app) == (job.name, job.app)
        assert installed.kwargs == job.inputs.kwargs

    check()


def test_systemd_reads_units_of_odd_text_without_a_warning(tmp_path: Path) -> None:
    chance = random.Random(1)
    (tmp_path / "bin").mkdir()
    for template in (*TEMPLATES.glob("both/*"), *TEMPLATES.glob("system/*")):
        text = template.read_text().replace("@RELEASE@", str(tmp_path))
        (tmp_path / template.name).write_text(text)
    units = []
    while len(units) < 2 * 60:
        text = "".join(chance.choices([*NASTY, "a", "é"], k=chance.randrange(1, 5)))
        try:
            job = Job(
                f"odd{len(units)}",
                "m:f",
                IntervalTrigger(hours=1),
                name=text,
                interpreter="/usr/bin/python3",
                access=part(Access, {"network": True, "home": True, "write_paths": f"/srv/{text}"}),
                inputs=part(
                    Inputs,
                    {
                        "kwargs": {"a": text},
                        "credentials": {"a": f"/srv/{text}"},
                        "working_directory": f"/srv/{text}",
                    },
                ),
            )
        except InvalidJob:
            continue
        for name, unit in render(job).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(unit)
        units += [timer_name(job.id), service_name(job.id)]
    assert_reads_without_a_word(tmp_path, units)


# --- records ----------------------------------------------------------------------------------------------------------

FIELD = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def assert_is_a_record_of_ours(record: dict[str, object]) -> None:
    assert (record["SERENO_JOB"], record["SERENO_RUN"]) == ("a_job", "f00d")
    assert record["SYSLOG_IDENTIFIER"] == "a_job"
    assert all(FIELD.fullmatch(name) for name in record)
    for value in record.values():
        if isinstance(value, str):
            value.encode()
        else:
            assert isinstance(value, (int, bytes))


leaf = st.none() | st.booleans() | st.integers() | st.floats() | nasty | st.dates()
statistics = st.dictionaries(
    nasty | st.integers(),
    st.recursive(leaf, lambda inner: st.lists(inner) | st.dictionaries(nasty, inner), max_leaves=6),
    max_size=6,
)


def close(stats, error=None, exception=None) -> int:
    run = ending.Run("a_job", "m:f", "f00d", {}, counts=False, sandboxed=False)
    plain = None if stats is None else journal.plain(stats)
    return run.end(ending.Tried(plain, error, exception), None, stopped=False)


def test_no_message_key_or_value_of_a_job_forges_a_field_of_a_record(sent) -> None:
    @given(nasty, st.dictionaries(nasty, nasty, max_size=4), statistics)
    def check(text: str, extra: dict[str, str], stats) -> None:
        sent.clear()
        taken = {*logging.makeLogRecord({}).__dict__, "message", "asctime"}
        extra = {name: value for name, value in extra.items() if name not in taken}
        logging.getLogger("shop").warning("%s", text, extra=extra)
        assert close(stats) == errors.SUCCESS
        for record in sent:
            assert_is_a_record_of_ours(record)
        closing = sent[-1]
        assert closing["SERENO_STATUS"] == "success"
        assert str(closing["MESSAGE"]).isprintable()
        kept = json.loads(str(closing["SERENO_STATS"]))
        assert len(kept) == len({joined(str(name)) for name in stats})
        for name, value in stats.items():
            if isinstance(value, str) and {type(key) for key in stats} == {str}:
                assert kept[joined(name)] == joined(value)

    check()


def test_the_text_of_an_exception_is_one_printable_line_of_a_record(sent) -> None:
    @given(nasty, st.booleans())
    def check(text: str, ours: bool) -> None:
        sent.clear()
        exception = SerenoError(text) if ours else ValueError(text)
        assert close({"error": text}, summary(exception), exception) == errors.FAILURE
        (record,) = sent
        assert_is_a_record_of_ours(record)
        assert str(record["MESSAGE"]).isprintable()
        assert str(record["SERENO_ERROR"]).isprintable()
        assert len(str(record["SERENO_ERROR"])) <= 520

    check()


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


def endless() -> dict[str, object]:
    circle: dict[str, object] = {}
    circle["self"] = circle
    circle["list"] = [circle, circle]
    return circle


@pytest.mark.parametrize(
    "stats",
    [{"a": Unspeakable()}, {"a": 10**5000}, endless(), {Unspeakable(): 1}, {"a": b"\xff"}, {"a": {1, 2}}],
)  # fmt: skip
def test_statistics_that_json_cannot_hold_are_recorded_as_text(sent, stats) -> None:
    assert close(stats) == errors.SUCCESS
    record = sent[-1]
    assert isinstance(json.loads(str(record["SERENO_STATS"])), dict)


def test_an_exception_without_words_is_recorded(sent) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    error = Mute()
    assert close(None, summary(error), error) == errors.FAILURE
    assert sent[0]["SERENO_ERROR"] == "Mute: <RuntimeError>"


def test_statistics_and_tracebacks_that_are_too_large_are_cut_and_this_is_said(sent) -> None:
    stats = {"rows": 3, "page": "x" * 10_000_000, "last": 4}
    assert close(stats) == errors.SUCCESS
    warning, closing = sent
    assert "1 estadísticas omitidas" in str(warning["MESSAGE"])
    assert json.loads(str(closing["SERENO_STATS"])) == {"rows": 3, "last": 4}
    sent.clear()
    close({f"n{number}": number for number in range(5000)})
    assert "4744 estadísticas omitidas" in str(sent[0]["MESSAGE"])
    assert len(sent[1]) < 1024
    sent.clear()
    error = ValueError("x" * 10_000_000)
    close(None, summary(error), error)
    assert sum(len(str(value)) for value in sent[0].values()) < 100_000


# --- shells and terminals ---------------------------------------------------------------------------------------------


def test_nothing_of_ours_starts_a_shell_or_runs_data_as_code() -> None:
    forbidden = {"system", "popen", "eval", "exec", "getoutput", "getstatusoutput"}
    starts = {"run", "Popen", "call", "check_call", "check_output"}
    for path in [*LIB.rglob("*.py"), *(LIB.parent / "bin").iterdir()]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                function = node.func
                name = (
                    function.attr
                    if isinstance(function, ast.Attribute)
                    else getattr(function, "id", "")
                )
                assert name not in forbidden, (path, node.lineno)
                has_shell = any(keyword.arg == "shell" for keyword in node.keywords)
                assert not (name in starts and has_shell), (
                    path,
                    node.lineno,
                )
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "marshal", "shelve", "dill"}, (path, node.lineno)


@pytest.mark.parametrize(
    "words",
    [
        ("cache", "get", "{}"),
        ("cache", "delete", "{}"),
        ("cache", "set", "k", "{}"),
        ("explain", "--", "{}"),
        ("explain", "--", "0 3 * * {}"),
        ("status", "{}"),
        ("remove", "{}"),
        ("run", "{}"),
        ("history", "{}"),
    ],
    ids=" ".join,
)
def test_a_command_shows_what_it_was_given_and_lets_no_terminal_obey_it(
    words, capsys, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("\x1b[31m", "\x9b2J", "a\x07b", "\u202eabc", "a\rb", "\x7f", "\udcff"):
        try:
            cli.main([word.format(text) for word in words])
        except SystemExit:
            pass
        shown = capsys.readouterr()
        for line in f"{shown.out}{shown.err}".split("\n"):
            assert line.isprintable(), ascii(line)


def test_a_cached_value_is_printed_as_json_that_no_terminal_obeys(capsys) -> None:
    @given(nasty)
    def check(text: str) -> None:
        from sereno.cli.arguments import print_json

        print_json({"a": text, text: [text]}, indent=None)
        print_json({"a": text})
        first, _, rest = capsys.readouterr().out.partition("\n")
        assert first.isprintable()
        text = joined(text)
        assert json.loads(first) == {"a": text, text: [text]}
        assert json.loads(rest) == {"a": text}

    check()
