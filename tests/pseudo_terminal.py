"""A terminal for a program under test: its screen is read as a person would, its keys are pressed, its line is cut."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import pyte

DEADLINE_S = 30.0


class PseudoTerminal:
    """A program in a terminal of `columns` times `lines`, which is its controlling one."""

    def __init__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        *,
        columns: int = 80,
        lines: int = 24,
    ) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        # Everything that the program sent.
        self.sent = b""
        self._line, tty = pty.openpty()
        self._set_size(columns, lines)
        self.process = subprocess.Popen(
            argv,
            stdin=tty,
            stdout=tty,
            stderr=tty,
            env=dict(environ),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(tty)

    def __enter__(self) -> PseudoTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def press(self, keys: str) -> None:
        os.write(self._line, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        self._set_size(columns, lines)

    def hang_up(self) -> None:
        """As when a connection breaks."""
        if self._line >= 0:
            os.close(self._line)
            self._line = -1

    def shown(self) -> list[str]:
        """The lines on the screen, without the spaces at their ends, without empty ones at the end."""
        lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def line(self, part: str) -> str:
        """The first line on the screen with `part`; "" if there is none."""
        return next((line for line in self.shown() if part in line), "")

    def colours(self) -> set[str]:
        """The colours of the characters on the screen; "default" is one."""
        lines = range(self._screen.lines)
        return {character.fg for line in lines for character in self._screen.buffer[line].values()}

    def wait_for(self, is_there: Callable[[], object], *, deadline_s: float = DEADLINE_S) -> None:
        give_up = time.monotonic() + deadline_s
        while not is_there():
            if not self._read(0.1) and self.process.poll() is not None and not is_there():
                raise AssertionError(f"it ended, showing:\n{self._picture()}")
            if time.monotonic() > give_up:
                raise AssertionError(f"not within {deadline_s:g} s; shown:\n{self._picture()}")

    def ended(self, *, deadline_s: float = DEADLINE_S) -> int:
        """The exit status, once there is one; what is sent until then is read."""
        give_up = time.monotonic() + deadline_s
        while self.process.poll() is None:
            if self._line < 0:
                time.sleep(0.02)
            else:
                self._read(0.05)
            if time.monotonic() > give_up:
                raise AssertionError(f"it goes on, showing:\n{self._picture()}")
        while self._line >= 0 and self._read(0):
            pass
        return self.process.returncode

    def echoes(self) -> bool:
        """Whether the terminal is as a shell wants it: what is typed is shown, line by line."""
        flags = termios.tcgetattr(self._line)[3]
        return bool(flags & termios.ECHO and flags & termios.ICANON)

    def _picture(self) -> str:
        return "\n".join(self.shown())

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._line, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self, wait_s: float) -> bool:
        if not select.select([self._line], [], [], wait_s)[0]:
            return False
        try:
            data = os.read(self._line, 65536)
        except OSError:
            # The other side has been closed by the last process that had it.
            return False
        self.sent += data
        self._stream.feed(data)
        return bool(data)
