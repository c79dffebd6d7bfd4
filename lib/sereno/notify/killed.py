"""What the handler of failures does for a run of the fleet that could not record its own end."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sereno.errors import SerenoError
from sereno.setting_names import FLEET_URL_FILE

_NONE = "none"
"""What systemd gives in place of a URL where the host has none."""
# Stores that did not answer this process: a thousand failures are not to wait for each of them.
_silent: set[str] = set()


def end(run_id: str, error: str | None, environ: Mapping[str, str]) -> str | None:
    """Record that a run failed, if the store has it as running; return why it could not be asked, if it could not."""
    path = environ.get(FLEET_URL_FILE, "")
    if path in _silent or not os.path.exists(path) or os.path.getsize(path) <= len(_NONE):
        return None
    from sereno.fleet.postgresql import PostgreSQL

    try:
        PostgreSQL.of_file(path).end(run_id, "failed", None, error, None)
    except SerenoError as failure:
        _silent.add(path)
        return failure.message
    except Exception as failure:
        # Such as a driver's, of a job's words that the store has no form for.
        return f"{type(failure).__name__}: {failure}"
    return None
