"""Text of others as people may see it: nothing in it that a terminal or a line's reader would obey. Pure."""

from __future__ import annotations


def printable(text: str, most: int | None = None) -> str:
    r"""`text` on one line: control, format and separating characters are shown as `\x1b`, `\n`, `\u202e`, …

    What is printable is what `str.isprintable` says. A backslash stays as it is: the result is for reading, and not to
    be turned back.

    Args:
        most: characters of the result; "…" is the last where something was left out. None: any number.
    """
    # Cut first too: of megabytes each character would be looked at.
    shown = text if most is None else text[: most + 1]
    if not shown.isprintable():
        shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in shown)
    return shown if most is None or len(shown) <= most else f"{shown[: most - 1]}…"


def printable_json(document: str) -> str:
    r"""The same for a JSON document, in its own escapes: `\u001b`. Line feeds between its values stay."""
    if document.replace("\n", "").isprintable():
        return document
    import json

    return "".join(
        one if one == "\n" or one.isprintable() else json.dumps(one)[1:-1] for one in document
    )
