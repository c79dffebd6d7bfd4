"""README.es.md is README.md in Spanish: whoever changes one without the other is told in which section.

Comments in the blocks are Spanish there, and everything else in them is the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

import pytest
from pages import README, fences

from shipped import REPOSITORY

ENGLISH, SPANISH = ((REPOSITORY / name).read_text() for name in ("README.md", "README.es.md"))
CROSS_LINKS = ("[En español](README.es.md)", "[In English](README.md)")
_PARTS = re.compile(
    r"^(?P<fence>(?:(?P<indent> *)<!-- [^\n]+ -->\n)?(?P<inner> *)```\w+\n.*?^(?P=inner)```$)"
    r"|^(?P<heading>#+ [^\n]+)$"
    r"|^(?P<table>(?:\|[^\n]*(?:\n|\Z))+)"
    r"|^(?P<text>[^\n]+)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Section:
    heading: str
    fences: list[str] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)  # rows of cells
    paragraphs: list[str] = field(default_factory=list)  # a list item is one too

    @property
    def level(self) -> int:
        return len(self.heading) - len(self.heading.lstrip("#"))

    @property
    def prose(self) -> str:
        cells = (cell for table in self.tables for row in table for cell in row)
        return " ".join([self.heading, *self.paragraphs, *cells])


def sections(text: str) -> list[Section]:
    """The README as its sections, without the line that links to the other language."""
    found: list[Section] = []
    end = 0
    for part in _PARTS.finditer(text):
        follows = text[end : part.start()] == "\n" and part.start() > 0
        end = part.end()
        if part["heading"]:
            found.append(Section(part["heading"]))
        elif part["fence"]:
            found[-1].fences.append(part["fence"])
        elif part["table"]:
            rows = part["table"].splitlines()
            found[-1].tables.append([re.split(r"(?<!\\)\|", row)[1:-1] for row in rows])
            end -= 1
        elif part["text"] not in CROSS_LINKS:
            starts_item = re.match(r"- |\d+\. ", part["text"])
            if follows and not starts_item and found[-1].paragraphs:
                found[-1].paragraphs[-1] += " " + part["text"].strip()
            else:
                found[-1].paragraphs.append(part["text"].strip())
    return found


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def links(text: str) -> list[str]:
    """Where the links lead; a heading of the page itself has another name in Spanish."""
    return [re.sub(r"^#.*", "#", link) for link in re.findall(r"\]\(([^)]+)\)", text)]


def without_comments(block: str | None) -> str | None:
    """A block in which a comment is in its place, whatever it says."""
    return None if block is None else re.sub(r" +# .*", " #", block)


def numbers(text: str) -> list[str]:
    """The figures of the prose; the thousands' comma of English would be a decimal one in Spanish."""
    prose = re.sub(r"`[^`]+`|\]\([^)]+\)", "", text)
    return [found.replace(",", "") for found in re.findall(r"(?<!\w)\d+(?:[.,]\d+)*", prose)]


def pairs(english: str, spanish: str) -> Iterator[tuple[str, Section, Section]]:
    for one, other in zip(sections(english), sections(spanish), strict=False):
        yield f"{one.heading!r} / {other.heading!r}", one, other


def headings_that_differ(english: str, spanish: str) -> list[str]:
    for one, other in zip_longest(sections(english), sections(spanish)):
        if one is None or other is None or one.level != other.level:
            names = [section.heading if section else "nothing" for section in (one, other)]
            return [f"README.md has {names[0]!r} where README.es.md has {names[1]!r}"]
    return []


def paragraphs_that_differ(english: str, spanish: str) -> list[str]:
    return [
        f"{where}: {len(one.paragraphs)} paragraphs and list items, in Spanish {len(other.paragraphs)}"
        for where, one, other in pairs(english, spanish)
        if len(one.paragraphs) != len(other.paragraphs)
    ]


