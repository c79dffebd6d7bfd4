"""The screen of `sereno watch`: urwid draws the table of `watch_table`, a thread asks for news, keys move about."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Hashable, Sequence
from datetime import tzinfo
from functools import lru_cache, partial
from threading import Event, Thread
from types import FrameType
from typing import Any

import urwid

from sereno.cli.terminal import MOST_SHOWN, Line, Screen, when
from sereno.cli.watch_table import WatchTable, counts, detail, in_order
from sereno.errors import SerenoError
from sereno.observe.job_state import JobState
from sereno.observe.look import Poll, Snapshot
from sereno.records.printable import printable
from sereno.records.run_record import text

LOG_LINES = 200
# Asking takes at most a quarter of the time: a manager of very many jobs has their timers to serve.
_REST = 3
_KEYS = "q quit  Enter log  up, down, page up, page down, home, end"
_LOG_KEYS = "q or Esc back  up, down, page up, page down, home, end"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HUNG_UP = (errno.EIO, errno.ENXIO, errno.EPIPE)
# Name: the colour, and what stands for it where there is none.
_COLOURS = {
    "red": ("light red", "bold"),
    "green": ("dark green", "default"),
    "yellow": ("brown", "default"),
    "cyan": ("dark cyan", "default"),
    "bold": ("bold", "bold"),
    "dim": ("default", "default"),
}
_SELECTED: dict[Hashable, Hashable] = {
    None: "selected",
    **{name: f"selected {name}" for name in _COLOURS},
}


class LiveScreen:
    """What the terminal shows until a key, a signal or the terminal's end ends it.

    Args:
        poll: is asked in a thread of its own.
        first: what is shown at once.
        log: the last records about a job, oldest first.
        scope: its name.
        interval_s: from one answer to the next question; more where the answers take long.
        zone: of the times; None: the local one.
        clock: seconds since the epoch; tests put their own here.
        display: urwid's screen; default: this process's terminal.
    """

    def __init__(
        self,
        poll: Poll,
        first: Snapshot,
        log: Callable[[str, int], Sequence[dict[str, Any]]],
        scope: str,
        interval_s: float,
        zone: tzinfo | None,
        *,
        clock: Callable[[], float] = time.time,
        display: Any = None,
    ) -> None:
        self._poll = poll
        self._records = log
        self._scope = scope
        self._interval_s = interval_s
        self._zone = zone
        self._clock = clock
        self._status = 0
        self._bug: Exception | None = None
        self._ended = Event()
        self._error = ""
        self._log_of: str | None = None
        screen = Screen()
        self._is_ascii = screen.is_ascii
        self._jobs: Sequence[JobState] = ()
        self._lines: Any = urwid.SimpleFocusListWalker([])
        self._list = urwid.ListBox(self._lines)
        self._log: Any = urwid.SimpleFocusListWalker([])
        self._title, self._note, self._help = (urwid.Text("", wrap="clip") for _ in range(3))
        self._header = _Row(self._heading)
        header = urwid.Pile([self._title, self._header])
        footer = urwid.Pile([self._note, self._help])
        self._frame = urwid.Frame(self._list, header=header, footer=footer)
        # Neither pastes nor the terminal's focus mean anything here.
        display = display or urwid.display.raw.Screen(
            bracketed_paste_mode=False, focus_reporting=False
        )
        if not screen.has_colours:
            display.set_terminal_properties(colors=1)
        self._loop = urwid.MainLoop(
            self._frame, _palette(), display, handle_mouse=False, unhandled_input=self._key
        )
        urwid.connect_signal(self._lines, "modified", self._tell)
        self._show(first)

    def run(self) -> int:
        """Show it; returns the exit status: 0 after a key, as a shell would say it after a signal."""
        handlers = {number: signal.signal(number, self._end) for number in _ENDING}
        asker = Thread(target=self._ask, daemon=True)
        self._loop.set_alarm_in(0, lambda *_: asker.start())
        try:
            self._loop.run()
        except (OSError, urwid.InputClosedError) as error:
            # The terminal is gone, and the signal that says so may be on its way still.
            if isinstance(error, OSError) and error.errno not in _HUNG_UP:
                raise
            self._status = 128 + signal.SIGHUP
        finally:
            self._ended.set()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self._bug is not None:
            raise self._bug
        if self._status == 128 + signal.SIGHUP:
            # What is left to be written can only fail.
            null = os.open(os.devnull, os.O_WRONLY)
            for descriptor in (1, 2):
                os.dup2(null, descriptor)
        return self._status

    def _end(self, number: int, _frame: FrameType | None) -> None:
        self._status = 128 + number
        try:
            self._loop.call_from_thread(_quit)
        except RuntimeError:
            raise SystemExit(self._status) from None

    def _ask(self) -> None:
        rest_s = self._interval_s
        while not self._ended.wait(rest_s):
            began = time.monotonic()
            answer: Snapshot | Exception
            try:
                answer = self._poll.ask()
            except Exception as error:
                answer = error
            rest_s = max(self._interval_s, _REST * (time.monotonic() - began))
            try:
                self._loop.call_from_thread(self._take, answer)
            except RuntimeError:
                return

    def _take(self, answer: Snapshot | Exception) -> None:
        # urwid would log what is raised here, over the screen, and go on.
        try:
            if isinstance(answer, SerenoError):
                self._error = f"no answer at {self._time()}: {answer.message}"
                self._tell()
            elif isinstance(answer, Exception):
                raise answer
            else:
                self._error = ""
                self._show(answer)
        except Exception as error:
            self._bug = error
            _quit()

    def _show(self, snapshot: Snapshot) -> None:
        chosen = self._chosen()
        # Whoever is at the top stays there, and sees what begins to fail.
        follow = None if chosen is None or self._lines.focus == 0 else chosen.job.id
        self._jobs = in_order(snapshot.jobs)
        # Of one width until the terminal's size changes.
        self._table = lru_cache(maxsize=1)(
            partial(WatchTable, snapshot, self._clock(), is_ascii=self._is_ascii)
        )
        ids = [job.job.id for job in self._jobs]
        self._lines[:] = [
            urwid.AttrMap(_Row(self._line(number)), None, _SELECTED) for number in range(len(ids))
        ]
        if ids:
            self._lines.set_focus(ids.index(follow) if follow in ids else 0)
        self._tell()
        if self._log_of is not None:
            self._read_log(self._log_of)

    def _line(self, number: int) -> Callable[[int], Line]:
        return lambda width: self._table(width).line(number)

    def _heading(self, width: int) -> Line:
        if self._log_of is None:
            return self._table(width).header()
        return [(f"{'TIME ' + self._time().partition(' ')[2]:14}  MESSAGE", "bold")]

    def _chosen(self) -> JobState | None:
        return self._jobs[self._lines.focus] if self._lines else None

    def _time(self) -> str:
        """The time of day with the zone's name."""
        return when(self._clock(), self._zone).partition(" ")[2]

    def _tell(self) -> None:
        """The lines above and below: they are about all jobs, and about the chosen one."""
        about = f"   {self._time()}   {self._scope} scope   {printable(socket.gethostname())}"
        self._title.set_text(_markup([*counts(self._jobs), (about, None)]))
        chosen = self._chosen()
        if self._error:
            note: Line = [(printable(self._error), "red")]
        elif self._log_of is not None:
            note = [(f"log of {printable(self._log_of)}", "bold")]
        elif chosen is None:
            note = [(f"no jobs in the {self._scope} scope", None)]
        else:
            note = [(detail(chosen, self._zone), "red" if chosen.failing else None)]
        self._note.set_text(_markup(note))
        self._header.changed()
        self._help.set_text(_KEYS if self._log_of is None else _LOG_KEYS)

    def _key(self, key: Any) -> bool:
        if self._log_of is not None:
            if key in ("q", "Q", "esc", "enter", "left", "backspace"):
                self._log_of = None
                self._frame.body = self._list
                self._tell()
        elif key in ("q", "Q"):
            _quit()
        elif key == "enter" and (chosen := self._chosen()) is not None:
            self._log_of = chosen.job.id
            self._log.clear()
            self._read_log(self._log_of)
            self._frame.body = urwid.ListBox(self._log)
            self._tell()
        return True

    def _read_log(self, job_id: str) -> None:
        at_end = not self._log or self._log.focus == len(self._log) - 1
        try:
            records = self._records(job_id, LOG_LINES)
        except SerenoError as error:
            self._error = error.message
            records = []
        lines = []
        for record in records:
            # Month, day and time: a terminal is narrow.
            at = when(record["__REALTIME_TIMESTAMP"] / 1e6, self._zone)[5:19]
            lines.append(f"{at}  {printable(text(record, 'MESSAGE'), MOST_SHOWN)}")
        place = len(lines) - 1 if at_end else min(self._log.focus, len(lines) - 1)
        self._log[:] = [urwid.Text(line) for line in lines]
        if lines:
            self._log.set_focus(place)


class _Row(urwid.Widget):
    """One line, made when its width is known."""

    _sizing = frozenset([urwid.FLOW])
    _selectable = True

    def __init__(self, line: Callable[[int], Line]) -> None:
        super().__init__()
        self._line = line

    def rows(self, size: Any, focus: bool = False) -> int:
        return 1

    def render(self, size: Any, focus: bool = False) -> urwid.Canvas:
        text = urwid.Text(_markup(self._line(size[0])), wrap="clip")
        return urwid.CompositeCanvas(text.render(size, focus))

    def changed(self) -> None:
        self._invalidate()

    def keypress(self, size: Any, key: str) -> str:
        return key


def _quit() -> None:
    raise urwid.ExitMainLoop


def _markup(line: Line) -> Any:
    # urwid knows no markup without text.
    return [(colour, piece) if colour else piece for piece, colour in line if piece] or ""


def _palette() -> list[Any]:
    palette: list[Any] = [("selected", "standout", "default", "standout")]
    for name, (colour, plain) in _COLOURS.items():
        palette.append((name, colour, "default", plain))
        palette.append((f"selected {name}", f"{colour},standout", "default", f"{plain},standout"))
    return palette
