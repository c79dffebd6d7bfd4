"""What counts as a URL that a request can be sent to. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_http_url(text: object) -> bool:
    """Whether `text` is an http or https URL that can stand in a request line. User and password may be in it."""
    if not isinstance(text, str) or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