def blocks_that_differ(english: str, spanish: str) -> list[str]:
    return [
        f"{where}, block {number}:\n{block}\nin Spanish:\n{its_copy}"
        for where, one, other in pairs(english, spanish)
        for number, (block, its_copy) in enumerate(zip_longest(one.fences, other.fences), 1)
        if without_comments(block) != without_comments(its_copy)
    ]


def _row(cells: list[str] | None) -> list[tuple[list[str], list[str]]] | None:
    """What a row has in any language: per cell its inline code and its figures."""
    return None if cells is None else [(sorted(code(c)), sorted(numbers(c))) for c in cells]


def rows_that_differ(english: str, spanish: str) -> list[str]:
    return [
        f"{where}, table {number}: {'|'.join(row or ['nothing'])}\nin Spanish: {'|'.join(its_row or ['nothing'])}"
        for where, one, other in pairs(english, spanish)
        for number, (table, its_copy) in enumerate(
            zip_longest(one.tables, other.tables, fillvalue=[]), 1
        )
        for row, its_row in zip_longest(table, its_copy)
        if _row(row) != _row(its_row)
    ]


def words_that_differ(english: str, spanish: str) -> list[str]:
    found = []
    for where, one, other in pairs(english, spanish):
        for kind, words in (("code", code), ("links", links), ("figures", numbers)):
            here, there = Counter(words(one.prose)), Counter(words(other.prose))
            if here != there:
                only = (sorted((here - there).elements()), sorted((there - here).elements()))
                found.append(
                    f"{where}: {kind} only in README.md {only[0]}, only in README.es.md {only[1]}"
                )
    return found


def test_each_links_to_the_other_right_below_its_title() -> None:
    for text, link in zip((ENGLISH, SPANISH), CROSS_LINKS, strict=True):
        assert text.split("\n")[:4] == ["# sereno", "", link, ""]


def test_every_block_of_the_readme_is_compared() -> None:
    assert sum(len(section.fences) for section in sections(ENGLISH)) == fences(README)


@pytest.mark.parametrize(
    "differences",
    [
        headings_that_differ,
        paragraphs_that_differ,
        blocks_that_differ,
        rows_that_differ,
        words_that_differ,
    ],
)
def test_the_two_languages_say_the_same(differences: Callable[[str, str], list[str]]) -> None:
    assert not (found := differences(ENGLISH, SPANISH)), "\n\n".join(found)


@pytest.mark.parametrize(
    ("differences", "before", "after"),
    [
        (headings_that_differ, "### How it is built\n", "#### How it is built\n"),
        (headings_that_differ, "### How it is built\n", ""),
        (paragraphs_that_differ, "\nEach run is a", "\nOne more.\n\nEach run is a"),
        (paragraphs_that_differ, "- **A cached value", "- one more;\n- **A cached value"),
        (blocks_that_differ, "--app shop --prune", "--app shop"),
        (blocks_that_differ, "ttl=300)\n", "ttl=300)  # one comment more\n"),
        (blocks_that_differ, "  # the statistics of this run", ""),
        (blocks_that_differ, "<!-- file: /srv/shop", "<!-- file: /srv/shops"),
        (rows_that_differ, "(docs/notify.md) | `sereno-notify`", "(docs/notify.md) | `sereno`"),
        (rows_that_differ, "| What does it cost", "| One more? | | |\n| What does it cost"),
        (
            rows_that_differ,
            "(docs/jobs.md) | `sereno-jobs` |",
            "(docs/jobs.md) | `sereno-jobs` | |",
        ),
        (words_that_differ, "some 12 minutes", "some 13 minutes"),
        (words_that_differ, "`loginctl enable-linger`", "`loginctl`"),
        (words_that_differ, "(docs/cache.md)", "(docs/jobs.md)"),
    ],
)
def test_a_change_of_one_language_alone_is_noticed(
    differences: Callable[[str, str], list[str]], before: str, after: str
) -> None:
    assert ENGLISH.count(before) == 1
    assert differences(ENGLISH.replace(before, after), SPANISH)
