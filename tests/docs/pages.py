"""README.md and the pages of docs/ as a list of blocks, each with the comment above it that says what it is.

<!-- file: PATH -->      a file; a relative path is one of the checkout (or of the example's own folder)
<!-- run: WHERE -->      commands: server, tests, checkout, fastapi, archive, image; or Python: cache
<!-- jobs: MODULE -->    a module with functions and their `register`
<!-- part of: PATH -->   lines of a file on the server
<!-- shows: COMMAND -->  what a command prints on the server, but for the figures
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from shipped import REPOSITORY

README = REPOSITORY / "README.md"
# In the order in which a server meets their commands.
PAGES = (README, *sorted((REPOSITORY / "docs").glob("*.md")))
_BLOCK = re.compile(
    r"^(?P<indent> *)<!-- (?P<kind>[a-z ]+): (?P<argument>[^\n]+) -->\n"
    r"(?P=indent)```(?P<language>[a-z]+)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    kind: str
    argument: str
    language: str
    text: str


def text_of(name: str) -> str:
    """A page of docs/ by its name without `.md`."""
    return (REPOSITORY / f"docs/{name}.md").read_text("utf-8")


def blocks(*pages: Path) -> list[Block]:
    """Every block of `pages` (default: all) that says what it is, in order, without the indentation of a list."""
    return [
        Block(
            found["kind"],
            found["argument"],
            found["language"],
            re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
        )
        for page in pages or PAGES
        for found in _BLOCK.finditer(page.read_text("utf-8"))
    ]


def fences(*pages: Path) -> int:
    """How many fenced blocks `pages` have, whether they say what they are or not."""
    return sum(
        len(re.findall(r"^ *```[a-z]+$", page.read_text("utf-8"), re.MULTILINE))
        for page in pages or PAGES
    )


def write_into_checkout(checkout: Path) -> None:
    """Do to a checkout what the section on a job that ships says."""
    for block in blocks():
        if block.kind == "file" and not block.argument.startswith(("/", "shop/", "servers/")):
            path = checkout / block.argument
            path.write_text(block.text)
            if path.parent.name == "bin":
                path.chmod(0o755)
