"""Metrics as a textfile of Prometheus' node_exporter: their text, reading it back, and replacing the file at once.

The format is version 0.0.4 of Prometheus' text exposition. It is written here and not by prometheus_client, whose
import takes 60 ms of a processor where the rest of a run's start-up takes as much in all; the tests have that library
read what this writes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from sereno.records.files import content, replace

# Ten times what a run with all its statistics leaves.
MOST_BYTES = 1 << 18


class Family(NamedTuple):
    """A metric and its samples: (labels, value) each."""

    name: str
    kind: str
    help: str
    samples: Sequence[tuple[Mapping[str, str], float]]


def render(families: Sequence[Family]) -> str:
    """The text of a file; a family without samples is left out."""
    lines = []
    for family in families:
        if family.samples:
            lines.append(f"# HELP {family.name} {family.help}")
            lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, value in family.samples:
            lines.append(f"{series(family.name, labels)} {value!r}")
    return "".join(f"{line}\n" for line in lines)


def series(name: str, labels: Mapping[str, str]) -> str:
    """A metric's name with its labels, as it stands in a file: `runs_total{job_id="sync"}`."""
    pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels.items())
    return f"{name}{{{pairs}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def read(path: str) -> dict[str, float]:
    """The finite values of a file by `series`; none of a file that is missing, or of lines that are no samples.

    Others may write the directory: a link, a pipe and a file of another user are no files of this run, and of a large
    one the beginning is read.
    """
    values: dict[str, float] = {}
    try:
        lines = content(path, MOST_BYTES, owner=os.geteuid()).decode("utf-8", "replace")
    except OSError:
        return values
    for line in lines.splitlines():
        sample, _, text = line.rpartition(" ")
        with suppress(ValueError):
            value = float(text)
            if value - value == 0:
                values[sample] = value
    return values


def write(path: str, text: str) -> None:
    """Put `text` in the place of the file, readable by all: see `replace`."""
    # Of what is beside it meanwhile, node_exporter reads *.prom alone.
    replace(path, text.encode("utf-8", "backslashreplace"))
