"""`sereno run`: a job outside its schedule."""

from __future__ import annotations

import argparse
import json

from sereno.commands import Commands, add_job, add_scope, installation_of
from sereno.errors import JobFailed


def add_to(commands: Commands) -> None:
    sub = commands.add("run", _run, "run a job now, wait for it, and print its statistics as JSON")
    add_job(sub)
    add_scope(sub)


def _run(arguments: argparse.Namespace) -> int:
    installation = installation_of(arguments)
    run = installation.run(installation.job(arguments.job).id)
    if run.stats is not None:
        print(json.dumps(run.stats, ensure_ascii=False))
    if run.status != "success":
        raise JobFailed(run.message, hint=f"journalctl SERENO_RUN={run.run_id}")
    return 0
