"""Every link of a page leads to a file, a heading or an address, and every page is reached from the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import PAGES, README

from shipped import REPOSITORY

ALL = (*PAGES, REPOSITORY / "README.es.md", REPOSITORY / "CHANGELOG.md")
# Addresses that somebody has looked at; a test asks no server.
ADDRESSES = (
    "https://github.com/caronc/apprise/wiki",
    "https://github.com/systemd/python-systemd",
    "https://healthchecks.io/docs/http_api/",
    "https://pypi.org/project/",
)
NAMES = [str(page.relative_to(REPOSITORY)) for page in ALL]


def without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text("utf-8")))


def anchors(page: Path) -> set[str]:
    """The headings as GitHub names them: small letters and figures, spaces as hyphens, nothing else."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = REPOSITORY / name
    for link in links(page):
        if link.startswith("https:"):
            assert link.startswith(ADDRESSES), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{name}: {link}"
        assert not anchor or anchor in anchors(target), f"{name}: {link}"


def test_every_page_is_one_click_from_the_readme() -> None:
    linked = {(README.parent / link.partition("#")[0]).resolve() for link in links(README)}
    assert {page.resolve() for page in PAGES[1:]} <= linked


def test_the_readme_is_short_and_begins_with_how_to_install() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= 220
    assert any("install.sh" in line for line in lines[:30])
