"""The cache as a mutable mapping, so that code written for one, `cachetools.cached` for instance, takes it."""

from __future__ import annotations

from abc import abstractmethod

from sereno.cache.codec import Json, encode
from sereno.cache.reads import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_ABSENT = object()


def text_key(key: object) -> str:
    """The text under which a mapping key is stored: a str is itself, a tuple (`cachetools.keys.hashkey`) its JSON.

    Raises:
        TypeError: something in the tuple is neither JSON nor a class.
    """
    if isinstance(key, str):
        return key
    if not isinstance(key, tuple):
        raise TypeError(
            f"key: {key!r} of type {type(key).__qualname__}, a str or a tuple of JSON values is needed"
        )
    return encode([_part(part) for part in key]).decode()


def _part(part: object) -> Json:
    # hashkey puts a class between positional and keyword arguments, typedkey the arguments' own.
    if isinstance(part, type):
        return {"class": f"{part.__module__}.{part.__qualname__}"}
    if isinstance(part, tuple | list):
        return [_part(inner) for inner in part]
    return part


class CacheMapping(Reader):
    """The mapping's methods on top of those of a cache; the abstract ones are those that a reader has not."""

    @abstractmethod
    def set(self, key: str, value: Json, ttl: float | None = None) -> None: ...

    @abstractmethod
    def invalidate(self, key: str) -> bool: ...

    @abstractmethod
    def live_keys(self) -> Iterator[str]: ...

    def __getitem__(self, key: object) -> Json:
        value = self.get(text_key(key), _ABSENT)
        if value is _ABSENT:
            raise KeyError(key)
        return value

    def __setitem__(self, key: object, value: Json) -> None:
        self.set(text_key(key), value)

    def __delitem__(self, key: object) -> None:
        if not self.invalidate(text_key(key)):
            raise KeyError(key)

    def setdefault(self, key: object, default: Json = None) -> Json:
        """The value of the key; stores `default` and returns it where there is none."""
        value = self.get(text_key(key), _ABSENT)
        if value is _ABSENT:
            self.set(text_key(key), default)
            return default
        return value

    def pop(self, key: object, default: Json = _ABSENT) -> Json:
        """Removes the key and returns its value, `default` or KeyError where there is none. Not atomic."""
        value = self.get(text_key(key), _ABSENT)
        if value is not _ABSENT and self.invalidate(text_key(key)):
            return value
        if default is _ABSENT:
            raise KeyError(key)
        return default

    def __contains__(self, key: object) -> bool:
        """Is there a live entry? Counts as no request."""
        return isinstance(key, str | tuple) and self.is_live(text_key(key))

    def __iter__(self) -> Iterator[str]:
        return self.live_keys()

    def __len__(self) -> int:
        """Counts the live entries, one by one; `get_stats()["size"]` costs nothing."""
        return sum(1 for _ in self.live_keys())

    def __bool__(self) -> bool:
        """True, also when empty: `if cache` asks whether there is a cache."""
        return True
