"""A `Report` → the text of one HTML page, by the template page.html.j2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sereno.observe.report.model import Report, tally
from sereno.observe.report.plots import HEIGHT, Window
from sereno.records.printable import printable
from sereno.records.run_record import iso

_MOST_LABELS = 4


def page(
    report: Report,
    *,
    filters: Mapping[str, Callable[..., str]],
    zone: tzinfo | None = None,
) -> str:
    """The page, complete: no script, and nothing that is loaded from elsewhere.

    Args:
        filters: `duration` (milliseconds) and `number`, as the terminal shows them.
        zone: for the times; None: the local one.
    """

    def harmless(value: Any) -> Any:
        # What the template itself has made is done; all else may come from a job. What is special to HTML is escaped
        # besides.
        if isinstance(value, str) and not isinstance(value, Markup):
            return "\n".join(map(printable, value.split("\n")))
        return value

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        filters,
        moment=lambda moment_s: _at(moment_s, zone).strftime("%a %Y-%m-%d %H:%M:%S"),
        clock=lambda moment_s: _at(moment_s, zone).strftime("%H:%M"),
        day=lambda moment_s: _at(moment_s, zone).strftime("%a %d %b"),
        iso=lambda moment_s: iso(moment_s, zone),
    )
    return environment.get_template("page.html.j2").render(
        report=report,
        states=tally(report.jobs),
        installed={job.state.job.id for job in report.jobs},
        ticks=ticks(report.window, zone),
        zone=_at(report.window.until_s, zone).strftime("%Z (UTC%z)"),
        height=HEIGHT,
    )


def _at(moment_s: float, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(moment_s, UTC).astimezone(zone)


def ticks(window: Window, zone: tzinfo | None) -> list[float]:
    """The midnights of a window that get a label: seconds since the epoch, a few, evenly spread."""
    hour_s = 3_600
    first = int(window.since_s // hour_s + 1) * hour_s
    # Offsets of zones are quarters of an hour.
    midnights = [
        float(moment_s)
        for moment_s in range(first, int(window.until_s), hour_s // 4)
        if (at := _at(moment_s, zone)).hour == at.minute == 0
    ]
    step = -(-len(midnights) // _MOST_LABELS) or 1
    return midnights[::step]
