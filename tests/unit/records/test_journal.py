"""The fields of records: what python-systemd is given, and what it would lose without a word."""

import json
import logging
import os
import re
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from http import HTTPStatus

import numpy as np
import pytest
from fake_journald import Journald, decoded
from hypothesis import given
from hypothesis import strategies as st

from sereno.records import journal, sending

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


class Torch:
    """A number of others: one value of an array, and no number of Python's."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __float__(self) -> float:
        return float(self._value)

    def item(self) -> float:
        return self._value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.int64(6), "6"),
        (np.uint8(255), "255"),
        (np.float32(0.5), "0.5"),
        (np.float64("nan"), "null"),
        (np.bool_(True), "true"),
        (np.array(7), "7"),
        (Decimal("12.30"), "12.3"),
        (Decimal("NaN"), "null"),
        (Decimal("sNaN"), '"sNaN"'),
        (Fraction(1, 4), "0.25"),
        (Torch(3.5), "3.5"),
        (HTTPStatus.OK, "200"),
        (True, "true"),
        (1, "1"),
        (1.0, "1.0"),
        (None, "null"),
        (np.array([1, 2]), '"[1 2]"'),
        (np.str_("a"), '"a"'),
        (np.datetime64("2026-01-01", "ns"), '"2026-01-01T00:00:00.000000000"'),
        (timedelta(seconds=1), '"0:00:01"'),
        (date(2026, 1, 1), '"2026-01-01"'),
        (float, "\"<class 'float'>\""),
    ],
)
def test_a_number_is_a_number_whoever_made_it(value: object, text: str) -> None:
    assert journal.to_json(value) == text
    assert journal.to_json({"a": [value]}) == f'{{"a": [{text}]}}'


@given(st.dictionaries(st.text(), json_like))
def test_the_json_of_statistics_is_what_json_would_write(stats) -> None:
    plain = journal.plain(stats)
    assert json.loads(journal.to_json(stats)) == plain
    if all(text.isprintable() for text in json.dumps(plain, ensure_ascii=False)):
        assert journal.to_json(stats) == json.dumps(plain, ensure_ascii=False)


@given(
    st.dictionaries(
        st.sampled_from(["A", "B_2", "SERENO_X", "MESSAGE"]), st.text() | st.text().map(str.encode)
    )
)
def test_a_datagram_is_read_as_it_was_meant(fields) -> None:
    data = sending.encoded({**fields, "lower": 1, "_A": 2, "NO": None})
    assert decoded(data) == {
        name: value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")
        for name, value in fields.items()
    }


@given(st.text(max_size=70))
def test_the_names_that_are_sent_are_those_that_journald_keeps(name: str) -> None:
    assert sending.is_field(name) is bool(JOURNAL_FIELD.fullmatch(name))


@pytest.mark.parametrize("size", [10, 300_000, 3_000_000])
def test_a_record_of_any_size_arrives_whole_and_leaves_no_descriptor(
    journald: Journald, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(sending, "SOCKET", str(journald.path))
    before = os.listdir("/proc/self/fd")
    message = "line\n" + "x" * size + "\n=\n"
    assert sending.send({"MESSAGE": message, "SERENO_JOB": "j"}) is None
    assert os.listdir("/proc/self/fd") == before
    assert journald.records() == [{"MESSAGE": message, "SERENO_JOB": "j"}]


def test_a_journal_that_does_not_read_is_waited_for_and_then_left(
    journald: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SOCKET", str(journald.path))
    error = None
    while error is None:
        error = sending.send({"MESSAGE": "x" * 1000}, wait_s=0.1)
    assert isinstance(error, TimeoutError)
    monkeypatch.setattr(sending, "SOCKET", f"{journald.path}.none")
    assert isinstance(sending.send({"MESSAGE": "x"}), FileNotFoundError)
