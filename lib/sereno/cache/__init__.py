"""The metadata cache that all processes of a machine share. `MetadataCache` is what a user needs.

metadata     the class of the contract: arguments, counting, what a process keeps
mapping      the same as a mutable mapping
memoize      a decorator: one computation at a time per key, across processes
spelling     one way to write a call, for memoize
watch        what becomes of a key while its value is computed
operations   what is done inside one transaction
cleanup      removing what has expired, paced
statistics   counters and limits, and the reports made of them
session      a process's hold on a directory: open lazily, fork, damage
opening      opening, closing and replacing the files
making       creating them
files        each by a judged descriptor
waiting      locks that are waited for so long and no longer
judging      whether they can be trusted
synced       the mark of a clean end
store        entries in LMDB, and what is read of them
write        a transaction that changes them
order        the order in which the entries came
room         blocks on the disk for what is written into the map
board        words shared without transactions: generations, counters, marks
byte_lock    locks that die with their process
tally        how many entries there are, and their bytes
level        what one process keeps
policy       which entry goes: SIEVE
entry        an entry's bytes
codec        values as strict JSON
clock        the cache's own time
limits       arguments
place        directories and rights
"""

from __future__ import annotations

from sereno.cache.cleanup import CleanupReport
from sereno.cache.metadata import MetadataCache

__all__ = ["CleanupReport", "MetadataCache", "get_metadata_cache"]

_process_cache: MetadataCache | None = None


def get_metadata_cache() -> MetadataCache:
    """The process's cache, on the machine's shared files; the same object at every call.

    Its limits are those stored with the cache. Who wants others opens `MetadataCache(max_size=…, default_ttl=…)`
    once, in the backend's start-up code.
    """
    global _process_cache
    if _process_cache is None:
        _process_cache = MetadataCache()
    return _process_cache
