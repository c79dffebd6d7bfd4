"""`Run`: what this process says of its run to the journal, the metrics and a monitor: its start and, once, its end."""

from __future__ import annotations

import os
import sys
from _thread import LockType, allocate_lock, get_ident, start_new_thread
from time import perf_counter, sleep

from sereno.errors import FAILURE, INTERRUPTED, OVER_LIMIT, SKIPPED, SUCCESS, SerenoError
from sereno.named_tuple import NamedTuple
from sereno.records import journal, log, messages, sending
from sereno.records.printable import printable
from sereno.run import sigterm
from sereno.setting_names import PING_URL, PING_URL_FILE, TEXTFILE_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sereno.records.metrics import Recorder
    from sereno.run.claiming import Claiming
    from sereno.run.heartbeat import Heartbeat

MOST_MESSAGE_CHARACTERS = 2_000
"""Of the statistics in a message for people; the record's fields have them all."""
GRACE_S = 5.0
"""How long a process may take to end after its closing record."""
_ENDS = {
    "success": (log.INFO, SUCCESS),
    "failed": (log.ERROR, FAILURE),
    "interrupted": (log.WARNING, INTERRUPTED),
}
_logger = log.Logger("sereno.runner")


class Tried(NamedTuple):
    """How one try ended.

    Attributes:
        stats: what it returned, as `journal.plain` gives it.
        error: what went wrong, in one line; None for a success.
    """

    stats: dict[str, Any] | None
    error: str | None
    exception: BaseException | None = None


