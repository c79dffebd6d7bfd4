"""Debian's Chromium without a screen, spoken to in its DevTools protocol over two pipes: no port, no driver."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium")
_DEADLINE_S = 120.0
_WORDS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--remote-debugging-pipe"),
)


class Chromium:
    """One browser with one page.

    Args:
        home: an empty directory for its profile.
    """

    def __init__(self, home: Path) -> None:
        assert PROGRAM is not None
        # It reads from its descriptor 3 and writes to 4.
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        become = (
            "import fcntl, os, sys\n"
            f"ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in ({theirs_in}, {theirs_out})]\n"
            "os.dup2(ends[0], 3), os.dup2(ends[1], 4)\n"
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", become, PROGRAM, *_WORDS, f"--user-data-dir={home}"],
            pass_fds=(theirs_in, theirs_out),
            env={**os.environ, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number = 0
        self._unread = b""
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        os.close(self._out)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command, and its answer; what happens meanwhile is kept in `events`."""
        self._number += 1
        number = self._number
        told: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            told["sessionId"] = self._session
        os.write(self._out, json.dumps(told).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        give_up = time.monotonic() + _DEADLINE_S
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._in], [], [], give_up - time.monotonic())
            assert ready, "chromium does not answer"
            part = os.read(self._in, 1 << 20)
            assert part, "chromium has ended"
            self._unread += part
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def open(self, url: str, *, width: int = 1280, dark: bool = False) -> None:
        """Show a page in a window of that width, and wait until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript comes to."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press_tab(self) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)  # fmt: skip

    def nodes(self) -> list[dict[str, Any]]:
        """What a screen reader gets: role and name of everything, in the order of reading."""
        nodes = {node["nodeId"]: node for node in self.call("Accessibility.getFullAXTree")["nodes"]}
        (root,) = (key for key, node in nodes.items() if "parentId" not in node)
        found, todo = [], [root]
        while todo:
            node = nodes.get(todo.pop())
            if node is not None:
                todo += node.get("childIds", ())[::-1]
                if not node["ignored"]:
                    found.append(
                        {key: node.get(key, {}).get("value", "") for key in ("role", "name")}
                    )
        return found

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
