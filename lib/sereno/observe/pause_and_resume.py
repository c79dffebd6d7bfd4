"""A job without its schedule: by its timer, or, of a job that runs once in a fleet, by the fleet's switch."""

from __future__ import annotations

from sereno.declare.job import FLEET
from sereno.units.installation import Installation
from sereno.units.unit_text import Installed

_LIMIT_S = 10.0


def switch(installation: Installation, job: Installed, *, on: bool, on_host: bool = False) -> bool:
    """Resume a job, or pause it; False: it was as it is to be.

    Args:
        on_host: of a job of the fleet too it is this host's timer alone.

    Raises:
        FleetError: the fleet's database cannot be asked; nothing was changed.
    """
    if job.once_per == FLEET and not on_host:
        from sereno.fleet.postgresql import PostgreSQL

        store = PostgreSQL.of_file(installation.scope.fleet_url, limit_s=_LIMIT_S)
        return store.switch(job.app, job.id, on=on)
    (installation.resume if on else installation.pause)(job)
    return job.enabled is not on
