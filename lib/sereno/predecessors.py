"""`after=…, only_if_success=True`: whether the jobs that this one comes after succeeded, asked by the run itself.

Loaded only by a run whose job says so: it asks the manager, which costs some 30 ms. The manager and not the journal: a
run in its sandbox may not read the journal, and what counts is the latest run as `systemctl status` shows it. It
remembers runs since the machine started. A success that nobody remembers is none: after a reboot the other job must
have run first. A run by hand is never left out; how that is seen, sereno.misfire says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from sereno import exits, journal, messages
from sereno.errors import SerenoError
from sereno.log import Logger
from sereno.systemctl import Systemctl, is_running

# The generated drop-in's setting of the run: the ids of the other jobs.
ONLY_IF_SUCCESS = "SERENO_ONLY_IF_SUCCESS"
_PROPERTIES = ("ActiveState", "Result", "ExecMainStatus", "ExecMainExitTimestamp")
_logger = Logger("sereno.runner")


def skips(
    job_id: str, environ: Mapping[str, str] = os.environ, manager: Systemctl | None = None
) -> bool:
    """Whether this run is to be left out because another job did not succeed; if so, it is recorded.

    Args:
        manager: systemctl's port; default: that of the manager that started this process.
    """
    # systemd.exec(5): $MANAGERPID is set by a user's manager only.
    manager = manager or Systemctl(user="MANAGERPID" in environ)
    try:
        if manager.timer(f"sereno@{job_id}.timer")[0] != "running":
            return False
    except (SerenoError, OSError) as error:
        _note(job_id, "", str(messages.NOBODY_TO_ASK) % error)
        return True
    for other in environ[ONLY_IF_SUCCESS].split():
        try:
            reason = why_no_success(manager.show(f"sereno@{other}.service", *_PROPERTIES))
        except (SerenoError, OSError) as error:
            reason = str(messages.NOBODY_TO_ASK) % error
        if reason is not None:
            _note(job_id, other, f"{other} {reason}")
            return True
    return False


def why_no_success(properties: Mapping[str, str]) -> str | None:
    """What the properties of a service say against a success of its latest run; None if it succeeded."""
    status = properties.get("ExecMainStatus", "")
    if is_running(properties.get("ActiveState")):
        return str(messages.OTHER_IS_RUNNING)
    if properties.get("Result") != "success":
        return str(messages.OTHER_FAILED) % properties.get("Result")
    if not properties.get("ExecMainExitTimestamp"):
        return str(messages.OTHER_DID_NOT_RUN)
    reasons = {
        str(exits.SUCCESS): None,
        str(exits.SKIPPED): str(messages.OTHER_WAS_SKIPPED),
        str(exits.INTERRUPTED): str(messages.OTHER_WAS_INTERRUPTED),
        "15": str(messages.OTHER_WAS_INTERRUPTED),
    }
    return reasons.get(status, str(messages.OTHER_ENDED) % status)


def _note(job_id: str, other: str, reason: str) -> None:
    _logger.warning(
        messages.SKIPPED_AFTER,
        job_id,
        reason,
        extra={
            "MESSAGE_ID": journal.SKIPPED,
            "SERENO_AFTER": other or None,
            **journal.closing_fields("skipped", 0, None),
        },
    )
