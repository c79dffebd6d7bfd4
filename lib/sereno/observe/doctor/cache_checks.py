"""The checks of the scope's metadata cache: who may use it, and how full and how useful it is. Pure."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping

from sereno.jobs.cache_cleanup_job import THRESHOLDS
from sereno.observe.doctor.facts import CacheFacts, Entry, Facts, Finding, problem, warning
from sereno.records.printable import printable

CAPACITY_PERCENT = THRESHOLDS["SERENO_ALERT_CAPACITY_PERCENT"]
HIT_RATE_PERCENT = THRESHOLDS["SERENO_ALERT_HIT_RATE_PERCENT"]
MIN_REQUESTS = THRESHOLDS["SERENO_ALERT_MIN_REQUESTS"]
SLOW_MS = 10.0
_LAY = "systemd-tmpfiles --create sereno.conf"


def rights(facts: Facts) -> Iterator[Finding]:
    cache = facts.cache
    # Without the group nothing can belong to it.
    if cache is None or (cache.wanted and facts.groups.get(cache.wanted[2], 0) is None):
        return
    if facts.at("/var/cache/sereno").is_read_only:
        return
    for path in cache.missing:
        yield problem(path, "directory", "missing", "the shared cache has no place", _LAY)
    if cache.wanted:
        yield from _of_the_machine(cache, cache.wanted)
        return
    for entry in cache.directories:
        if entry.mode & 0o002:
            yield problem(entry.path, "mode", f"{entry.mode:04o}",
                          "strangers may write to it, so that no cache is opened there",
                          f"chmod o-w {shlex.quote(entry.path)}")  # fmt: skip


def _of_the_machine(cache: CacheFacts, wanted: tuple[int, str, str]) -> Iterator[Finding]:
    group = wanted[2]
    # Who may write the directory can swap what is in it before it is changed; so it is not advised to.
    clear = (
        f"rm -r {shlex.quote(cache.directories[-1].path)} && {_LAY}" if cache.directories else ""
    )
    right: list[tuple[Entry, tuple[int, str, str], str]] = [
        *((entry, wanted, _LAY) for entry in cache.directories),
        *((entry, (0o2770 if entry.is_directory else 0o660, entry.owner, group), clear)
          for entry in cache.inside),
    ]  # fmt: skip
    for entry, expected, hint in right:
        found = (entry.mode, entry.owner, entry.group)
        if found != expected:
            yield problem(entry.path, "mode, owner, group", _shown(*found),
                          f"some processes cannot use the cache; right is {_shown(*expected)}", hint)  # fmt: skip


def _shown(mode: int, owner: str, group: str) -> str:
    return f"{mode:04o} {owner} {group}"


def _of_a_server(told: Mapping[str, str]) -> Iterator[Finding]:
    """Findings about the server of a cache of many hosts, by what its INFO says."""
    most, used = int(told.get("maxmemory", 0)), int(told.get("used_memory", 0))
    policy = told.get("maxmemory_policy", "")
    # field, value, is it wrong, what that means, the way out
    rows = (
        ("role", told.get("role", ""), told.get("role") != "master",
         "a replica is behind its primary, and takes no writes", "SERENO_CACHE_URL: name the primary"),
        ("connected_slaves", told.get("connected_slaves", "0"), told.get("connected_slaves", "0") != "0",
         "after a failover clients on both sides may see different caches", "a cache needs no replica"),
        ("maxmemory", str(most), not most,
         "it takes all memory of its machine", "maxmemory 1gb in its configuration"),
        ("used_memory", f"{used} of {most}", bool(most) and 100 * used > CAPACITY_PERCENT * most,
         f"it is over {CAPACITY_PERCENT:g} % full and evicts what is still good",
         "a higher maxmemory, or a lower default_ttl"),
        ("maxmemory_policy", policy, not policy.startswith("volatile-"),
         "a full server refuses to store" if policy == "noeviction" else
         "it may evict sereno's own keys, and so everything",
         "maxmemory-policy volatile-lfu in its configuration"),
        ("persistence", f"rdb_saves {told.get('rdb_saves', '0')}, aof_enabled {told.get('aof_enabled', '0')}",
         told.get("rdb_saves", "0") != "0" or told.get("aof_enabled", "0") != "0",
         "what it saves is never read again: a server that starts anew is an empty cache",
         'save "" and appendonly no in its configuration'),
        ("latency_ms", told["latency_ms"], float(told["latency_ms"]) > SLOW_MS,
         "every read waits for so long", "a server nearer by, or less busy; or ?max_stale= in SERENO_CACHE_URL"),
    )  # fmt: skip
    for field, value, is_wrong, message, hint in rows:
        if is_wrong:
            yield warning("cache server", field, printable(value), message, hint)


def health(facts: Facts) -> Iterator[Finding]:
    cache = facts.cache
    if cache is None:
        return
    if cache.error is not None:
        yield problem("cache", "open", "refused", printable(cache.error),
                      facts.command("journalctl SERENO_JOB=cache_cleanup_hourly"))  # fmt: skip
    for path in cache.damaged:
        yield warning(
            path, "files", "damaged",
            "the cache was found damaged and started empty; its old files are there for whoever wants to know why",
            f"rm -r {shlex.quote(path)}" if cache.wanted is None else
            f"runuser -u sereno -- find {shlex.quote(os.path.dirname(path))} -maxdepth 1 -name 'damaged-*'"
            " -exec rm -r {} +",
        )  # fmt: skip
    if cache.server is not None:
        yield from _of_a_server(cache.server)
    if cache.stats is None:
        return
    size, max_size = cache.stats["size"], cache.stats["max_size"]
    if max_size is not None and 100 * size > CAPACITY_PERCENT * max_size:
        yield warning(
            "cache", "size", f"{size} of {max_size}",
            f"it is over {CAPACITY_PERCENT:g} % full and evicts what is still good",
            "store a higher max_size or a lower default_ttl: MetadataCache(max_size=…); or: sereno cache clear",
        )  # fmt: skip
    rate, asked = cache.stats["hit_rate_percent"], cache.stats["total_requests"]
    if asked > MIN_REQUESTS and rate < HIT_RATE_PERCENT:
        yield warning("cache", "hit_rate_percent", str(rate),
                      f"less than {HIT_RATE_PERCENT:g} % of {asked} requests were hits",
                      "sereno cache stats; count again after a change: MetadataCache().reset_stats()")  # fmt: skip