class Run:
    """The run of this process.

    Args:
        function: the job's, as "module:name".
        environ: the environment as it was at the start: the job may change it.
        manager: where the manager hears what the run came to, see `identity.take_manager`.
        counts: it is the run that systemd started, or another scheduler; only then monitors and metrics learn of it.
        sandboxed: it is in the template's sandbox, as far as anybody knows.

    Attributes:
        tries: how many there were, the one under way included.
        status: what the process ends with; None until the closing record is sent.
        claiming: what has claimed the run in its fleet and is to hear of its end; None: it has none.
    """

    def __init__(
        self, job_id: str, function: str, run_id: str, environ: Mapping[str, str], *,
        counts: bool, sandboxed: bool, manager: str = "",
    ) -> None:  # fmt: skip
        self._sandboxed = sandboxed
        self.job_id, self.function, self.counts = job_id, function, counts
        self.run_id = run_id
        self.claiming: Claiming | None = None
        self.tries = 1
        self.status: int | None = None
        self.environ, self._manager = environ, manager
        self._imports = {
            name: getattr(sys, name)[:] for name in ("path", "meta_path", "path_hooks")
        }
        self._pid, self._thread = os.getpid(), get_ident()
        self._began, self._ended = perf_counter(), 0.0
        self._closing = allocate_lock()
        self._recorder: Recorder | None = None
        self._heartbeat: Heartbeat | None = None
        if counts and environ.get(TEXTFILE_DIR):
            from sereno.records.metrics import Recorder

            self._recorder = Recorder(job_id, environ[TEXTFILE_DIR], environ)
        if counts and (environ.get(PING_URL) or environ.get(PING_URL_FILE)):
            from sereno.run.heartbeat import of_this_run

            self._heartbeat = of_this_run(job_id, run_id, environ)

    @property
    def duration_s(self) -> float:
        """From `begin` to the end of the last try, or to now."""
        return (self._ended or perf_counter()) - self._began

    def note_end_of_try(self) -> None:
        self._ended = perf_counter()

    def is_in_a_child(self) -> bool:
        """Whether this is a process that the job has forked: what it does is not the run's."""
        return os.getpid() != self._pid

    def take_back_environment(self) -> None:
        """What is said and asked at the end goes by what systemd gave, whatever the job has made of it."""
        for name, value in self.environ.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        # What tells of a failure is imported only now.
        for name, given in self._imports.items():
            now = getattr(sys, name, None)
            now = now if isinstance(now, list) else []
            setattr(sys, name, now + [each for each in given if each not in now])

    def begin(self) -> None:
        _logger.info(messages.STARTED, self.job_id)
        self._tell_manager("running")
        if self._heartbeat is not None:
            self._heartbeat.begin()
        self._began = perf_counter()

    def skip(self, text: str, fields: Mapping[str, str], level: int = log.WARNING) -> int:
        """Close a run that is left out: one that could not be judged with an error, which is a failure."""
        fields = {"MESSAGE_ID": messages.SKIPPED_LATE.kind, **fields}
        if level == log.INFO:
            # Another host has the run, and tells the monitor.
            self._heartbeat = None
        status = FAILURE if level == log.ERROR else SKIPPED
        return self._close("skipped", status, level, text, fields, 0.0)

    def end(self, tried: Tried, reason: str | None, *, stopped: bool) -> int:
        """Close the run, `stopped` if SIGTERM ended it, whatever its function made of that, for the `reason` that
        `sigterm.Stop.reason` says; return the status of its process."""
        duration_s = self.duration_s
        after = f"{duration_s * 1000:.2f}ms"
        if self.tries > 1:
            after += str(messages.AND_TRIES) % self.tries
        stats, error = self._bounded(tried.stats), tried.error
        in_log = error
        if stopped and reason == sigterm.BY_TIMEOUT:
            # For systemd a run over its limit has failed, and so here.
            why = error or "SIGTERM"
            error, in_log = f"{OVER_LIMIT}: {why}", str(messages.OVER_TIME_LIMIT) % why
        if stopped and reason != sigterm.BY_TIMEOUT:
            status, message, more = "interrupted", messages.INTERRUPTED, error
        elif error is not None:
            status, message, more = "failed", messages.FAILED, in_log
        else:
            if stats is not None:
                in_log = printable(journal.to_json(stats), MOST_MESSAGE_CHARACTERS)
            status, message, more = "success", messages.FINISHED, in_log
        if message is not messages.FAILED:
            more = "" if more is None else f": {more}"
        level, exit_status = _ENDS[status]
        if status == "interrupted" and reason == sigterm.BY_OTHERS:
            # A signal that the manager did not send, as of an early out-of-memory daemon, is a failure to be told of.
            exit_status = FAILURE
        fields = {
            "MESSAGE_ID": message.kind,
            "SERENO_TRIES": self.tries,
            **self.error_fields(error, tried.exception),
        }
        text = str(message) % (self.job_id, after, more)
        return self._close(status, exit_status, level, text, fields, duration_s, stats)

    def _bounded(self, stats: dict[str, Any] | None) -> dict[str, Any] | None:
        if stats is None:
            return None
        stats, left_out = journal.bounded(stats)
        if left_out:
            most = (journal.MOST_STATS, journal.MOST_STATS_CHARACTERS)
            _logger.warning(messages.STATS_LEFT_OUT, self.job_id, left_out, *most)
        return stats

    def error_fields(self, error: str | None, exception: BaseException | None) -> dict[str, Any]:
        """Fields of a record that tells of an error."""
        fields: dict[str, Any] = {"SERENO_ERROR": error}
        if exception is not None:
            try:
                from sereno.run import failure

                if self.counts or not isinstance(exception, SerenoError):
                    fields["EXCEPTION_TEXT"] = failure.traceback_of(exception)
                fields["SERENO_HINT"] = failure.hint_for(exception, sandboxed=self._sandboxed)
            except Exception:
                # Nothing about an error may keep the record back.
                pass
        return fields

    def _close(
        self, status: str, exit_status: int, level: int, text: str, fields: Mapping[str, Any],
        duration_s: float, stats: dict[str, Any] | None = None,
    ) -> int:  # fmt: skip
        if not self._closing.acquire(blocking=False):
            # Another thread is about it: it ends the process.
            sleep(60)
        closing = journal.closing_fields(status, duration_s * 1000, stats)
        _logger.log(level, text, extra={**fields, **closing})
        self.status = exit_status
        self._see_to_the_end()
        self._tell_manager(status)
        if self._heartbeat is not None:
            self._heartbeat.end(status, text)
        if self._recorder is not None:
            self._recorder.write(status, duration_s, stats)
        if self.claiming is not None:
            self.claiming.end(
                status, duration_s, fields.get("SERENO_ERROR"), closing.get("SERENO_STATS")
            )
        return exit_status

    def _tell_manager(self, status: str) -> None:
        """Leave word where it outlasts the process: `systemctl status` shows it, and a run in its sandbox can ask."""
        if not self._manager:
            return
        said = f"STATUS={status}"
        if self._heartbeat is not None and status != "running":
            said += f"\n{self._heartbeat.MORE_TIME}"
        try:
            sending.datagram(said.encode(), self._manager)
        except OSError:
            # Then it is known by its exit status alone.
            pass

    def wait_for_monitor(self, *wait_s: float) -> None:
        """Until it has taken what it is told, within the heartbeat's bounds or in so many seconds."""
        if self._heartbeat is not None:
            self._heartbeat.wait(*wait_s)

    def be_overdue(self, stop: sigterm.Stop) -> None:
        """Close a run that made nothing of SIGTERM, and end its process before systemd kills it."""
        if self.status is None:
            place = self._place_of_main()
            error = "did not end in time after SIGTERM" + (f" ({place})" if place else "")
            self.end(Tried(None, error), stop.reason(), stopped=True)
            self.wait_for_monitor(sigterm.MARGIN_S / 2)
        os._exit(FAILURE if self.status is None else self.status)

    def _see_to_the_end(self) -> None:
        """Have the process end, though a thread, a child or an exit handler of the job's keeps it."""
        if self.counts and ("threading" in sys.modules or "atexit" in sys.modules):
            has_begun = allocate_lock()
            has_begun.acquire()
            try:
                start_new_thread(self._end, (has_begun,))
            except RuntimeError:
                # No room for another thread: the job's limits end it.
                return
            # A thread whose first step comes after the interpreter's end finds its own state freed (CPython 3.11).
            has_begun.acquire(timeout=GRACE_S)

    def _end(self, has_begun: LockType) -> None:
        has_begun.release()
        self.wait_for_monitor()
        sleep(GRACE_S)
        try:
            told = (self.job_id, GRACE_S, self._kept_by())
            _logger.warning(messages.STAYED, *told)
        finally:
            os._exit(self.status or 0)

    def _kept_by(self) -> str:
        """Names of the threads and children that keep the process; of neither, where its main thread is."""
        from sereno.run.failure import one_line, place_in

        names, frames = [], sys._current_frames()
        threading = sys.modules.get("threading")
        for thread in threading.enumerate() if threading else ():
            if not thread.daemon and thread.ident != self._thread:
                place = place_in(frames.get(thread.ident), self.function)
                names.append(f"{thread.name} ({place})" if place else thread.name)
        processes = sys.modules.get("multiprocessing.process")
        for child in processes.active_children() if processes else ():
            names.append(f"{child.name} (pid {child.pid})")
        return one_line(", ".join(names) or f"MainThread ({self._place_of_main()})")

    def _place_of_main(self) -> str:
        from sereno.run.failure import place_in

        return place_in(sys._current_frames().get(self._thread), self.function)
