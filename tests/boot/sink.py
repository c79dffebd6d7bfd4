"""What messages and heartbeats are sent to in a machine: an HTTP server and an SMTP server of the loopback network.

It is both: a script that runs inside, and the fixture's way to start it and to read what came.
"""

from __future__ import annotations

import json
import os
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from machine import Machine

HTTP_PORT, SMTP_PORT = 8090, 8025
LOG, DOWN = "/srv/sink/log", "/srv/sink/down"
# A sendmail(8) that hands what it reads on standard input to the SMTP server: the recipients of its To: lines.
SENDMAIL = f"""#!/usr/bin/python3
import email, email.policy, os, smtplib, sys
assert sys.argv[1:] == ["-t", "-i"], sys.argv
mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
if "From" not in mail:
    import pwd
    mail["From"] = pwd.getpwuid(os.getuid()).pw_name + "@localhost"
with smtplib.SMTP("127.0.0.1", {SMTP_PORT}) as server:
    server.send_message(mail)
"""
_lock = threading.Lock()


def note(**entry: Any) -> list[dict[str, Any]]:
    """Write an entry; return it and those before it since `Sink.forget`."""
    with _lock, open(LOG, "a+", encoding="utf-8") as log:
        print(json.dumps({"at": time.time(), **entry}), file=log, flush=True)
        log.seek(0)
        return [json.loads(line) for line in log]


class Web(BaseHTTPRequestHandler):
    """Takes everything, but: /status/N answers N, /busy answers 503 to the first request to it since `Sink.forget`,
    /hang does not answer, /down answers 503 while there is a file DOWN, and /evil says what a terminal would obey."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        entries = note(via="http", path=self.path, body=body, headers=dict(self.headers))
        status = 200
        if self.path.startswith("/status/"):
            status = int(self.path.split("/")[2])
        elif self.path.startswith("/busy"):
            asked = sum(entry.get("path", "").startswith("/busy") for entry in entries)
            status = 503 if asked == 1 else 200
        elif self.path.startswith("/hang"):
            time.sleep(600)
        elif self.path.startswith("/down") and os.path.exists(DOWN):
            status = 503
        elif self.path.startswith("/evil"):
            self.wfile.write(b"HTTP/1.1 302 \x1b]0;owned\x07\x1b[31m" + b"x" * 60_000 + b"\r\n")
            self.wfile.write(
                b"Location: http://h/\x1b[2JL0CATION\r\n" + b"X: \x1b[1m\r\n" * 90 + b"\r\n"
            )
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, format: str, *args: object) -> None:
        pass


class Mail(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a message needs."""

    def handle(self) -> None:
        self.answer("220 sink")
        recipients: list[str] = []
        while line := self.rfile.readline():
            word = line.decode().strip()
            if word.upper() == "DATA":
                self.answer("354 go on")
                lines = []
                while (text := self.rfile.readline()) != b".\r\n":
                    lines.append(text.decode())
                note(via="mail", to=recipients, body="".join(lines))
                self.answer("250 taken")
            elif word.upper() == "QUIT":
                self.answer("221 bye")
                return
            else:
                if word.upper().startswith("RCPT TO:"):
                    recipients.append(word[8:].strip("<>"))
                self.answer("250 OK")

    def answer(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


class Sink:
    """The servers in `machine`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        machine.write("/srv/sink/sink.py", Path(__file__).read_text())
        machine.write("/usr/sbin/sendmail", SENDMAIL, 0o755)
        machine.write(
            "/etc/systemd/system/sink.service",
            "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/bin/python3 /srv/sink/sink.py\n",
        )
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "sink.service")

    def forget(self) -> None:
        self._machine.write(LOG, "")

    def got(self, via: str | None = None, path: str = "") -> list[dict[str, Any]]:
        """What came since `forget`, oldest first."""
        if not self._machine.exists(LOG):
            return []
        entries = [json.loads(line) for line in self._machine.read(LOG).splitlines()]
        return [
            entry
            for entry in entries
            if via in (None, entry["via"]) and entry.get("path", "").startswith(path)
        ]


def main() -> int:
    from systemd.daemon import notify

    web = ThreadingHTTPServer(("127.0.0.1", HTTP_PORT), Web)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    with socketserver.ThreadingTCPServer(("127.0.0.1", SMTP_PORT), Mail) as mail:
        notify("READY=1")
        mail.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
