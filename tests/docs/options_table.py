"""The options of a job in the table of docs/jobs.md: made from the texts in `sereno.declare.options`."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise

from sereno.declare import options

# The rows before are of the schedule.
_LAST_OF_SCHEDULE = re.compile(r"^\| `timezone=`.*\n", re.MULTILINE)


def rows() -> Iterator[str]:
    """A row for each option: its text up to `Default:`, and what follows that."""
    module = ast.parse(inspect.getsource(options))
    for kind in (node for node in module.body if isinstance(node, ast.ClassDef)):
        if kind.name in ("Options", "Registration"):
            for field, text in pairwise(kind.body):
                if isinstance(field, ast.AnnAssign):
                    assert isinstance(field.target, ast.Name)
                    assert isinstance(text, ast.Expr), f"{field.target.id} has no text"
                    assert isinstance(text.value, ast.Constant), field.target.id
                    words = " ".join(str(text.value.value).split())
                    meaning, _, default = words.removesuffix(".").partition(". Default: ")
                    yield f"| `{field.target.id}=` | {meaning} | {default} |\n"


def with_rows(page: str) -> str:
    """The page docs/jobs.md with the rows of the options as they are now."""
    end = _LAST_OF_SCHEDULE.search(page)
    assert end is not None
    rest = re.sub(r"\A(\|.*\n)*", "", page[end.end() :])
    return page[: end.end()] + "".join(rows()) + rest
