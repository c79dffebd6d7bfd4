"""The manual pages say what the help and the pages of docs/ say, and every formatter reads them without complaint."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import manual
import pytest
from options_table import with_rows

from shipped import REPOSITORY

PAGES = sorted(manual.TEXTS)


def test_the_table_of_options_has_the_texts_of_the_code() -> None:
    """SERENO_TEST_GOLDEN=write writes it anew, before the pages that are made of it."""
    path = REPOSITORY / "docs/jobs.md"
    page = with_rows(path.read_text())
    if os.environ.get("SERENO_TEST_GOLDEN") == "write":
        path.write_text(page)
    assert path.read_text() == page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_the_help_and_the_pages_say(name: str) -> None:
    """SERENO_TEST_GOLDEN=write writes them anew; read the diff before you commit it."""
    path, text = manual.PAGES / name, manual.TEXTS[name]()
    if os.environ.get("SERENO_TEST_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text


def test_there_are_no_other_pages() -> None:
    assert sorted(path.name for path in manual.PAGES.iterdir()) == PAGES


@pytest.mark.parametrize("name", PAGES)
def test_groff_formats_a_page_without_a_warning(name: str) -> None:
    if not shutil.which("groff"):
        pytest.skip("no groff here (apt install groff)")
    command = ["groff", "-man", "-ww", "-Kutf8", "-Tutf8", "-rLL=80n", str(manual.PAGES / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    sections = ("General Commands", "File Formats", "Miscellaneous Information")
    assert any(section in done.stdout for section in sections)


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_has_nothing_against_a_page(name: str) -> None:
    if not shutil.which("mandoc"):
        pytest.skip("no mandoc here (apt install mandoc)")
    command = ["mandoc", "-Tlint", "-Wwarning", str(manual.PAGES / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_command_and_argument_is_in_the_page() -> None:
    text = (manual.PAGES / "sereno.1").read_text().replace("\\-", "-")
    for command in manual.commands(manual.cli._parser()):
        assert f".SS {command.prog}\n" in text
        for action in manual.arguments(command):
            assert manual.signature(action) in text


def test_a_page_has_everything_that_its_source_says() -> None:
    """Also where a table or a list is in the source: no word is lost on the way."""
    for name, page in manual.FROM_DOCS.items():
        text = "".join(map(manual.text_of, page.sources))
        for heading in page.without:
            text = re.sub(
                rf"^## {heading}\n.*?(?=^## |\Z)", "", text, flags=re.MULTILINE | re.DOTALL
            )
        text = re.sub(r"^# .*|<!--.*?-->|\]\([^)]*\)|```\w*|\|.*\n(?=\|[ -]+\|)", " ", text)
        shown = (manual.PAGES / name).read_text().lower()
        for mark, character in (("\\-", "-"), ("\\(aq", "'"), ("\\e", "\\")):
            shown = shown.replace(mark, character)
        missing = {word for word in re.findall(r"[a-z_]{4,}", text.lower()) if word not in shown}
        assert not missing, (name, missing)
