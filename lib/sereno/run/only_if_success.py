"""`after=…, only_if_success=True`: whether the jobs that this one comes after succeeded, asked by the run itself.

Loaded only by a run whose job says so: it asks the manager, which costs some 30 ms. The manager and not the journal: a
run in its sandbox may not read the journal, and what counts is the latest run as `systemctl status` shows it. It
remembers runs since the machine started. A success that nobody remembers is none: after a reboot the other job must
have run first. A run that somebody starts is never left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from sereno.errors import INTERRUPTED, SKIPPED, SUCCESS, SerenoError
from sereno.manager.names import service_name
from sereno.manager.systemctl import Systemctl, is_running
from sereno.records import messages
from sereno.setting_names import ONLY_IF_SUCCESS

_PROPERTIES = ("ActiveState", "Result", "ExecMainStatus", "ExecMainExitTimestamp", "StatusText")


def skip(
    job_id: str, environ: Mapping[str, str] = os.environ, manager: Systemctl | None = None
) -> tuple[str, dict[str, str]] | None:
    """Why this run is to be left out, if another job did not succeed: text and fields of its record."""
    manager = manager or Systemctl.of_this_process(environ)
    other, reason, fields = "", None, dict[str, str]()
    try:
        others = environ[ONLY_IF_SUCCESS].split() if manager.run_of(job_id)[0] else []
        while others and reason is None:
            other = others.pop(0)
            fields["SERENO_AFTER"] = other
            reason = why_no_success(manager.show(service_name(other), *_PROPERTIES))
    except (SerenoError, OSError) as error:
        reason = str(messages.NOBODY_TO_ASK) % error
    told = job_id, f"{other} {reason}".strip()
    return None if reason is None else (str(messages.SKIPPED_AFTER) % told, fields)


def why_no_success(properties: Mapping[str, str]) -> str | None:
    """What the properties of a service say against a success of its latest run; None if it succeeded."""
    status = properties.get("ExecMainStatus", "")
    if is_running(properties.get("ActiveState")):
        return str(messages.OTHER_IS_RUNNING)
    if properties.get("Result") != "success":
        return str(messages.OTHER_FAILED) % properties.get("Result")
    if not properties.get("ExecMainExitTimestamp"):
        return str(messages.OTHER_DID_NOT_RUN)
    # "running": it left with a good status, and never said what it came to (os._exit(), exec).
    has_left = properties.get("StatusText") == "running"
    reasons = {
        str(SUCCESS): str(messages.OTHER_LEFT) if has_left else None,
        str(SKIPPED): str(messages.OTHER_WAS_SKIPPED),
        str(INTERRUPTED): str(messages.OTHER_WAS_INTERRUPTED),
        "15": str(messages.OTHER_WAS_INTERRUPTED),
    }
    return reasons.get(status, str(messages.OTHER_ENDED) % status)
