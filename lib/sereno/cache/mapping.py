"""The cache as a mutable mapping, so that code written for one, `cachetools.cached` for instance, takes it."""

from __future__ import annotations

from sereno.cache.entry import Json, decode, encode, short
from sereno.cache.upkeep import Upkeep
from sereno.errors import CacheError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView
    from typing import Any
else:
    # `collections` itself is more than a run shall load.
    from _collections_abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView

_ABSENT = object()


def text_key(key: object) -> str:
    """The text under which a mapping key is stored: a str is itself, a tuple (`cachetools.keys.hashkey`) its JSON.

    Raises:
        TypeError: something in the tuple is neither JSON nor a class with a name of its own.
    """
    if isinstance(key, str):
        return key
    if not isinstance(key, tuple):
        raise TypeError(
            f"key: {short(key)} of type {type(key).__qualname__}, a str or a tuple of JSON values is needed"
        )
    return encode([_part(part) for part in key], "key").decode()


def _part(part: object) -> Json:
    # hashkey puts a class between positional and keyword arguments, typedkey the arguments' own.
    if isinstance(part, type) and "<locals>" not in part.__qualname__:
        return {"class": f"{part.__module__}.{part.__qualname__}"}
    if isinstance(part, tuple | list):
        return [_part(inner) for inner in part]
    return part


class CacheMapping(Upkeep, MutableMapping[object, Json]):  # type: ignore[misc]  # `get` names its key
    """The mapping's methods on top of those of a cache.

    Iterating sees what lives when it gets there. `dict(cache)` asks for one key after the other, so it ends in a
    KeyError when one goes meanwhile; `dict(cache.items())` does not.
    """

    # Equal contents would make neither cache the other, nor one that can be hashed.
    __eq__, __hash__ = object.__eq__, object.__hash__

    # Those of a cache.
    set: Callable[..., None]
    set_many: Callable[..., None]
    add: Callable[..., bool]
    invalidate: Callable[..., bool]
    _take: Callable[..., Json]

    def live_keys(self) -> Iterator[str]:
        """The live keys, in the order of their UTF-8 bytes, read in short snapshots."""
        for key, _ in self._live(with_values=False):
            yield key

    def _live_items(self) -> Iterator[tuple[str, Json]]:
        for key, text in self._live(with_values=True):
            if text is not None:
                yield key, decode(text)

    def _live(self, *, with_values: bool) -> Iterator[tuple[str, bytes | None]]:
        keys: list[str] = []
        start: Any = None
        while True:
            try:
                self._prepare()
                keys, start = self._backend.keys(start, self._now_ms())
                texts: list[bytes | None] = [None] * len(keys)
                if with_values:
                    texts = self._backend.fetch(keys, self._now_ms(), is_visit=False)
            except CacheError as error:
                self._bear(error)
                return
            yield from zip(keys, texts, strict=True)
            if start is None:
                return

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
        """The value of the key; stores `default` and returns it where there is none. One of many who do so stores."""
        while (value := self.get(text_key(key), _ABSENT)) is _ABSENT:
            if self.add(text_key(key), default):
                return default
        return value

    def pop(self, key: object, default: Json = _ABSENT) -> Json:
        """Removes the key and returns its value, `default` or KeyError where there is none. One of many gets it."""
        value = self._take(text_key(key), default)
        if value is _ABSENT:
            raise KeyError(key)
        return value

    def popitem(self) -> tuple[str, Json]:
        """Removes some live entry and returns it; KeyError where there is none. One of many gets it."""
        for key in self.live_keys():
            value = self._take(key, _ABSENT)
            if value is not _ABSENT:
                return key, value
        raise KeyError("popitem: the cache is empty")

    def update(self, other: Json = (), /, **values: Json) -> None:
        """`set_many` of a mapping, or of pairs of keys and values, and of `values`."""
        try:
            given = dict(other, **values)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"other: {short(other)} of type {type(other).__qualname__}, a mapping or pairs are needed"
            ) from error
        self.set_many({text_key(key): value for key, value in given.items()})

    def items(self) -> ItemsView[object, Json]:
        return _Items(self)

    def values(self) -> ValuesView[Json]:
        return _Values(self)

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


# The views of the standard library ask for each key's value, and fail when one goes meanwhile.


class _Items(ItemsView[object, Json]):
    _mapping: CacheMapping

    def __iter__(self) -> Iterator[tuple[object, Json]]:
        return self._mapping._live_items()


class _Values(ValuesView[Json]):
    _mapping: CacheMapping

    def __iter__(self) -> Iterator[Json]:
        return (value for _, value in self._mapping._live_items())

    def __contains__(self, value: object) -> bool:
        return any(value == each for each in self)
