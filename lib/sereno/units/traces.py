"""What runs of a job leave in files that its unit's environment names: metrics, and what people were told of it.

They go when the job is removed. Left behind, node_exporter would export the metrics of a job that is gone for ever, and
the alert "no success for so long" would fire for it; a later job of the same name would begin as failing. The manager
is asked, before the units go, because it alone has read all of a unit's drop-ins; a sweep by a later run would have to
guess from names which files in a directory of node_exporter's are those of jobs that are no more, and of which scope.
What is asked are only jobs that an administrator has changed, and one that stands for all others: systemd loads each
unit that it is asked about.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress

from sereno.manager.names import service_name
from sereno.manager.systemctl import Systemctl
from sereno.notify import state
from sereno.records import metrics
from sereno.records.files import unfinished
from sereno.setting_names import NOTIFY_STATE, TEXTFILE_DIR


def places(
    manager: Systemctl, job_ids: Collection[str], drop_ins: Mapping[str, object]
) -> list[tuple[str, tuple[str, ...]]]:
    """Directories and the files that runs of these jobs may have left in each: one question for all of them.

    A registration cannot set these variables, an administrator's `drop_ins` can: they are by the name of their unit.
    """
    own = {job_id for job_id in job_ids if service_name(job_id) in drop_ins}
    others = [job_id for job_id in job_ids if job_id not in own]
    asked = [service_name(job_id) for job_id in (*sorted(own), *others[:1])]
    # systemctl parts variables by spaces, and shows one with a space in it as "[unprintable]": its files stay.
    shown = {
        unit: dict(
            word.split("=", 1) for word in row.get("Environment", "").split(" ") if "=" in word
        )
        for unit, row in manager.show_all(asked, "Environment").items()
    }
    found = []
    for job_id in job_ids:
        environment = shown.get(service_name(job_id if job_id in own else others[0]), {})
        metrics_file = metrics.file_name(job_id)
        for variable, names in (
            (TEXTFILE_DIR, (metrics_file, unfinished(metrics_file))),
            (NOTIFY_STATE, state.file_names(job_id)),
        ):
            directory = environment.get(variable, "")
            if os.path.isabs(directory):
                found.append((directory, names))
    return found


def delete(found: Collection[tuple[str, tuple[str, ...]]]) -> Iterator[OSError]:
    """Delete these files; what cannot be deleted stays, and its error is yielded."""
    for directory, names in found:
        try:
            # Another user may own the directory above, and this may be root: a link is not followed.
            descriptor = os.open(
                directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except FileNotFoundError:
            continue
        except OSError as error:
            yield error
            continue
        try:
            for name in names:
                try:
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=descriptor)
                except OSError as error:
                    error.filename = os.path.join(directory, name)
                    yield error
        finally:
            os.close(descriptor)
