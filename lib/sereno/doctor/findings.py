"""`Finding`: one thing that is not well. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

# A job does not run, or not as it was registered.
PROBLEM = "problem"
# It may go wrong, or could not be looked at.
WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not well.

    Attributes:
        level: PROBLEM or WARNING.
        subject: the unit, file or part that it is about.
        field, value: what was looked at and what it is, as systemd or the file system calls it.
        message: what that means, one sentence.
        hint: the way out: a command, or the words before one.
        check: name of the check that found it; `examine` fills it in.
    """

    level: str
    subject: str
    field: str
    value: str
    message: str
    hint: str
    check: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)
