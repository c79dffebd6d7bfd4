"""The fields of records: what python-systemd is given, and what it would lose without a word."""

import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sereno import journal

JOURNAL_FIELD = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def test_every_record_carries_the_job_and_the_run(sent) -> None:
    logging.getLogger("shop").info("hola %s", "mundo")
    (record,) = sent
    assert record["MESSAGE"] == "hola mundo"
    assert (record["SERENO_JOB"], record["SERENO_RUN"]) == ("a_job", "f00d")
    assert record["PRIORITY"] == "6"


def test_only_fields_that_the_journal_keeps_are_sent(sent) -> None:
    extra = {"SERENO_ALERT": "x", "lower": 1, "_HIDDEN": 1, "X" * 65: 1, "NONE": None}
    logging.getLogger("shop").warning("careful", extra=extra)
    (record,) = sent
    assert record["SERENO_ALERT"] == "x"
    assert all(JOURNAL_FIELD.fullmatch(name) for name in record)
    assert "NONE" not in record


def test_text_that_is_not_unicode_is_escaped_and_not_lost(sent) -> None:
    logging.getLogger("shop").info("bad \udcff", extra={"SERENO_NOTE": "\ud800"})
    (record,) = sent
    assert record["MESSAGE"] == "bad \\udcff"
    assert record["SERENO_NOTE"] == "\\ud800"


def test_the_closing_record_has_each_statistic_as_a_field_and_all_as_json() -> None:
    stats = {
        "entries_removed": 150,
        "hit_rate": 78.5,
        "note": "ñ",
        "nested": {"a": [1]},
        "none": None,
    }
    fields = journal.closing_fields("success", 45.674, stats)
    assert fields == {
        "SERENO_STATUS": "success",
        "SERENO_DURATION_MS": "45.67",
        "SERENO_STATS": json.dumps(stats, ensure_ascii=False),
        "SERENO_STAT_ENTRIES_REMOVED": "150",
        "SERENO_STAT_HIT_RATE": "78.5",
        "SERENO_STAT_NOTE": "ñ",
        "SERENO_STAT_NESTED": '{"a": [1]}',
        "SERENO_STAT_NONE": "null",
    }


@given(st.text())
def test_a_statistic_of_any_name_becomes_a_field_that_the_journal_keeps(name: str) -> None:
    assert JOURNAL_FIELD.fullmatch(journal.stat_field(name))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner) | st.dictionaries(st.integers() | st.text(), inner)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text() | st.integers(), json_like))
def test_any_statistics_give_one_valid_json_text(stats) -> None:
    fields = journal.closing_fields("success", 1.0, stats)
    assert isinstance(json.loads(fields["SERENO_STATS"], parse_constant=pytest.fail), dict)
    assert all(JOURNAL_FIELD.fullmatch(name) for name in fields)
