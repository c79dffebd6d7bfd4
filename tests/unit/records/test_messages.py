"""The table of the log's texts and its explanations: complete, in both languages, and what systemd has installed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import catalogue
from sereno.records import messages
from sereno.records.messages import Message

REPOSITORY = Path(__file__).parents[3]
LIB = REPOSITORY / "lib/sereno"
TABLE = {name: value for name, value in vars(messages).items() if isinstance(value, Message)}
ARGUMENT = re.compile(r"%[-.\d]*[a-z%]")
HEAD = re.compile(r"-- [0-9a-f]{32}")


@pytest.mark.parametrize("name", TABLE)
def test_a_message_takes_the_same_arguments_in_both_languages(name: str) -> None:
    message = TABLE[name]
    assert message.en
    assert message.es
    assert ARGUMENT.findall(message.es) == ARGUMENT.findall(message.en)


def test_kinds_are_128_bit_and_no_text_has_two() -> None:
    kinds = [message.kind for message in TABLE.values() if message.kind]
    assert all(re.fullmatch(r"[0-9a-f]{32}", kind) for kind in kinds)
    assert len(set(kinds)) == 18
    assert len({message.es for message in TABLE.values()}) == len(TABLE)


def test_every_message_of_the_table_is_used() -> None:
    code = "\n".join(path.read_text() for path in LIB.rglob("*.py") if path.name != "messages.py")
    assert set(TABLE) <= set(re.findall(r"\bmessages\.(\w+)", code))


def test_no_spanish_text_is_anywhere_but_in_the_table() -> None:
    spanish = re.compile(r"[áéíóúñ¿¡]|\b(Tarea|fallida|Caché|Aviso)\b")
    for path in LIB.rglob("*.py"):
        if path.stem == "messages" or not spanish.search(path.read_text()):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not spanish.search(node.value), f"{path.name}: {node.value!r}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("en", "Job %s started"),
        ("en_GB", "Job %s started"),
        ("es", "Tarea %s iniciada"),
        ("fr", "Tarea %s iniciada"),
        ("", "Tarea %s iniciada"),
    ],
)
def test_the_log_is_spanish_unless_english_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, value: str, text: str
) -> None:
    monkeypatch.setenv("SERENO_LANG", value)
    assert str(messages.STARTED) == text


def test_a_run_logs_in_english_where_it_is_asked_to() -> None:
    environment = {
        "PYTHONPATH": f"{REPOSITORY / 'lib'}:{Path(__file__).parents[1]}",
        "SERENO_LANG": "en",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sereno.runner", "a_job", "sample_jobs:nothing"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, last = done.stderr.splitlines()
    assert first == "INFO: Job a_job started"
    assert re.fullmatch(r"INFO: Job a_job finished in [\d.]+ms", last)


@pytest.mark.parametrize("language", catalogue.FILES)
def test_every_kind_is_explained_once(language: str) -> None:
    explained = [entry.kind for entry in catalogue.entries(language)]
    assert len(explained) == len(set(explained))
    assert set(explained) == {message.kind for message in TABLE.values() if message.kind}


@pytest.mark.parametrize(
    ("english", "spanish"),
    list(zip(catalogue.entries("en"), catalogue.entries("es"), strict=True)),
    ids=lambda entry: entry.kind[:6],
)
def test_an_explanation_fits_a_terminal_and_shows_the_same_fields_in_both_languages(
    english: catalogue.Entry, spanish: catalogue.Entry
) -> None:
    assert english.kind == spanish.kind
    fields = set()
    for entry in (english, spanish):
        lines = entry.body.splitlines()
        assert max(map(len, lines)) <= 100
        # One malformed entry takes the others with it (https://systemd.io/CATALOG): what would begin another entry, or
        # a comment, which the format does not have within an entry.
        assert not [line for line in lines if HEAD.match(line) or line.startswith(("#", ";"))]
        assert len(entry.subject) <= 90
        fields.add(frozenset(re.findall(r"@([A-Z_]+)@", entry.subject + entry.body)))
    assert len(fields) == 1


def test_systemd_reads_both_catalogues(tmp_path: Path) -> None:
    place = tmp_path / "usr/lib/systemd/catalog"
    place.mkdir(parents=True)
    for name in catalogue.FILES.values():
        (place / name).write_text((REPOSITORY / "systemd" / name).read_text())
    command = ["journalctl", f"--root={tmp_path}"]
    done = subprocess.run(
        [*command, "--update-catalog"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for entry in catalogue.entries("en"):
        shown = subprocess.run(
            [*command, "--dump-catalog", entry.kind], capture_output=True, text=True,
            check=True, env={**os.environ, "LC_ALL": "C.UTF-8"},
        ).stdout  # fmt: skip
        assert f"Subject: {entry.subject}\n" in shown
        assert shown.rstrip().endswith(entry.body)
