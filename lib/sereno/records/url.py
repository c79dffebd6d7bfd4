"""What counts as a URL that a request can be sent to, and which parts of one are shown to nobody. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from sereno.records.printable import printable


def is_http_url(text: object) -> bool:
    """Whether `text` is an http or https URL that can stand in a request line. User and password may be in it."""
    if not isinstance(text, str) or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def secrets_of(url: str) -> list[str]:
    """All words of a URL but its scheme: where a token stands in it is known to its server alone."""
    words = re.split(r"[/?&=:;,@#]+", url.partition(":")[2])
    return [*words, *map(unquote, words)]


def without(text: str, secrets: Iterable[str], length: int) -> str:
    """What somebody else says, on one printable line of at most `length` characters, with "…" for these words in it.

    Words of less than 4 characters stay: they hide nothing, and are part of others.
    """
    for word in sorted(filter(None, secrets), key=len, reverse=True):
        if len(word) >= 4:
            text = text.replace(word, "…")
    return printable(text, length)
