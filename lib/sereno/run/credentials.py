"""`credential("name")`: a secret that `credentials=` of a job gave to this run."""

from __future__ import annotations

import os

from sereno.errors import NotAvailable, UsageError


def credential(name: str) -> str:
    """The text of a credential of this run, without the line break at its end.

    systemd keeps it in memory, as a file that only this run can read (systemd.exec(5), LoadCredential=), in the
    directory that `$CREDENTIALS_DIRECTORY` names: bytes can be read there.

    Raises:
        UsageError: the name cannot be that of a file.
        NotAvailable: the run has no such credential, or this process is not a run.
    """
    if not name or "/" in name or name in (".", ".."):
        raise UsageError(f"credential: {name!r} is not a name")
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory is None:
        raise NotAvailable(
            f"credential: {name!r} cannot be read: this process has no credentials",
            hint="only a run of systemd has them; in a test set CREDENTIALS_DIRECTORY to a directory with the file",
        )
    try:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            return file.read().removesuffix("\n")
    except FileNotFoundError:
        raise NotAvailable(
            f"credential: this run has no {name!r}",
            hint=f'credentials={{"{name}": "/path/of/the/file"}} where the job is added',
        ) from None
