"""Text of others as people may see it: nothing in it that a terminal or a line's reader would obey. Pure."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""`text` on one line: control, format and separating characters are shown as `\x1b`, `\n`, `\u202e`, …

    What is printable is what `str.isprintable` says. A backslash stays as it is: the result is for reading, and not to
    be turned back.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def printable_json(document: str) -> str:
    r"""The same for a JSON document, in its own escapes: `\u001b`. Line feeds between its values stay."""
    if document.replace("\n", "").isprintable():
        return document
    import json

    return "".join(
        one if one == "\n" or one.isprintable() else json.dumps(one)[1:-1] for one in document
    )
