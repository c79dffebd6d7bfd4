"""One run of a job, from the command of its unit to its exit status; `sereno.run.tries` calls the job.

This is the whole of sereno that a run needs beside the job's own module, so it imports little, and late.
Exit statuses (`sereno.errors`): 0 done; 1 the job failed (it raised, returned something else than a dict or None, or
its dict has an `error` that is true or `status: error`; with retries: in each try); 2 wrong use; 77 left out; 143
stopped by SIGTERM. `sys.exit()` and `sys.exit(0)` are a success without statistics.
"""

from __future__ import annotations

import faulthandler
import gc
import io
import os
import sys
from time import time

import sereno.setting_names as settings
from sereno.errors import FAILURE, SKIPPED, SUCCESS, WRONG_USE, UsageError
from sereno.manager.names import service_name
from sereno.records import journal, messages, sending
from sereno.records.log import Logger
from sereno.run import identity, sigterm, tries
from sereno.run.closing import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sereno.declare.retry import Retry
    from sereno.run.outside import Outside

_logger = Logger("sereno.runner")


def main(job_id: str, function: str) -> int:
    """Run "module:name" once as the job `job_id` and return the process's exit status."""
    # What sereno was called with is nothing to the job.
    sys.argv[:] = [job_id]
    # The workers that multiprocessing spawns run the main module's file again first: an entry script that does not look
    # at its `__name__` would run the job in each.
    vars(sys.modules["__main__"]).pop("__file__", None)
    try:
        return _main(job_id, function)
    finally:
        _empty_outputs()


def _main(job_id: str, function: str) -> int:
    is_told = any(
        map(os.environ.get, (settings.LOG, settings.RUN_ID, settings.ELAPSE, settings.EXIT_SKIPPED))
    )
    # Without the journal it is a container with the environment of one of systemd's services (podman --env-host).
    is_apart = is_told and not os.path.exists(sending.SOCKET)
    counts = of_systemd = not is_apart and identity.is_the_run(service_name(job_id))
    manager = identity.take_manager()
    run_id, outside = os.environ.get("INVOCATION_ID") or os.urandom(16).hex(), None
    if is_told and not of_systemd:
        from sereno.run.outside import of_this_run

        try:
            outside = of_this_run()
        except UsageError as error:
            print(f"sereno: {error}", file=sys.stderr)
            return WRONG_USE
        run_id, counts = outside.run_id, outside.counts
    environ = dict(os.environ)
    _prepare(
        job_id, run_id, outside.send if outside else journal.to_journal if of_systemd else None
    )
    run = Run(
        job_id, function, run_id, environ,
        counts=counts, sandboxed=of_systemd, manager=manager if counts else "",
    )  # fmt: skip
    # What is loaded by now stays to the end. That no collection goes through it, the last one above all, saves a tenth
    # of a short run. Not later: what the job makes is collected as ever.
    gc.freeze()
    start_s = time()
    skipped = _skipped(job_id, start_s, outside) or _claimed_elsewhere(run, start_s)
    status = _run(run) if skipped is None else run.skip(*skipped)
    if status == SUCCESS and counts:
        _wake_notifier(job_id, run_id)
    # Of one that was stopped, somebody waits for the end.
    if status in (SUCCESS, FAILURE):
        _note_overruns(run, start_s)
    run.wait_for_monitor()
    return outside.skipped_status if outside is not None and status == SKIPPED else status


def _prepare(job_id: str, run_id: str, send: journal.Send | None) -> None:
    """Where the words of this process go."""
    journal.set_up(job_id, run_id, send)
    # Of a crash that is not Python's, the journal has the frames.
    faulthandler.enable(2)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The journal's stream is no terminal: what is printed would come in blocks, and be lost when a run is killed.
        sys.stdout.reconfigure(line_buffering=True)


def _skipped(
    job_id: str, start_s: float, outside: Outside | None
) -> tuple[str, dict[str, str]] | None:
    """Text and fields of the record of a run that is to be left out; None: it is to run."""
    skipped = None
    if outside is not None:
        skipped = outside.skip(job_id, start_s)
    elif settings.MISFIRE_GRACE_S in os.environ:
        # It starts other programs: only a job that wants it pays for it.
        from sereno.run.lateness import Misfires

        skipped = Misfires(job_id).skip(start_s)
    if skipped is None and settings.ONLY_IF_SUCCESS in os.environ:
        from sereno.run import only_if_success

        skipped = only_if_success.skip(job_id)
    return skipped


def _claimed_elsewhere(run: Run, start_s: float) -> tuple[str, dict[str, str], int] | None:
    """The same, with its level, of one that has to be the only one in a fleet, and is not known to be."""
    if not run.counts or settings.ONCE_PER not in os.environ:
        return None
    from sereno.run.claiming import Claiming

    def lost() -> None:
        from sereno.notify.wake import LOST, wake

        wake(run.job_id, run.run_id, LOST)

    claiming = Claiming(run.job_id, run.run_id, run.environ, lost)
    skipped = claiming.skip(start_s)
    run.claiming = None if claiming.holds is False else claiming
    return skipped


def _empty_outputs() -> None:
    """Flush what the job printed. Where nobody takes it, Python would end with 120 and hide the run's own status."""
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        except Exception:
            # None, closed, or an object of the job's: there is nothing to flush.
            pass


def _run(run: Run) -> int:
    stop = sigterm.Stop(run.job_id if run.counts else "", run.environ, lambda: run.be_overdue(stop))
    run.begin()
    return tries.try_to_the_end(run, stop, _retry(run.job_id))


def _retry(job_id: str) -> Retry | None:
    if settings.RETRIES not in os.environ:
        return None
    from sereno.declare.retry import retry_of

    try:
        return retry_of(os.environ)
    except ValueError as error:
        _logger.warning(messages.NO_RETRIES, job_id, error)
        return None


def _wake_notifier(job_id: str, run_id: str) -> None:
    """Have a success told that follows a failure, or that raised alerts; any other costs one stat(2)."""
    states = os.environ.get(settings.NOTIFY_STATE)
    if states and (journal.alerts or os.path.exists(f"{states}/{job_id}.failing")):
        from sereno.notify.wake import wake

        wake(job_id, run_id)


def _note_overruns(run: Run, start_s: float) -> None:
    """Record that the run was longer than its interval, or that its timer elapsed meanwhile."""
    interval, duration_s = os.environ.get(settings.INTERVAL_S, ""), run.duration_s
    if interval.isdigit() and duration_s > int(interval):
        told = (run.job_id, duration_s, interval)
        _logger.warning(messages.OVERRUN_INTERVAL, *told)
    end_s = time()
    if _may_have_elapsed(start_s, end_s):
        from sereno.run.lateness import Misfires

        Misfires(run.job_id).note_overrun(start_s, end_s)


def _may_have_elapsed(start_s: float, end_s: float) -> bool:
    """Whether a whole step of the job's calendar lies in the run; between two of them its timer cannot elapse."""
    step = os.environ.get(settings.CALENDAR_STEP_S, "")
    return step.isdigit() and int(step) > 0 and start_s // int(step) < end_s // int(step)


def start() -> None:
    """Run what the process was called with, and end it."""
    if len(sys.argv) != 3:
        print("usage: python -m sereno.runner JOB MODULE:FUNCTION", file=sys.stderr)
        sys.exit(WRONG_USE)
    sys.exit(main(*sys.argv[1:]))


if __name__ == "__main__":
    start()
