"""One process's hold on one cache directory.

LMDB must not be opened twice in a process, nor used by a forked child; so a session is shared by all `MetadataCache`
objects on the same directory, opens at the first use, and again in a child, after `close`, and when the files were
replaced underneath.
"""

from __future__ import annotations

import atexit
import mmap
import os
import sys
import weakref
from _thread import RLock

import lmdb

from sereno.cache import clock, damage, entry, files, place
from sereno.cache.board import RETIRED
from sereno.cache.entry import Damaged
from sereno.cache.store import Store, translated
from sereno.cache.values import Superseded
from sereno.cache.write import Write
from sereno.errors import CacheError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from sereno.cache.reads import Reader

    Result = TypeVar("Result")


CHECK_EVERY_S = 1.0
"""How long a process may go on with files that somebody removed or swapped by hand."""
TRIES = 3
MOST_OPENINGS = 100
_MADV_WIPEONFORK = 18  # madvise(2); the module mmap has no name for it


class Session:
    """The open files and the two locks around them.

    `lock` guards reads from the store and what a process keeps of them; `write_lock` guards write transactions, and is
    taken first where both are needed. A fork waits for both: a child must not inherit an open transaction, which it
    could neither use nor end.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = RLock()
        self.write_lock = RLock()
        self.store: Store | None = None
        self._write: Write | None = None
        self._users: set[weakref.ref[Reader]] = set()
        self._superseded: Superseded | None = None
        self._pid = os.getpid()
        # By C's own functions: a signal's handler may raise at the start of any of Python's, and the lock stay taken.
        # What is registered last comes first.
        for lock in (self.lock, self.write_lock):
            os.register_at_fork(before=lock.acquire, after_in_parent=lock.release)
        # Fails where no file can be opened; a session that is left out notices the fork at its next use.
        os.register_at_fork(after_in_child=self.after_fork_in_child)
        # [0]: until then, by CLOCK_BOOTTIME in seconds, the files are taken for those in use. The page is wiped in a
        # child, also in one that C code forked without a hook of Python's, as uWSGI does.
        self.check_at = _wiped_on_fork()

    def add_user(self, user: Reader) -> None:
        """Has `user` told of every change from now on."""
        with self.lock:
            self._users.add(weakref.ref(user, self._forget))
            if self.store is not None:
                user.files_changed(self.store)

    def reading(self, action: Callable[..., Result], *arguments: Any) -> Result:
        """`action(store, *arguments)` with `lock` held; the files are opened, or replaced when damaged, as needed."""
        self._begin()
        failures: list[Exception] = []
        for _ in range(MOST_OPENINGS):
            # None: they are not open yet, or another thread has closed them, which is no damage.
            failure: Exception | None = None
            with self.lock:
                store = self._usable()
                if store is not None:
                    try:
                        return action(store, *arguments)
                    except (lmdb.Error, Damaged) as error:
                        failure = error
                        failures.append(error)
            self._recover(failure)
            if len(failures) == TRIES:
                raise CacheError(
                    f"cache {self.path}: damaged again and again: {failure}"
                ) from failure
        raise CacheError(
            f"cache {self.path}: others close or replace its files whenever they are opened"
        )

    def written(self, action: Callable[..., Result], *arguments: Any) -> Result:
        """`action(write, *arguments)` in a write transaction; once more on new files when the old ones are damaged.

        When it raises, a CacheError or what the action raised, nothing of it was done.
        """
        failure: Exception | None = None
        for _ in range(TRIES):
            # In a child that C code forked too, and so before any lock of its parent's.
            is_due = clock.boottime_s(clock.BOOTTIME) >= self.check_at[0]
            if is_due or self.store is None:
                self._begin()
            with self.write_lock:
                store = self.store
                if is_due or store is None or store.words[RETIRED]:
                    self._usable() or self._reopen()
                write = self._write
                assert write is not None
                try:
                    return write.run(action, arguments)
                except (lmdb.Error, Damaged) as error:
                    failure = error
                    self._recover(error)
                except OSError as error:
                    if isinstance(error, CacheError):
                        raise
                    raise place.refused(self.path, error) from error
        raise CacheError(f"cache {self.path}: damaged again and again: {failure}") from failure

    def close(self) -> None:
        """Closes the files; the next use opens them again."""
        self._notice_fork()
        with self.write_lock, self.lock:
            store = self.store
            self._tell(None)
            if store is not None:
                files.close_store(self.path, store)

    def _forget(self, user: weakref.ref[Reader]) -> None:
        global _unused
        self._users.discard(user)
        if not self._users:
            # The one before. This one may come again: who makes an object for each request would wait for the disk at
            # the end of each.
            _unused, before = self, _unused
            if before is not None and before is not self:
                before.close_unused()

    def close_unused(self) -> None:
        """`close` where the last who used it is gone.

        An object may go anywhere, also in a handler of a signal or while a lock is held, and whoever holds one of these
        may wait for this thread. So nothing is waited for: what stays open is closed when the next session begins.
        """
        if self._users or self.store is None:
            return
        self._notice_fork()
        locks = self.write_lock, self.lock
        taken = [lock for lock in locks if lock.acquire(blocking=False)]
        try:
            if len(taken) == len(locks) and not self._users:
                self.close()
        finally:
            for lock in taken:
                lock.release()

    def _usable(self) -> Store | None:
        store = self.store
        if store is None or store.board.words[RETIRED]:
            return None
        now_s = clock.boottime_s(clock.BOOTTIME)
        if now_s >= self.check_at[0]:
            if not files.is_current(self.path, store.board):
                store.board.retire()
                return None
            self.check_at[0] = now_s + CHECK_EVERY_S
        return store

    def _recover(self, failure: Exception | None) -> None:
        """Makes the files usable again after `failure`, or opens them when there was none."""
        with self.write_lock:
            if isinstance(failure, lmdb.Error):
                kind = translated(failure, self.path)
                if isinstance(failure, lmdb.PanicError):
                    # LMDB could not write its own meta page (a full disk): the file is sound, this environment is not.
                    self._reopen()
                if isinstance(kind, CacheError):
                    raise kind from failure
                failure = kind
            if isinstance(failure, Damaged) and self.store is not None:
                files.set_aside(self.path, self.store.board, str(failure))
            if self._usable() is None:
                self._reopen()

    def _reopen(self) -> Store:
        with self.write_lock, self.lock:
            old = self.store
            self._tell(None)
            if old is not None:
                old.close()
                old.board.close()
            try:
                store = files.open_store(self.path)
            except Superseded as error:
                # Until this process ends: nothing that it could do would make its files the cache's again.
                self._superseded = error
                damage.report("%s; until then it finds nothing and stores nothing", str(error))
                raise
            self.check_at[0] = clock.boottime_s(clock.BOOTTIME) + CHECK_EVERY_S
            self._tell(store)
            _close_at_the_end_of_a_worker()
            return store

    def _tell(self, store: Store | None) -> None:
        self.store = store
        self._write = None if store is None else Write(store)
        for each in list(self._users):
            user = each()
            if user is not None:
                user.files_changed(store)

    def _begin(self) -> None:
        """What comes before each use: raises where the files are a newer sereno's."""
        self._notice_fork()
        if self._superseded is not None:
            raise self._superseded

    def _notice_fork(self) -> None:
        """Before any lock, which a thread of the parent may have held."""
        if not self.check_at[0] and self._pid != os.getpid():
            self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Lets go of the parent's files; called in the only thread that there is, with no transaction open."""
        self._pid = os.getpid()
        self.check_at[0] = 0.0
        for lock in (self.lock, self.write_lock):
            lock._at_fork_reinit()  # type: ignore[attr-defined]
        store = self.store
        self._tell(None)
        if store is not None:
            store.abandon()
            store.board.close(gives_line_back=False)


def _wiped_on_fork() -> memoryview[float]:
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.madvise(_MADV_WIPEONFORK)
    return memoryview(page).cast("d")


_sessions: dict[str, Session] = {}
_registry_lock = RLock()
_unused: Session | None = None
"""The one that was left by its last user last."""


def session_for(path: str) -> Session:
    """The session of a directory: the same object for every way to write its path."""
    real = place.resolved(path)
    with _registry_lock:
        session = _sessions.get(real)
        if session is None:
            for other in _sessions.values():
                other.close_unused()
            session = _sessions[real] = Session(real)
        return session


def close_all() -> None:
    for session in list(_sessions.values()):
        session.close()


def _close_at_the_end_of_a_worker() -> None:
    # multiprocessing ends its children with os._exit, without atexit, but with this.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, close_all, exitpriority=-100)


# A child inherits the locks of modules that another thread is loading, and waits for them without an end.
for _lock in (entry.loading, _registry_lock):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
atexit.register(close_all)
