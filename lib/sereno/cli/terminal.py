"""What people see: text without control characters, times, durations, tables and colours."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import TextIO

# A line's pieces: text and its colour, None for none.
Line = list[tuple[str, str | None]]
# By the names of columns.
Colours = Mapping[str, str | None]
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}
_GAP = "  "
# Characters of one line of others' text; the journal has all of it.
MOST_SHOWN = 2000
# A column that gives way is not made narrower than this; below it, whole columns go.
_LEAST_WIDTH = 12
# The columns whose text says whether somebody has to look.
_SPEAKING = {"RESULT", "STATE"}
_OF_STATUS = {
    "success": "green",
    "active": "green",
    "running": "cyan",
    **dict.fromkeys(("skipped", "interrupted", "paused", "stopped", "unknown"), "yellow"),
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

    def print_line(self, line: Line) -> None:
        print("".join(self.coloured(*piece) for piece in line).rstrip(), file=self.stream)

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        cut: Sequence[str] = (),
        drop: Sequence[str] = (),
    ) -> None:
        """Print a `Table` that fits the terminal; what came of a job has its colour."""
        table = Table(header, rows, self.width, cut=cut, drop=drop, is_ascii=self.is_ascii)
        self.print_line(table.header())
        for row in rows:
            cells = dict(zip(header, row, strict=True))
            colours: Colours = {name: colour_of(cells[name]) for name in cells.keys() & _SPEAKING}
            self.print_line(table.line(row, colours))


class Table:
    """Columns that fit a width.

    Args:
        width: None: as wide as they are.
        cut: columns that may be cut short.
        drop: columns that are left out where even that is not enough, the first first.
        least: a row's worth of widths below which the columns do not go.
    """

    def __init__(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        width: int | None,
        *,
        cut: Sequence[str] = (),
        drop: Sequence[str] = (),
        least: Sequence[int] = (),
        is_ascii: bool = False,
    ) -> None:
        self._header, self._mark = header, "..." if is_ascii else "…"
        blank = [" " * width for width in least]
        rows = [blank, *rows] if blank else rows
        self._keep = list(range(len(header)))
        self._widths = {
            index: max(columns(cell) for cell in column)
            for index, column in enumerate(zip(header, *rows, strict=True))
        }
        if width is not None:
            self._fit(width, cut, drop)

    def _fit(self, width: int, cut: Sequence[str], drop: Sequence[str]) -> None:
        wanted, yielding = self._widths, [self._header.index(name) for name in cut]
        self._widths = {
            index: min(most, _LEAST_WIDTH) if index in yielding else most
            for index, most in wanted.items()
        }

        def room() -> int:
            gaps = len(_GAP) * (len(self._keep) - 1)
            return width - sum(self._widths[index] for index in self._keep) - gaps

        for name in drop:
            if room() < 0:
                self._keep.remove(self._header.index(name))
        for index in yielding:
            if index in self._keep:
                self._widths[index] += max(0, min(room(), wanted[index] - self._widths[index]))

    def header(self) -> Line:
        return self.line(self._header, dict.fromkeys(self._header, "bold"))

    def line(self, cells: Sequence[str], colours: Colours) -> Line:
        """A row's pieces; nothing after the last column: a line must not be wrapped for its spaces."""
        line: Line = []
        for index in self._keep:
            cell = shortened(cells[index], self._widths[index], self._mark)
            padding = " " * (self._widths[index] - columns(cell)) + _GAP
            line += [(cell, colours.get(self._header[index])), (padding, None)]
        return line[:-1]


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
    """A length of time: `45ms`, `2.30s`, then as `short_span` has it."""
    if duration_ms is None:
        return "-"
    if duration_ms < 1000:
        return f"{duration_ms:.0f}ms"
    seconds = duration_ms / 1000
    return f"{seconds:.2f}s" if seconds < 60 else short_span(round(seconds))


def short_span(seconds: float, units: int = 2) -> str:
    """A length of time in its largest `units` units, whole seconds: `45s`, `4min 5s`, `1h 12min`, `3d 4h`."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for name, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts or name == "s":
            parts.append(f"{count}{name}")
    return " ".join(part for part in parts[:units] if part[0] != "0" or len(parts) == 1)


def size(bytes_: int) -> str:
    """A number of bytes: `812 B`, `19.5 KiB`, `2.3 MiB`."""
    power = min(max(bytes_.bit_length() - 1, 0) // 10, 4)
    return f"{bytes_ / 1024**power:.{power and 1}f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def in_columns(figures: Mapping[str, object]) -> list[str]:
    """A line for each of some statistics: its name, and its value, as JSON where it is neither text nor a number."""
    from sereno.records.journal import to_json
    from sereno.records.printable import printable

    shown = {
        printable(name): printable(value if isinstance(value, str) else to_json(value), MOST_SHOWN)
        for name, value in figures.items()
    }
    width = max(map(columns, shown), default=0)
    return [f"{name}{' ' * (width - columns(name))}  {value}" for name, value in shown.items()]


def number(value: float | None) -> str:
    """A figure of a statistic: whole as it is, else with two digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"
