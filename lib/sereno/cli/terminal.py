"""What people see: text without control characters, times, durations, tables and colours."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import TextIO

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}
_GAP = "  "
# Characters of one line of others' text; the journal has all of it.
MOST_SHOWN = 2000
# A column that gives way is not made narrower than this; below it, whole columns go.
_LEAST_WIDTH = 12


_OF_STATUS = {
    "success": "green",
    "active": "green",
    "running": "cyan",
    **dict.fromkeys(("skipped", "interrupted", "paused", "stopped"), "yellow"),
    "-": "dim",
}


def colour_of(status: str) -> str:
    """The colour of what a run came to, or of a job's state."""
    return _OF_STATUS.get(status, "red")


class Screen:
    """One output stream: colours and the terminal's width if it is a terminal, plain text of any width if not.

    Args:
        stream: default: standard output.
        environ: NO_COLOR (no-color.org), TERM and COLUMNS count; default: the process's environment.
    """

    def __init__(
        self, stream: TextIO | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        environ = os.environ if environ is None else environ
        self.stream = sys.stdout if stream is None else stream
        is_terminal = self.stream.isatty()
        self.width = shutil.get_terminal_size().columns if is_terminal else None
        self.has_colours = (
            is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        )
        self.is_ascii = not (self.stream.encoding or "ascii").lower().startswith("utf")

    def coloured(self, text: str, colour: str | None) -> str:
        if colour is None or not self.has_colours or not text:
            return text
        return f"\033[{_COLOURS[colour]}m{text}\033[0m"

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        cut: Sequence[str] = (),
        drop: Sequence[str] = (),
        colours: Sequence[Mapping[int, str]] = (),
    ) -> None:
        """Print columns that fit the terminal.

        Args:
            cut: columns that may be cut short.
            drop: columns that are left out where even that is not enough, the first first.
            colours: for each row, {index of a column: colour}.
        """
        keep, widths = fit(header, rows, self.width, cut=cut, drop=drop)
        print(self._line(header, keep, widths, dict.fromkeys(keep, "bold")), file=self.stream)
        for number, row in enumerate(rows):
            shown = colours[number] if number < len(colours) else {}
            print(self._line(row, keep, widths, shown), file=self.stream)

    def _line(
        self,
        cells: Sequence[str],
        keep: Sequence[int],
        widths: Mapping[int, int],
        colours: Mapping[int, str],
    ) -> str:
        pieces = layout(cells, keep, widths, is_ascii=self.is_ascii)
        return "".join(self.coloured(text, colours.get(index)) for text, index in pieces).rstrip()


def layout(
    cells: Sequence[str], keep: Sequence[int], widths: Mapping[int, int], *, is_ascii: bool
) -> list[tuple[str, int]]:
    """The line of a table in pieces, each with the index of its cell; -1: what is between two."""
    line = []
    for index in keep:
        cell = shortened(cells[index], widths[index], "..." if is_ascii else "…")
        line.append((cell, index))
        # Nothing after the last column: a line must not be wrapped for its spaces.
        if index != keep[-1]:
            line.append((" " * (widths[index] - columns(cell)) + _GAP, -1))
    return line


def fit(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None,
    *,
    cut: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> tuple[list[int], dict[int, int]]:
    """Which columns (by index) are shown, and how wide each is. `width` None: all, as wide as they are."""
    keep = list(range(len(header)))
    wanted = {
        index: max(columns(cell) for cell in column)
        for index, column in enumerate(zip(header, *rows, strict=True))
    }
    if width is None:
        return keep, wanted
    yielding = [header.index(name) for name in cut]
    widths = {
        index: min(most, _LEAST_WIDTH) if index in yielding else most
        for index, most in wanted.items()
    }

    def room() -> int:
        return width - sum(widths[index] for index in keep) - len(_GAP) * (len(keep) - 1)

    for name in drop:
        if room() < 0:
            keep.remove(header.index(name))
    for index in yielding:
        if index in keep:
            widths[index] += max(0, min(room(), wanted[index] - widths[index]))
    return keep, widths


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character)
        else 2 if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )  # fmt: skip


def shortened(text: str, width: int, mark: str = "…") -> str:
    """`text` in at most `width` columns; `mark` stands for what was left out."""
    if columns(text) <= width:
        return text
    kept, room = "", width - len(mark)
    for character in text:
        room -= columns(character)
        if room < 0:
            break
        kept += character
    return (kept.rstrip() + mark)[: max(width, 0)]


def when(moment: datetime | float | None, zone: tzinfo | None = None) -> str:
    """A time of `zone` (None: the local one) with the zone's name; a number is seconds since the epoch."""
    if moment is None:
        return "-"
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def duration(duration_ms: float | None) -> str:
    """A length of time in its two largest units: `45ms`, `2.30s`, `4min 5s`, `1h 12min`."""
    if duration_ms is None:
        return "-"
    if duration_ms < 1000:
        return f"{duration_ms:.0f}ms"
    seconds = duration_ms / 1000
    if seconds < 60:
        return f"{seconds:.2f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}min {rest}s"
    return f"{minutes // 60}h {minutes % 60}min"


def number(value: float | None) -> str:
    """A figure of a statistic: whole as it is, else with two digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"
