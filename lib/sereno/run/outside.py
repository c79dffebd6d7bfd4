"""A run that systemd did not start: in a container, as process 1 too, or by another scheduler.

Loaded where one of these settings is there and the run is not systemd's:

    SERENO_LOG           json: each record is a line of JSON on standard output, with the fields of the journal's
    SERENO_RUN_ID        a UUID for SERENO_RUN, such as the pod's; default: a new one
    SERENO_ELAPSE        when it was due: a time with its zone, or the name of a Job, which ends with the minute
    SERENO_EXIT_SKIPPED  the exit status of a run that is left out; default: 77
"""

from __future__ import annotations

import os
import re
from _thread import RLock
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from select import PIPE_BUF, POLLOUT, poll
from time import time
from typing import Any, NamedTuple, TypeVar
from uuid import UUID, uuid4

from sereno.errors import SKIPPED, UsageError
from sereno.records import journal, sending
from sereno.run import identity
from sereno.setting_names import ELAPSE, EXIT_SKIPPED, LOG, MISFIRE_GRACE_S, RUN_ID

_Value = TypeVar("_Value")
# Further from now than any deadline, a number at the end of a name is no elapse: somebody made that Job by hand.
_OLDEST, _NEWEST = timedelta(days=367), timedelta(days=1)
_NAME_OF_JOB = re.compile(r"[a-z0-9][-a-z0-9.]*?(?:-([0-9]{8,9}))?")


class Outside(NamedTuple):
    """The settings of this run.

    Attributes:
        elapse: when it was due; None: nobody says, as of a run by hand.
        grace_s: how late it may start; None: any time.
        send: takes its records; None: they are text on standard error.
        counts: somebody keeps its records, and it is no process that a run has started.
    """

    run_id: str
    elapse: datetime | None
    grace_s: float | None
    skipped_status: int
    send: Callable[[Mapping[str, Any]], None] | None
    counts: bool

    def skip(self, job_id: str, start_s: float) -> tuple[str, dict[str, str]] | None:
        """Why a run that starts at `start_s` is left out, see `sereno.run.lateness.Misfires.skip`."""
        if self.grace_s is None or self.elapse is None:
            return None
        from sereno.run.lateness import too_late

        return too_late(job_id, self.elapse, start_s, self.grace_s)


def of_this_run(environ: MutableMapping[str, str] = os.environ) -> Outside:
    """Read the settings; from now on standard output is for records alone, if they go there.

    Raises:
        UsageError: a setting has a value that it cannot have.
    """

    def read(name: str, rule: str, convert: Callable[[str], _Value]) -> _Value | None:
        given = environ.get(name)
        try:
            return convert(given) if given else None
        except (ValueError, OverflowError):
            raise UsageError(f"{name}: {given!r} is not {rule}") from None

    is_json = read(LOG, "json, which is the one form that there is", ["json"].index) is not None
    run_id = read(RUN_ID, "a UUID", lambda text: str(UUID(text))) or uuid4().hex
    elapse = read(ELAPSE, "a time with its zone, nor the name of a Job", _elapse)
    grace_s = read(MISFIRE_GRACE_S, "a number of seconds", _seconds)
    skipped = read(
        EXIT_SKIPPED, "an exit status, 0 to 255", lambda text: range(256).index(int(text))
    )
    counts = is_json and identity.RUN not in environ
    if counts:
        environ[identity.RUN] = run_id
    send = Lines({ELAPSE: elapse and elapse.isoformat()}).send if is_json else None
    return Outside(run_id, elapse, grace_s, SKIPPED if skipped is None else skipped, send, counts)


def _seconds(text: str) -> float:
    if not float(text) >= 0:
        raise ValueError(text)
    return float(text)


def _elapse(text: str) -> datetime | None:
    name = _NAME_OF_JOB.fullmatch(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        if name is None:
            raise
        moment, now = datetime.fromtimestamp(60 * int(name[1] or 0), UTC), datetime.now(UTC)
        return moment if now - _OLDEST < moment < now + _NEWEST else None
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment


class Lines:
    """Records as lines of JSON on what was standard output, or, where nobody takes them there, on standard error.

    The job's own standard output, and its children's, is standard error from now on: what is printed there without a
    line break, or by another process, would tear a record. The fields `own` are in every record.
    """

    def __init__(self, own: Mapping[str, Any]) -> None:
        self._own, self._lock = own, RLock()
        # The job may close them, and their numbers be those of its connections then.
        self._places: dict[int, tuple[int, int]] = {}
        self._stuck: set[int] = set()
        for number in (1, 2):
            try:
                self._places[os.dup(number)] = _place(number)
            except OSError:
                # Closed by whoever started it.
                pass
        # Where both are one, as on a terminal, the job's line may be unfinished.
        self._before = b"\n" if len({*self._places.values()}) < len(self._places) else b""
        try:
            os.dup2(2, 1)
            # A job that closes all that it has not opened leaves this one.
            self._places[2] = _place(2)
        except OSError:
            pass

    def send(self, fields: Mapping[str, Any]) -> None:
        """Write one record. What nobody takes is lost, as of a journal that is down."""
        record = {"__REALTIME_TIMESTAMP": f"{time() * 1e6:.0f}"}
        for name, value in sending.kept({**fields, **self._own}):
            record[name] = value.decode("utf-8", "backslashreplace")
        line = self._before + journal.to_json(record).encode() + b"\n"
        if self._lock.acquire(timeout=sending.WAIT_S):
            try:
                any(self._write(descriptor, line) for descriptor in self._places)
            finally:
                self._lock.release()

    def _write(self, descriptor: int, line: bytes) -> bool:
        """Whether it could be written, in one piece if that is possible at all. Who stands still is waited for once."""
        is_stuck = descriptor in self._stuck
        # What stuck may have been torn.
        rest = memoryview(b"\n" + line if is_stuck else line)
        self._stuck.add(descriptor)
        try:
            if _place(descriptor) != self._places[descriptor]:
                return False
            asked = poll()
            asked.register(descriptor, POLLOUT)
            while rest:
                # A closed pipe is not tried: the job may have let the signal of that kill the process.
                if asked.poll(0 if is_stuck else sending.WAIT_S * 1e3) != [(descriptor, POLLOUT)]:
                    return False
                # So much does not block where anything can be written.
                rest = rest[os.write(descriptor, rest[:PIPE_BUF]) :]
        except OSError:
            return False
        self._stuck.discard(descriptor)
        return True


def _place(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
