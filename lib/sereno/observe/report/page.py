"""A `Report` → the text of one HTML page, by the template page.html.j2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sereno.observe.report.ahead import DAY_S
from sereno.observe.report.model import Report
from sereno.observe.report.plots import HEIGHT, Window
from sereno.records.printable import printable
from sereno.records.run_record import iso

_MOST_LABELS = 4
# Letters of a heading on a phone.
_MOST_ON_A_LINE = 24


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
        if isinstance(value, str) and not value.isprintable() and not isinstance(value, Markup):
            return "\n".join(map(printable, value.split("\n")))
        return value

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        # The page is made once by a process: it would take longer than it saves.
        optimized=False,
    )
    environment.filters.update(
        filters,
        moment=lambda moment_s: _at(moment_s, zone).strftime("%a %Y-%m-%d %H:%M:%S"),
        clock=lambda moment_s: _at(moment_s, zone).strftime("%H:%M"),
        tick=lambda moment_s: tick(_at(moment_s, zone), report.window),
        id=lambda job_id: _breaking(printable(job_id)),
        iso=lambda moment_s: iso(moment_s, zone),
    )
    now_s = report.window.until_s
    day = report.window._replace(since_s=now_s, until_s=now_s + DAY_S)
    return environment.get_template("page.html.j2").render(
        report=report,
        day=day,
        day_ticks=ticks(day, zone),
        states=dict(Counter(job.state.state for job in report.jobs).most_common()),
        installed={job.state.job.id for job in report.jobs},
        ticks=ticks(report.window, zone),
        zone=_at(report.window.until_s, zone).strftime("%Z (UTC%z)"),
        height=HEIGHT,
    )


def _at(moment_s: float, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(moment_s, UTC).astimezone(zone)


def _breaking(job_id: str) -> str:
    """Where a phone has no room for it, it goes on after an underscore; a screen reader pauses there, so not always."""
    return Markup("_<wbr>").join(job_id.split("_")) if len(job_id) > _MOST_ON_A_LINE else job_id


def tick(at: datetime, window: Window) -> str:
    """A label of at most six characters: there is room for no more on a phone."""
    is_long = window.until_s - window.since_s > 27 * DAY_S
    return at.strftime("%H:%M" if at.hour else "%d %b" if is_long else "%a %d")


def ticks(window: Window, zone: tzinfo | None) -> list[float]:
    """The midnights of a window, or hours of a short one, that get a label: seconds since the epoch, evenly spread."""
    hour_s = 3_600
    first = int(window.since_s // hour_s + 1) * hour_s
    # Offsets of zones are quarters of an hour.
    quarters = range(first, int(window.until_s), hour_s // 4)
    hours = [
        (float(moment_s), at.hour)
        for moment_s in quarters
        if (at := _at(moment_s, zone)).minute == 0
    ]
    for apart in (3, 6, 12, 24):
        found = [moment_s for moment_s, hour in hours if hour % apart == 0]
        if len(found) <= _MOST_LABELS:
            break
    return found[:: -(-len(found) // _MOST_LABELS) or 1]
