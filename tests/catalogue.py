"""systemd's message catalogues in systemd/, read: what `journalctl -x` says of each kind of record."""

from __future__ import annotations

import re
from typing import NamedTuple

from shipped import REPOSITORY

FILES = {"en": "sereno.catalog", "es": "sereno.es.catalog"}
ENTRY = re.compile(
    r"-- ([0-9a-f]{32})\nSubject: (.+)\nDefined-By: sereno\n"
    r"Documentation: man:sereno\(1\)\nDocumentation: man:sereno-jobs\(5\)\n\n"
    r"((?:(?!-- [0-9a-f]{32}\n).*\n)+)"
)


class Entry(NamedTuple):
    """One kind of record; `@FIELD@` is the record's own."""

    kind: str
    subject: str
    body: str


def entries(language: str) -> list[Entry]:
    """Of one of FILES, in its order. Raises AssertionError where anything in it is no entry."""
    text = (REPOSITORY / "systemd" / FILES[language]).read_text("utf-8")
    found = [Entry(kind, subject, body.strip("\n")) for kind, subject, body in ENTRY.findall(text)]
    assert not ENTRY.sub("", text).strip()
    return found
