"""What passes between the class of the contract and what stores bytes: limits, counts, outcomes, conditions."""

from __future__ import annotations

from sereno.errors import CacheFormatError, UsageError
from sereno.named_tuple import NamedTuple

KEPT_LIFETIME = -1
"""As a lifetime: an entry that is there expires when it would have; a new one gets the cache's default."""


class Superseded(CacheFormatError):
    """A newer sereno has the cache in files of its own. What this one would find may have been changed there."""


class TooLarge(UsageError):
    """A value that is larger than a limit of the cache allows."""

    def __init__(self, value_bytes: int, limit: str, limit_bytes: int) -> None:
        super().__init__(
            f"value: {value_bytes} bytes as JSON, and {limit} is {limit_bytes}",
            hint=f"keep it elsewhere and cache where it is, or raise that limit: MetadataCache({limit}=…)",
        )


class State(NamedTuple):
    """The limits that are stored with a cache; None: no limit."""

    max_size: int | None
    default_ttl_ms: int | None
    max_bytes: int | None
    max_value_bytes: int | None

    def changed(self, changes: dict[str, int | None]) -> State:
        """With other limits in the place of those that `changes` names."""
        names = ("max_size", "default_ttl_ms", "max_bytes", "max_value_bytes")
        return State(**(dict(zip(names, self, strict=True)) | changes))

    def check(self, stored: bytes, text: bytes) -> None:
        """Raises TooLarge for an entry that would not fit even alone."""
        if self.max_value_bytes is not None and len(text) > self.max_value_bytes:
            raise TooLarge(len(text), "max_value_bytes", self.max_value_bytes)
        if self.max_bytes is not None and len(stored) + len(text) > self.max_bytes:
            raise TooLarge(len(text), "max_bytes", self.max_bytes)


class Counted(NamedTuple):
    """Entries, what their keys and values take, what the file takes, the limits, and counters by name."""

    entries: int
    held_bytes: int
    file_bytes: int
    limits: State
    counters: dict[str, int]
    server_bytes: tuple[int, int] | None = None  # see CleanupReport


class Swept(NamedTuple):
    """One step of a sweep: entries that it removed and their bytes, how long it held the write lock, and how many slots
    have been looked at in all."""

    entries: int
    held_bytes: int
    hold_s: float
    looked_at: int


class Removed(NamedTuple):
    """Entries that were removed: all, and those that were alive; and where to go on."""

    entries: int
    live: int
    following: bytes | None = None


class Stored(NamedTuple):
    """Entries that were stored, and others that went for them; was what had been there as expected?"""

    entries: int
    evicted: int
    matched: bool = True


class Version(NamedTuple):
    """A key at one moment, for a `put` that must not undo what happened to it since; only its store reads it.

    Other keys may share what it is made of: then a change is seen that was none.
    """

    files: object  # of those that were closed since, nothing can be told
    generation: int
    removals: int


class Expectation:
    """The type of `ANYTHING` and `NOTHING`."""


ANYTHING, NOTHING = Expectation(), Expectation()
Expected = Expectation | bytes | Version
"""What a `put` asks for: `ANYTHING`; `NOTHING`, no live entry; the text that it must have; or a `Version`, since which
nothing may have changed the key."""
