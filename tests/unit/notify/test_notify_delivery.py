"""Handlers against a real HTTP server and real programs: what arrives, what is tried again, what is recorded."""

from __future__ import annotations

import contextlib
import email
import email.policy
import fcntl
import json
import logging
import os
import select
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from nobody import ID, as_nobody, in_a_child

from sereno.errors import FleetError, NotAvailable
from sereno.fleet.postgresql import PostgreSQL
from sereno.notify import datagram, evidence, service, state, wake
from sereno.notify.config import EVENTS, Handler, parse
from sereno.notify.datagram import Datagram, fair, receive
from sereno.notify.delivery import MOST_ALONE, Deliveries, Delivery, Task
from sereno.notify.evidence import Evidence, Journal
from sereno.notify.handling import Handling
from sereno.notify.message import FAILURE, RECOVERY, Event, Message, compose
from sereno.notify.senders import BACKOFF_S, DeliveryError, send
from sereno.notify.throttle import Moment, Row, Told
from sereno.records import journal, sending
from sereno.records.account import Account
from sereno.records.journal import FINISHED
from sereno.records.messages import HELD_BACK
from sereno.records.run_record import PROCESS_EXITED, UNIT_FAILED
from sereno.setting_names import FLEET_URL_FILE, NOTIFY_CONFIG, NOTIFY_SOCKET, NOTIFY_STATE

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT = Event(
    FAILURE, "shop_sync", "ab" * 16, "web1", "system", 0.0, result="exit-code",
    exit_code="exited", exit_status="1", error="ñandú", log=("uno", "dos"),
)  # fmt: skip
MESSAGE = compose(EVENT)
QUIET = {"pause": lambda seconds: None}


class Server(HTTPServer):
    """Answers with each of `answers` in turn, then with 200; a text is sent as it is."""

    def __init__(self) -> None:
        self.answers: list[int | str] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        if isinstance(answer, str):
            with contextlib.suppress(OSError):
                self.wfile.write(answer.encode("latin-1"))
            return
        self.send_response(answer)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def handler(text: str) -> Handler:
    (one,) = parse(f"[[handler]]\n{text}\n", "f").handlers
    return one


def webhook(url: str, more: str = "") -> Handler:
    return handler(f'type = "webhook"\nurl = "{url}"\n{more}')


def command(*words: str, more: str = "") -> Handler:
    return handler(f'type = "command"\ncommand = {json.dumps(words)}\n{more}')


def test_a_webhook_gets_the_payload_as_json_with_its_headers(server: Server) -> None:
    send(webhook(f"{server.url}/a?b=c", 'headers = {X-Token = "t"}'), MESSAGE)
    ((path, headers, body),) = server.requests
    assert path == "/a?b=c"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Token"] == "t"
    assert headers["User-Agent"].startswith("sereno/")
    assert json.loads(body) == MESSAGE.payload


def test_user_and_password_of_a_url_go_into_a_header_and_not_into_a_record(server: Server) -> None:
    url = server.url.replace("//", "//ana:s%40c@")
    send(webhook(url), MESSAGE)
    assert server.requests[0][1]["Authorization"] == "Basic YW5hOnNAYw=="
    server.answers = [404]
    with pytest.raises(DeliveryError, match=r"^127\.0\.0\.1: HTTP 404 Not Found$"):
        send(webhook(url + "/T0KEN"), MESSAGE)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_answer_that_means_not_now_is_tried_again_later_each_time(
    server: Server, status: int
) -> None:
    pauses: list[float] = []
    server.answers = [status] * 3
    send(webhook(server.url), MESSAGE, pause=pauses.append)
    assert len(server.requests) == 4
    assert pauses == list(BACKOFF_S[:3])
    server.answers = [status] * 4
    with pytest.raises(DeliveryError, match=rf"HTTP {status} .* \(after 4 tries\)"):
        send(webhook(server.url), MESSAGE, **QUIET)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 410])
def test_any_other_refusal_is_final_and_no_redirect_is_followed(
    server: Server, status: int
) -> None:
    server.answers = [status]
    with pytest.raises(DeliveryError, match=f"HTTP {status}"):
        send(webhook(server.url), MESSAGE)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "HTTP/1.1 400 \x1b[31m\x07" + "x" * 60_000 + "\r\n\r\n",
        "\x1b]0;" + "y" * 60_000 + "\r\n\r\n",
        "HTTP/1.1 200 OK\r\n" + "X: \x1b[2J\r\n" * 1000 + "\r\n",
        "HTTP/1.1 200 OK\r\nX: " + "z" * 70_000 + "\r\n\r\n",
        "HTTP/1.1 400 Bad\r\nContent-Length: 9999999999\r\n\r\n",
    ],
)
def test_of_what_a_server_says_little_is_shown_and_nothing_that_a_terminal_obeys(
    server: Server, answer: str
) -> None:
    server.answers = [answer]
    with pytest.raises(DeliveryError) as error:
        send(webhook(server.url, "retries = 0"), MESSAGE)
    assert str(error.value).isprintable()
    assert len(str(error.value)) <= 220


@pytest.mark.parametrize(
    "location", ["ftp://h/L0CATION", "http://[L0CATION", "file:///L0CATION", "//L0CATION\x1b[1m"]
)
def test_where_a_server_wants_to_redirect_to_is_neither_followed_nor_shown(
    server: Server, location: str
) -> None:
    server.answers = [f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n"]
    with pytest.raises(DeliveryError, match=r"^127\.0\.0\.1: HTTP 302 Found$"):
        send(webhook(server.url), MESSAGE)


def test_a_server_that_repeats_what_it_was_sent_puts_no_secret_into_the_error(
    server: Server,
) -> None:
    server.answers = ["HTTP/1.1 403 /a/T0KEN of ana s%40cret s@cret with geheim\r\n\r\n"]
    url = server.url.replace("//", "//ana:s%40cret@") + "/a/T0KEN"
    with pytest.raises(DeliveryError) as error:
        send(webhook(url, 'headers = {Authorization = "Bearer geheim"}'), MESSAGE)
    said = str(error.value)
    assert said.startswith("127.0.0.1: HTTP 403 /a/…")
    assert not any(secret in said for secret in ("T0KEN", "cret", "geheim"))


def test_a_server_that_is_not_there_is_tried_again_and_named_without_the_path() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/T0KEN"
        with pytest.raises(DeliveryError, match=r"refused.*\(after 2 tries\)") as error:
            send(webhook(url, "retries = 1"), MESSAGE, **QUIET)
        assert "T0KEN" not in str(error.value)


def test_a_server_that_does_not_answer_is_given_up_at_the_time_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DeliveryError, match=r"127\.0\.0\.1: .*timed out"):
            send(webhook(url, "retries = 0\ntimeout_s = 1"), MESSAGE)


def test_a_server_that_answers_a_character_at_a_time_is_given_up_at_the_time_limit() -> None:
    given_up = threading.Event()

    def drip() -> None:
        connection, _ = slow.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not given_up.wait(0.1):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as slow:
        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{slow.getsockname()[1]}"
        with pytest.raises(DeliveryError, match=r"127\.0\.0\.1: timed out: 1 s in all"):
            send(webhook(url, "retries = 0\ntimeout_s = 1"), MESSAGE)
        given_up.set()
        thread.join()


def test_apprise_is_given_up_at_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = threading.Event()
    service = SimpleNamespace(add=lambda url: True, notify=lambda **_: given_up.wait(10))
    module = SimpleNamespace(Apprise=lambda: service)
    monkeypatch.setitem(__import__("sys").modules, "apprise", module)
    with pytest.raises(DeliveryError, match="apprise: did not end within 1 s"):
        send(handler('type = "apprise"\nurls = ["json://x"]\ntimeout_s = 1'), MESSAGE)
    given_up.set()


def test_a_command_gets_json_on_stdin_its_words_unchanged_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
    monkeypatch.setenv("SERENO_NOTIFY_CONFIG", "/run/credentials/x/notify.toml")
    script = 'cat >"$1/stdin"; env >"$1/env"; printf %s "$2" >"$1/word"'
    send(command("/bin/sh", "-c", script, "sh", str(tmp_path), "$(id); * 'x'"), MESSAGE)
    assert json.loads((tmp_path / "stdin").read_text()) == MESSAGE.payload
    assert (tmp_path / "word").read_text() == "$(id); * 'x'"
    environ = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert environ["SERENO_JOB"] == "shop_sync"
    assert environ["SERENO_EXIT_STATUS"] == "1"
    assert environ["SERENO_SUBJECT"] == MESSAGE.subject
    assert not any("credentials" in value for value in environ.values())


def test_a_command_that_fails_or_hangs_or_is_not_there_says_so() -> None:
    with pytest.raises(DeliveryError, match=r"^/bin/sh: exit status 3: last words$"):
        send(command("/bin/sh", "-c", "echo first; echo last words >&2; exit 3"), MESSAGE)
    with pytest.raises(DeliveryError, match="did not end within 1 s"):
        send(command("/bin/sh", "-c", "sleep 60", more="timeout_s = 1"), MESSAGE)
    with pytest.raises(DeliveryError, match=r"^/no/such: .*No such file"):
        send(command("/no/such"), MESSAGE)


def test_a_command_that_writes_without_end_fills_nothing_and_is_ended_with_its_children(
    tmp_path: Path,
) -> None:
    script = f"trap '' TERM; sleep 61 & echo $! >{tmp_path}/child; yes; yes"
    largest, over = 0, threading.Event()

    def measure() -> None:
        nonlocal largest
        while not over.wait(0.02):
            for entry in Path("/proc/self/fd").iterdir():
                with contextlib.suppress(OSError):
                    if "memfd:output" in os.readlink(entry):
                        largest = max(largest, os.stat(entry).st_blocks * 512)

    thread = threading.Thread(target=measure)
    thread.start()
    with pytest.raises(DeliveryError, match="did not end within 1 s"):
        send(command("/bin/sh", "-c", script, more="timeout_s = 1"), MESSAGE)
    over.set()
    thread.join()
    # What is written between two looks, on a machine that is busy.
    assert 0 < largest < 1 << 30
    child, give_up = (tmp_path / "child").read_text().strip(), time.monotonic() + 10
    with contextlib.suppress(OSError):
        while Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
            assert time.monotonic() < give_up
            time.sleep(0.01)


def test_of_a_commands_last_words_its_own_arguments_are_not_shown() -> None:
    script = "echo no such host: https://h/T0KEN >&2; exit 6"
    with pytest.raises(DeliveryError, match=r"^/bin/sh: exit status 6: no such host: …$"):
        send(command("/bin/sh", "-c", script, "https://h/T0KEN"), MESSAGE)


def test_a_command_that_does_not_read_its_input_or_leaves_a_child_is_no_failure() -> None:
    send(command("/bin/true"), MESSAGE)
    send(command("/bin/sh", "-c", "sleep 5 & exit 0", more="timeout_s = 2"), MESSAGE)


def test_mail_is_handed_to_sendmail_which_takes_the_recipients_from_it(tmp_path: Path) -> None:
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/argv\ncat >{tmp_path}/mail\n')
    program.chmod(0o755)
    send(handler(f'type = "mail"\nto = ["a@b"]\nsendmail = "{program}"'), MESSAGE)
    assert (tmp_path / "argv").read_text() == "-t -i\n"
    mail = email.message_from_bytes((tmp_path / "mail").read_bytes(), policy=email.policy.default)
    assert (mail["To"], mail["Subject"], mail["Auto-Submitted"]) == (
        "a@b", MESSAGE.subject, "auto-generated",
    )  # fmt: skip
    assert mail["From"] is None
    assert mail.get_content() == MESSAGE.body


# Apprise's own imports.
@pytest.mark.filterwarnings("ignore")
def test_apprise_speaks_to_its_services(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    url = server.url.replace("http://", "json://")
    send(handler(f'type = "apprise"\nurls = ["{url}/T0KEN"]'), MESSAGE)
    ((path, _, body),) = server.requests
    assert path.startswith("/T0KEN")
    sent = json.loads(body)
    assert (sent["title"], sent["type"]) == (MESSAGE.subject, "failure")
    assert "dos" in sent["message"]
    server.answers = [500] * 9
    with pytest.raises(DeliveryError, match="not all services took the message"):
        send(handler(f'type = "apprise"\nurls = ["{url}"]'), MESSAGE)
    with pytest.raises(DeliveryError, match="urls: Apprise does not know URL 1"):
        send(handler('type = "apprise"\nurls = ["nonsense://T0KEN/x"]'), MESSAGE)
    assert "nonsense://…/x" in caplog.text
    assert "T0KEN" not in caplog.text


def test_apprise_that_is_not_installed_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with pytest.raises(DeliveryError, match="apt install apprise"):
        send(handler('type = "apprise"\nurls = ["json://x"]'), MESSAGE)


def handlers(*names: str) -> tuple[Handler, ...]:
    text = "".join(
        f'[[handler]]\ntype = "command"\nname = "{n}"\ncommand = ["/x"]\n' for n in names
    )
    return parse(text, "f").handlers


def test_no_handlers_failure_stops_another_and_each_leaves_a_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    meet = threading.Barrier(3, timeout=10)

    def sender(one: Handler, message: object, **_: object) -> None:
        meet.wait()  # all at the same time: a slow one does not hold up the others
        if one.name == "a":
            raise DeliveryError("refused")
        if one.name == "b":
            raise RuntimeError("no such scheme: https://h/T0KEN")

    deliveries = Deliveries(time.monotonic() + 10, sender)
    for one in handlers("a", "b", "c"):
        deliveries.start(Task(one, EVENT))
    deliveries.wait()
    outcomes = dict(deliveries.done)
    assert (outcomes["b"] or "").startswith(f"RuntimeError ({__file__}:")
    assert outcomes == {"a": "refused", "b": outcomes["b"], "c": None}
    assert "T0KEN" not in caplog.text
    kinds = {
        record.SERENO_HANDLER: record.MESSAGE_ID
        for record in caplog.records
        if hasattr(record, "SERENO_HANDLER")
    }
    bad, good = journal.NOT_DELIVERED, journal.DELIVERED
    assert kinds == {"a": bad, "b": bad, "c": good}


def test_handlers_that_hang_are_given_up_together_at_the_deadline() -> None:
    given_up = threading.Event()

    def sender(one: Handler, message: object, **_: object) -> None:
        if one.name != "works":
            given_up.wait(60)

    deliveries, start_s = Deliveries(time.monotonic() + 0.5, sender), time.monotonic()
    for one in handlers("a", "b", "c", "works"):
        for job in ("j1", "j2", "j3"):
            deliveries.start(Task(one, replace(EVENT, job=job)))
    deliveries.wait()
    assert time.monotonic() - start_s < 5
    late = "it did not leave in time"
    assert Counter(deliveries.done) == {
        **{Delivery(name, late): 3 for name in "abc"},
        Delivery("works", None): 3,
    }
    given_up.set()


@pytest.mark.parametrize("name", ["command", "webhook"])
def test_three_handlers_of_which_each_takes_all_of_its_time_end_at_the_deadline(
    name: str, server: Server
) -> None:
    hanging = {
        "command": command("/bin/sleep", "60"),
        "webhook": webhook("http://127.0.0.1:9", "retries = 6"),
    }
    deliveries, start_s = Deliveries(time.monotonic() + 1.5), time.monotonic()
    for number in range(3):
        deliveries.start(Task(replace(hanging[name], name=f"h{number}"), EVENT))
    deliveries.wait()
    assert time.monotonic() - start_s < 8
    assert [one.error is None for one in deliveries.done] == [False] * 3


def test_much_of_a_kind_that_waits_for_a_handler_is_one_message_and_little_has_one_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    sent: list[Message] = []
    deliveries = Deliveries(
        time.monotonic() + 10, lambda one, message, **_: sent.append(message), gather_s=0.3
    )
    (one,) = handlers("a")
    done: list[str] = []
    for number in range(MOST_ALONE + 2):
        event = replace(EVENT, job=f"j{number}", run=run_id(number))
        # The third is no longer to be told.
        due = (lambda event: None) if number == 2 else (lambda event: event)
        deliveries.start(Task(one, event, due, lambda event: done.append(event.job)))
    for number in range(MOST_ALONE):
        deliveries.start(Task(one, replace(EVENT, kind=RECOVERY, job=f"j{number}")))
    deliveries.wait()
    together, *alone = sent
    assert [message.payload["event"] for message in alone] == ["recovery"] * MOST_ALONE
    assert [message.payload["more"] for message in alone] == [[]] * MOST_ALONE
    told = [together.payload, *together.payload["more"]]
    assert [(one["job"], one["run"]) for one in told] == [
        (f"j{number}", run_id(number)) for number in (0, 1, 3, 4)
    ]
    assert done == ["j0", "j1", "j3", "j4"]
    assert "4 tareas fallidas: j0, j1, j3, j4" in together.subject
    assert together.body.count("(exit-code, 1): ñandú\n") == 4
    # Each has its record all the same.
    failures = [one for one in caplog.records if getattr(one, "SERENO_EVENT", "") == FAILURE]
    assert [record.SERENO_JOB for record in failures] == done


def test_of_what_shares_a_message_that_does_not_leave_nothing_counts_as_told() -> None:
    done: list[str] = []

    def refused(*_: object, **__: object) -> None:
        raise DeliveryError("refused")

    deliveries = Deliveries(time.monotonic() + 10, refused, gather_s=0.2)
    (one,) = handlers("a")
    for number in range(MOST_ALONE + 1):
        event = replace(EVENT, job=f"j{number}")
        deliveries.start(Task(one, event, done=lambda event: done.append(event.job)))
    deliveries.wait()
    assert deliveries.done == [Delivery("a", "refused")] * (MOST_ALONE + 1)
    assert done == []


# --- what the units start -----------------------------------------------------------------------------------------

RUN = "1" * 32
HANDLERS = "".join(
    f'[[handler]]\ntype = "command"\nname = "{n}"\ncommand = ["/x"]\n' for n in ("a", "b")
)


def run_id(number: int) -> str:
    return f"{number:032x}"


class Desk:
    """A `Handling` whose journal, manager and handlers are the test's own: one `Handling` for each thing that comes."""

    def __init__(self, tmp_path: Path, text: str = HANDLERS, **found: Any) -> None:
        (tmp_path / "notify.toml").write_text(text)
        self.now_s, self.state = 1e9, tmp_path / "state"
        self.environ = {NOTIFY_CONFIG: str(tmp_path / "notify.toml"), NOTIFY_STATE: str(self.state)}
        self.found: dict[str, Any] = {
            "status": "failed",
            "error": "E",
            "alerts": {},
            "lines": ("uno",),
            **found,
        }
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.broken: set[str] = set()
        self.accounts: dict[str, Account] = {}
        self.last: dict[str, Moment] = {}
        self.asked: list[str] = []
        self.meanwhile: Any = lambda name: None
        self.course: list[Account] = []
        self.has_journal = True

    def send(self, one: Handler, message: Any, **_: object) -> None:
        self.meanwhile(one.name)
        if one.name in self.broken:
            raise DeliveryError("out of order")
        self.messages.append((one.name, message.payload))

    def gather(self, job_id: str, run_id: str, *_: object, wait: bool) -> Evidence:
        self.asked.append(f"{run_id[-1:]} {'waits' if wait else 'looks'}")
        return Evidence(**self.found)

    def last_moment(self, job_id: str, run_id: str) -> Moment | None:
        return self.last.get(run_id)

    def since(self, job_id: str, run_id: str, since_s: float = 0.0) -> list[Account]:
        ids = [one.run_id for one in self.course]
        return self.course[ids.index(run_id) + 1 if run_id in ids else 0 :]

    def failures(self, since_s: float) -> dict[str, dict[str, Account]]:
        return {"j": {one.run_id: one for one in self.course if one.has_failed}}

    def handling(self) -> tuple[Handling, Deliveries]:
        deliveries = Deliveries(time.monotonic() + 10, self.send)
        options: dict[str, Any] = {"journal": self}

        def ask(job_ids: Any, *, failed: bool = False) -> dict[str, Account]:
            found = self.accounts.items()
            return {job: one for job, one in found if job in job_ids or (failed and one.has_failed)}

        return Handling(
            self.environ, deliveries, now_s=lambda: self.now_s, ask=ask, **options
        ), deliveries

    def fail(self, number: int, result: str = "exit-code") -> None:
        handling, deliveries = self.handling()
        self.now_s += 1
        self.last.setdefault(run_id(number), evidence.moment(self.now_s - 1e9))
        failed = Account(run_id(number), True, result, "exited", "1", ended_s=time.monotonic())
        if self.has_journal:
            self.course.append(failed)
        else:
            self.accounts["j"] = failed
        self.watch(handling, deliveries)

    def watch(self, handling: Handling, deliveries: Deliveries) -> None:
        """As the service does."""
        while not handling.look(0.0):
            deliveries.wait(0.05)

    def succeed(self, number: int, **options: Any) -> None:
        handling, deliveries = self.handling()
        self.now_s += 1
        self.last.setdefault(run_id(number), evidence.moment(self.now_s - 1e9))
        self.found = {**self.found, "status": "success", "error": None}
        handling.succeeded("j", run_id(number), self.accounts.get("j"), **options)
        deliveries.wait()
        self.found = {**self.found, "status": "failed"}

    def told(self, name: str = "a", *keys: str) -> list[Any]:
        of_handler = [payload for handler, payload in self.messages if handler == name]
        return [
            tuple(one[key] for key in ("event", *keys)) if keys else one["event"]
            for one in of_handler
        ]


def test_a_failure_is_told_once_and_kept_with_its_flag(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.fail(1)
    desk.fail(2)
    assert desk.told("a", "job", "result", "failures") == [("failure", "j", "exit-code", 1)]
    assert (desk.state / "j.failing").exists()
    desk.succeed(3)
    desk.succeed(4)
    assert desk.told("a", "failures", "untold")[1:] == [("recovery", 2, 1)]
    assert desk.told("b") == ["failure", "recovery"]
    assert not (desk.state / "j.failing").exists()


def test_a_message_of_a_failure_has_the_way_out_that_the_run_knew(tmp_path: Path) -> None:
    hint = "the sandbox has no network: network=True where the job is added"
    desk = Desk(tmp_path, hint=hint)
    desk.fail(1)
    assert desk.told("a", "error") == [("failure", f"E; {hint}")]


def test_a_handler_that_is_down_hides_nothing_of_another_and_tells_later_what_it_owes(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    desk.broken = {"b"}
    desk.fail(1)
    assert (desk.told("a"), desk.told("b")) == (["failure"], [])
    desk.broken = set()
    desk.fail(2)
    assert (desk.told("a"), desk.told("b", "failures", "untold")) == (
        ["failure"],
        [("failure", 2, 1)],
    )
    desk.broken = {"b"}
    desk.succeed(3)
    assert desk.told("a") == ["failure", "recovery"]
    # A run looks for this to know that its success is of interest.
    assert (desk.state / "j.failing").exists()
    desk.broken = set()
    desk.succeed(4)
    assert desk.told("a") == ["failure", "recovery"]
    assert desk.told("b", "failures") == [("failure", 2), ("recovery", 2)]
    assert not (desk.state / "j.failing").exists()


def test_what_a_process_that_was_killed_had_not_told_is_told_once_by_the_next(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    if not (child := os.fork()):
        desk.meanwhile = lambda name: os.kill(os.getpid(), signal.SIGKILL)
        desk.fail(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert (desk.state / "j.failing").exists()
    # By the process that systemd starts in its place, and by no later one again.
    desk.course = [Account(run_id(1), True, "exit-code", "exited", "1")]
    for _ in range(2):
        desk.watch(*desk.handling())
    assert desk.told("a", "failures", "untold") == [("failure", 1, 0)]
    assert desk.told("b") == ["failure"]
    desk.now_s += 86_400
    desk.fail(2)
    assert desk.told("a", "failures", "untold")[1:] == [("failure", 2, 0)]


def test_each_handler_is_asked_only_for_the_events_and_jobs_that_it_wants(tmp_path: Path) -> None:
    text = HANDLERS.replace('name = "a"', 'name = "a"\nevents = ["recovery"]')
    desk = Desk(tmp_path, text.replace('name = "b"', 'name = "b"\njobs = ["x*"]'))
    desk.fail(1)
    desk.succeed(2)
    assert (desk.told("a"), desk.told("b")) == (["recovery"], [])
    assert not (desk.state / "j.failing").exists()


def test_a_success_that_ended_before_the_failure_is_no_recovery(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    early, late = evidence.moment(1.0), evidence.moment(2.0)
    desk.last = {run_id(1): early, run_id(2): late}
    desk.fail(2)
    desk.succeed(1)
    assert desk.told() == ["failure"]
    assert (desk.state / "j.failing").exists()


def test_what_came_while_a_failure_was_being_told_is_told_after_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    def recover(name: str) -> None:
        # As another process would, while handler b takes its time.
        if name == "b" and "j" not in desk.accounts:
            desk.meanwhile = lambda name: None
            ended = time.monotonic()
            desk.accounts["j"] = Account(run_id(2), True, "success", "exited", "0", ended, ended)
            desk.succeed(2)
            desk.found["status"] = "success"

    desk.last[run_id(1)] = evidence.moment(1.0)
    desk.meanwhile = recover
    desk.fail(1)
    assert sorted(desk.told("b")) == ["failure", "recovery"]
    assert desk.told("b")[-1] == "recovery"
    assert not (desk.state / "j.failing").exists()


def test_without_a_journal_the_managers_word_alone_tells_of_a_recovery(tmp_path: Path) -> None:
    desk = Desk(tmp_path, status="", error=None, lines=())
    desk.has_journal = False
    desk.fail(1)
    desk.accounts["j"] = Account(run_id(2), True, "success", "exited", "0", 5e9, 6e9)
    handling, deliveries = desk.handling()
    assert handling.heard([Datagram("succeeded", "j", run_id(2), 0)]) == []
    deliveries.wait()
    assert desk.told("a", "run") == [("failure", run_id(1)), ("recovery", run_id(2))]
    # What the journal has of it must not say otherwise: the run has left no closing record.
    desk.fail(3)
    desk.accounts["j"] = Account(run_id(4), True, "success", "exited", "0", 9e9, 10e9)
    desk.found["lines"] = ("started",)
    handling.heard([Datagram("succeeded", "j", run_id(4), 0)])
    deliveries.wait()
    assert desk.told().count("recovery") == 1


def test_without_a_journal_the_manager_tells_of_every_job_that_failed_and_of_none_twice(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, status="", error=None, lines=())
    desk.has_journal = False
    long_ago = Account(run_id(8), True, "timeout", "killed", "KILL", ended_s=-1e9)
    desk.accounts = {"k": long_ago, "m": long_ago._replace(ended_s=time.monotonic())}
    desk.fail(1)
    desk.fail(1)
    desk.fail(2)
    desk.now_s += 86_400
    desk.fail(3)
    assert sorted(desk.told("a", "job", "failures", "untold")) == [
        ("failure", "j", 1, 0),
        ("failure", "j", 3, 1),
        ("failure", "m", 1, 0),
    ]


def test_a_success_before_a_start_that_never_was_one_is_no_recovery(tmp_path: Path) -> None:
    desk = Desk(tmp_path, status="success", error=None)
    now_s = time.monotonic()
    desk.accounts["j"] = Account(run_id(1), True, "success", "exited", "0", now_s - 3, now_s - 2)
    desk.course = [Account("", True, "dependency")]
    desk.watch(*desk.handling())
    assert desk.told("a", "result") == [("failure", "dependency")]
    later = desk.accounts["j"]._replace(run_id=run_id(2), ended_s=time.monotonic() + 1)
    desk.accounts["j"] = later
    handling, deliveries = desk.handling()
    handling.heard([Datagram("succeeded", "j", run_id(2), 0)])
    deliveries.wait()
    assert desk.told() == ["failure", "recovery"]


def test_a_journal_that_cannot_be_read_holds_up_no_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path)

    def broken(*_: object) -> Any:
        raise OSError("Bad message")
        yield

    handling, deliveries = desk.handling()
    handling = Handling(
        desk.environ, deliveries, journal=Journal(False, broken), ask=lambda *_, **__: {}
    )
    start_s = time.monotonic()
    handling.failed("j", Account(run_id(1), True, "exit-code", "exited", "1"), None)
    desk.watch(handling, deliveries)
    assert time.monotonic() - start_s < 1.5
    assert desk.told() == ["failure"]
    assert caplog.text.count("Bad message") == 1


@pytest.mark.parametrize("told", [True, False])
def test_a_run_that_somebody_stopped_is_no_failure_whatever_its_process_made_of_that(
    tmp_path: Path, told: bool
) -> None:
    desk = Desk(tmp_path, status="interrupted", told=told)
    for number, result in enumerate(("signal", "exit-code", "timeout")):
        desk.fail(number, result)
    assert bool(desk.told()) is told


def test_what_failed_again_while_a_failure_was_being_told_is_counted(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.course = [Account(run_id(number), True, "timeout") for number in (1, 2, 3)]
    desk.fail(4)
    desk.now_s += 86_400
    desk.fail(5)
    told = desk.told("a", "failures", "untold")
    assert (told[-1][1], sum(1 + untold for _, _, untold in told)) == (5, 5)


@pytest.mark.parametrize("handlers", [1, 2])
def test_a_failure_that_a_slow_handler_holds_back_afterwards_leaves_a_record(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, handlers: int
) -> None:
    caplog.set_level(logging.INFO)
    desk = Desk(tmp_path, HANDLERS[: len(HANDLERS) // 2 * handlers])

    def fail_again(name: str) -> None:
        if name == "a":
            desk.course += [Account(run_id(2), True, "timeout")]
            until_s = time.monotonic() + 30
            while state.States(str(desk.state)).read("j").run != run_id(2):
                assert time.monotonic() < until_s
                time.sleep(0.01)

    desk.meanwhile = fail_again
    desk.fail(1)
    assert desk.told("a", "failures") == [("failure", 1)]
    held = [one for one in caplog.records if getattr(one, "MESSAGE_ID", "") == HELD_BACK.kind]
    assert [(one.SERENO_RUN, one.SERENO_EVENT) for one in held] == [(run_id(2), "failure")]
    assert "2 fallos seguidos" in held[0].getMessage()


def test_a_success_between_two_failures_that_one_start_tells_ends_the_row(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    good = Account(run_id(2), True, "success", "exited", "0")
    desk.course = [Account(run_id(1), True, "timeout"), good]
    desk.fail(3)
    # In one message, or in two.
    assert {*desk.told("a", "failures")} == {("failure", 1)}
    before = len(desk.told())
    # Also where each has a start of its own, and word of the success comes after both.
    desk.course.append(good._replace(run_id=run_id(4)))
    desk.fail(5)
    desk.fail(6)
    desk.last[run_id(4)] = evidence.moment(1.0)
    desk.succeed(4)
    assert desk.told("a", "failures")[before:] == [("failure", 1)]
    assert (desk.state / "j.failing").exists()
    desk.succeed(7)
    assert desk.told("a", "failures")[-1:] == [("recovery", 2)]


def test_a_recovery_is_told_once_the_failure_is_and_a_broken_handler_is_not_asked_for_ever(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    told_late, both_tried = threading.Event(), threading.Event()

    def meanwhile(name: str) -> None:
        if name == "b":
            told_late.wait(10)
        elif desk.told("a"):
            both_tried.set()
            raise DeliveryError("out of order")

    desk.meanwhile = meanwhile
    desk.found["status"] = ""
    handling, deliveries = desk.handling()
    desk.last = {run_id(1): evidence.moment(1.0), run_id(2): evidence.moment(2.0)}
    desk.course = [Account(run_id(1), True, "exit-code", "exited", "1")]
    assert not handling.look(0.0)
    desk.found["status"] = "success"
    desk.accounts["j"] = Account(run_id(2), True, "success", "exited", "0", 2.0, 2.0)
    give_up = time.monotonic() + 10
    while not both_tried.is_set() and time.monotonic() < give_up:
        deliveries.wait(0.02)
        assert not handling.look(0.0)
    told_late.set()
    desk.watch(handling, deliveries)
    assert desk.told("b") == ["failure", "recovery"]
    assert desk.told("a") == ["failure"]
    errors = [one for one in deliveries.done if one.error]
    assert 1 <= len(errors) <= 3
    assert {one.handler for one in errors} == {"a"}


def test_a_success_that_the_journal_does_not_confirm_tells_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.fail(1)
    for status in ("", "failed", "skipped"):
        desk.found["status"] = status
        handling, deliveries = desk.handling()
        handling.succeeded("j", run_id(2), None)
        deliveries.wait()
    desk.accounts["j"] = Account(run_id(3), True, "exit-code", "exited", "1", 5.0, 6.0)
    desk.succeed(3)
    assert desk.told() == ["failure"]
    assert (desk.state / "j.failing").exists()


def test_each_alert_of_a_success_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path, alerts={"capacity": "95 %", "hit_rate": "3 %"})
    desk.succeed(1, alerts=("hit_rate",))
    desk.succeed(2, alerts=("hit_rate",))
    # What looks for recoveries alone tells of none.
    desk.succeed(3)
    assert len(desk.told("b")) == 2
    assert sorted(desk.told("b", "alert", "error")) == [
        ("alert", "capacity", "95 %"),
        ("alert", "hit_rate", "3 %"),
    ]


def test_what_would_change_nothing_and_runs_that_nobody_knows_are_dropped_without_waiting(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    desk.fail(1)
    desk.asked.clear()
    handling, _ = desk.handling()
    nobody = [Datagram("succeeded", f"job_{n}", run_id(n), 7) for n in range(500)]
    unknown = [Datagram("succeeded", f"job_{n}", run_id(n), 7, ("disk",)) for n in range(5, 500)]
    claimed = [Datagram("succeeded", "j", run_id(n), 7) for n in range(500, 1000)]
    assert handling.heard([*nobody, *unknown, *claimed]) == []
    assert desk.asked == []
    # A run of the past that is real is looked at, and not waited for.
    desk.last[run_id(2)] = evidence.moment(1.0)
    handling.heard([Datagram("succeeded", "j", run_id(2), 7)])
    assert desk.asked == ["2 looks"]


def test_a_run_that_is_not_over_is_waited_for_within_a_bound_and_holds_up_no_other(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    desk.fail(1)
    handling, deliveries = desk.handling()
    desk.accounts["j"] = Account(run_id(2), False, began_s=1.0)
    soon = Datagram("succeeded", "j", run_id(2), 0, (), time.monotonic())
    old = soon._replace(heard_s=time.monotonic() - 1000)
    assert handling.heard([soon]) == [soon]
    # Of the run before nothing is known: what is under way tells as much.
    assert handling.heard([soon._replace(run_id=run_id(9))]) == [soon]
    assert handling.heard([old]) == []
    assert desk.told() == ["failure"]
    desk.accounts["j"] = Account(run_id(2), True, "success", "exited", "0", 5e9, 6e9)
    desk.found = {**desk.found, "status": "success"}
    assert handling.heard([soon]) == []
    deliveries.wait()
    assert desk.told() == ["failure", "recovery"]


CLOSING = {
    "MESSAGE_ID": FINISHED, "SERENO_JOB": "j", "SERENO_RUN": "r", "SERENO_STATUS": "success", "_UID": "0",
    "__REALTIME_TIMESTAMP": 1e6,
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "success"),
        ({"_SYSTEMD_UNIT": "sereno@j.service"}, "success"),
        # A stranger's, whose process is gone before journald looks.
        ({"_UID": "1000"}, ""),
        ({"SERENO_JOB": "other"}, ""),
        ({"_SYSTEMD_UNIT": "sereno@other.service"}, ""),
        # The job of the same id of somebody's own manager.
        ({"_SYSTEMD_UNIT": "user@1.service", "_SYSTEMD_USER_UNIT": "sereno@j.service"}, ""),
    ],
)
def test_a_run_of_another_job_is_no_evidence(fields: dict[str, str], status: str) -> None:
    read = lambda *_: iter([{**CLOSING, **fields}])  # noqa: E731
    assert Journal(False, read).gather("j", "r", 1, wait=False).status == status


def test_the_moment_of_a_run_of_this_boot_is_told_by_the_newest_record_whatever_proc_says() -> None:
    def record(boot: bytes, at_us: int) -> dict[str, Any]:
        time_of = {"__MONOTONIC_TIMESTAMP": (at_us, boot * 16)}
        return {"_PID": "1", "UNIT": "sereno@j.service", "INVOCATION_ID": RUN, **time_of}

    def read(*alternatives: list[str]) -> Iterator[dict[str, Any]]:
        return iter([asked] if alternatives == ([f"INVOCATION_ID={RUN}"],) else [record(b"b", 9)])

    asked = record(b"b", 5_000_000)
    assert Journal(False, read).last_moment("j", RUN) == evidence.moment(5.0)
    asked = record(b"a", 7_000_000)
    assert Journal(False, read).last_moment("j", RUN) == Moment("61" * 16, 7.0)
    assert Journal(False, read).last_moment("k", RUN) is None
    assert Journal(False, read).last_moment("j", "") is None


def test_an_alert_is_found_however_much_its_run_logged_afterwards() -> None:
    own = {"SERENO_RUN": "r", "_SYSTEMD_UNIT": "sereno@j.service", "_UID": "7"}
    alert = {**own, "MESSAGE": "disk almost full", "SERENO_ALERT": "disk"}
    log = [alert, *({**own, "MESSAGE": f"line {n}"} for n in range(600)), CLOSING]

    def read(*alternatives: tuple[str | bytes, ...]) -> Iterator[dict[str, Any]]:
        assert ("SERENO_RUN=r", *alternatives[0][1:]) in alternatives
        if matches := alternatives[0][1:]:
            return iter([alert] if matches == (b"SERENO_ALERT=disk",) else [])
        return reversed(log)

    found = Journal(False, read).gather("j", "r", 1, ["disk", "gone"], wait=False)
    assert found == Evidence("success", None, {"disk": "disk almost full"}, ("line 599",))


def test_a_datagram_names_as_many_alerts_as_it_holds(tmp_path: Path) -> None:
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        wake.send(
            address, "succeeded", "j", RUN, ["a" * 70_000, *(f"n{n:099}" for n in range(999))]
        )
        (heard,) = receive(receiver)
    assert heard.alerts == tuple(f"n{n:099}" for n in range(len(heard.alerts)))
    assert 600 < len(heard.alerts) < 999


@pytest.mark.parametrize(
    "garbage", ["", "[]", "{}", '{"failing_since_s": "x"}', "\0", "[" * 60_000, "[1e999, 1]", None]
)
def test_a_state_file_that_is_garbage_counts_as_none(tmp_path: Path, garbage: str | None) -> None:
    desk = Desk(tmp_path)
    for number in (1, 2, 3):
        desk.fail(number)
        (desk.state / "j.json").unlink()
        if garbage is None:
            os.mkfifo(desk.state / "j.json")
        else:
            (desk.state / "j.json").write_text(garbage)
    assert desk.told() == ["failure"] * 3
    # The flag alone still says that it failed.
    desk.succeed(4)
    assert desk.told()[3:] == ["recovery"]
    assert not (desk.state / "j.failing").exists()


def test_a_flag_that_says_what_is_not_so_is_taken_away(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.fail(1)
    desk.succeed(2)
    (desk.state / "j.failing").touch()
    desk.succeed(3)
    assert not (desk.state / "j.failing").exists()


@pytest.mark.parametrize("what", ["no directory", "full"])
def test_a_state_that_cannot_be_kept_holds_no_message_back_and_repeats_no_recovery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    desk = Desk(tmp_path)
    if what == "full":
        desk.fail(1)
        full = OSError(28, "No space left on device")
        monkeypatch.setattr(state, "replace", Mock(side_effect=full))
    else:
        desk.state.write_text("a file where the directory should be")
    desk.broken = {"a", "b"}
    desk.fail(2)
    desk.broken = set()
    desk.fail(3)
    assert desk.told()[-1] == "failure"
    assert "Tarea j: avisos sin memoria: " in caplog.text
    if what == "full":
        desk.succeed(4)
        desk.succeed(5)
        assert desk.told().count("recovery") == 1
        assert not (desk.state / "j.failing").exists()


def test_what_the_disk_does_not_take_is_known_to_the_next_handler_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, waiting = state.States(str(tmp_path)), ["b"]

    def add(name: str) -> None:
        states.change("j", lambda before: before._replace(told={**before.told, name: Told({})}))

    # When the first one's lock is free again, and it has yet to say that nothing could be kept.
    monkeypatch.setattr(state._logger, "warning", lambda *_: waiting and add(waiting.pop()))
    monkeypatch.setattr(state, "replace", Mock(side_effect=OSError(28, "No space left on device")))
    add("a")
    assert {"a", "b"} <= states.read("j").told.keys()


def test_a_lock_that_is_never_given_back_holds_no_message_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "LOCK_S", 0.1)
    desk = Desk(tmp_path)
    desk.fail(1)
    # Whoever may read the directory may lock it; the lock's own file opens to its user alone.
    assert (desk.state / ".lock").stat().st_mode & 0o777 == 0o600
    for number, path in enumerate((desk.state, desk.state / ".lock"), 2):
        with contextlib.ExitStack() as stack:
            descriptor = os.open(path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            desk.now_s += 86_400
            desk.fail(number)
    assert desk.told() == ["failure"] * 3


def test_two_processes_count_every_failure(tmp_path: Path) -> None:
    kept = state.States(str(tmp_path))
    count = lambda one: one._replace(failing=Row(1.0, one.failing.number + 1 if one.failing else 1))  # noqa: E731
    children = []
    for _ in range(4):
        if not (child := os.fork()):
            for _ in range(50):
                kept.change("j", count)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert kept.read("j").failing == Row(1.0, 200)


def send_raw(address: str, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for data in datagrams:
            sender.sendto(data, address)


def test_a_datagram_is_read_with_its_senders_user_and_garbage_is_left_out(tmp_path: Path) -> None:
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        heard = []
        for garbage in (
            b"", b"[]", b"\xff", b"\0" * 1000, b"[" * 60_000, b'{"a":' * 9_000, b'["' + b"x" * 100_000,
            b"[" + b"9" * 60_000 + b"]", b'["succeeded", 3, "r"]', b'["a","../x","%s"]' % RUN.encode(),
            b'["succeeded","j","r"]', b'["succeeded","j\\ud800","%s"]' % RUN.encode(), b'{"a":1}',
            b'["succeeded","j","\\u0000%s"]' % RUN[1:].encode(), b"[" * 30_000 + b"]" * 30_000,
        ):  # fmt: skip
            send_raw(address, garbage)
            heard += receive(receiver)
        assert heard == []
        wake.send(address, "succeeded", "a_job", RUN, ["disk", "ñ\udc80"])
        wake.send(address, "test", "sereno", RUN)
        assert [tuple(one[:5]) for one in receive(receiver)] == [
            ("succeeded", "a_job", RUN, os.getuid(), ("disk", "ñ\udc80")),
            ("test", "sereno", RUN, os.getuid(), ()),
        ]
        assert receive(receiver) == []


def test_no_senders_flood_keeps_another_waiting() -> None:
    flood = [Datagram("succeeded", f"j{n}", run_id(n), 1) for n in range(5000)]
    again = [Datagram("succeeded", "k", RUN, 2, (f"a{n}",)) for n in range(2000)]
    found = fair([*flood, *again, Datagram("test", "sereno", RUN, 0)])
    assert [one.uid for one in found[:3]] == [1, 2, 0]
    assert [len([one for one in found if one.uid == uid]) for uid in (0, 1, 2)] == [1, 1000, 1]
    assert len(found[1].alerts) == 1000


def test_only_root_and_the_user_itself_may_ask_for_a_test(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    handling, deliveries = desk.handling()
    handling.heard([Datagram("test", "sereno", RUN, 12345)])
    deliveries.wait()
    assert desk.told() == []
    handling.heard([Datagram("test", "sereno", RUN, 0)])
    deliveries.wait()
    assert desk.told() == ["test"]


def test_waking_never_raises_and_needs_somebody_who_wants_to_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(NOTIFY_SOCKET, str(tmp_path / "s"))
    monkeypatch.setenv(NOTIFY_CONFIG, str(tmp_path / "notify.toml"))
    wake.wake("j", "r")
    assert caplog.records == []
    (tmp_path / "notify.toml").touch()
    wake.wake("j", "r")
    assert "Tarea j: aviso no pedido" in caplog.text


def test_waking_needs_nothing_that_a_job_may_have_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As gevent and pytest-socket do."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "s"))
        monkeypatch.setenv(NOTIFY_SOCKET, str(tmp_path / "s"))
        monkeypatch.setenv(NOTIFY_CONFIG, str(tmp_path))
        monkeypatch.setattr(socket, "socket", None)
        wake.wake("j", RUN)
        (heard,) = receive(receiver)
    assert heard[:3] == ("succeeded", "j", RUN)


def test_a_broken_file_is_recorded_and_is_the_units_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal, "set_up_as", lambda identifier: None)
    (tmp_path / "notify.toml").write_text("x = 1")
    environ = {NOTIFY_CONFIG: str(tmp_path / "notify.toml"), NOTIFY_STATE: str(tmp_path)}
    assert service.run(environ, of_failures=True) == 2
    assert [record.MESSAGE_ID for record in caplog.records] == [journal.NOT_DELIVERED]


class Inbox:
    """The socket that systemd gives to the unit, as its process finds it at each start."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(journal, "set_up_as", lambda identifier: None)
        monkeypatch.setattr(service, "GATHER_S", 0.0)
        self.desk = Desk(tmp_path)
        monkeypatch.setattr(service, "Handling", lambda environ, deliveries: self.made(deliveries))
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = str(tmp_path / "s")
        self.socket.bind(self.address)
        self.environ = {"LISTEN_FDS": "1", **self.desk.environ}
        self.made = lambda deliveries: self.of_desk(deliveries)

    def of_desk(self, deliveries: Deliveries) -> Handling:
        handling, _ = self.desk.handling()
        handling._deliveries = deliveries
        deliveries._send = self.desk.send
        return handling

    def recovers(self, *jobs: str) -> None:
        for number, job in enumerate(jobs):
            (self.desk.state).mkdir(exist_ok=True)
            (self.desk.state / f"{job}.failing").touch()
            self.desk.accounts[job] = Account(
                run_id(number), True, "success", "exited", "0", 5e9, 6e9
            )
            wake.send(self.address, "succeeded", job, run_id(number))
        self.desk.found = {**self.desk.found, "status": "success"}

    def start(self, monkeypatch: pytest.MonkeyPatch) -> int:
        monkeypatch.setattr(service, "_FIRST_DESCRIPTOR", os.dup(self.socket.fileno()))
        return service.run(self.environ, of_failures=False)


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    inbox = Inbox(tmp_path, monkeypatch)
    with inbox.socket:
        yield inbox


def test_no_datagram_ends_the_listener(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    send_raw(inbox.address, b"[" * 60_000, b"\xff\0", b'["succeeded","k\\ud800","x"]')
    inbox.recovers("j")
    assert inbox.start(monkeypatch) == 0
    assert inbox.desk.told() == ["recovery"]


def test_a_slow_handler_holds_up_no_message_of_another_that_comes_meanwhile(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()

    def meanwhile(name: str) -> None:
        if name == "b" and not told.is_set():
            inbox.recovers("j", "k")
            give_up = time.monotonic() + 10
            while len(inbox.desk.told("a")) < 2 and time.monotonic() < give_up:
                time.sleep(0.01)
            assert len(inbox.desk.told("a")) == 2
            told.set()

    inbox.desk.meanwhile = meanwhile
    inbox.recovers("j")
    assert inbox.start(monkeypatch) == 0
    assert inbox.desk.told("a") == inbox.desk.told("b") == ["recovery", "recovery"]


def test_a_recovery_that_a_killed_start_did_not_tell_is_told_after_the_next_success(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    inbox.recovers("j", "k")
    inbox.made = killed
    with pytest.raises(KeyboardInterrupt):
        inbox.start(monkeypatch)
    assert (inbox.desk.state / "j.failing").exists()
    inbox.made = lambda deliveries: inbox.of_desk(deliveries)
    inbox.recovers("j", "k")
    assert inbox.start(monkeypatch) == 0
    assert sorted(job for _, job in inbox.desk.told("a", "job")) == ["j", "k"]


def test_an_alert_that_a_killed_start_did_not_tell_is_told_by_the_next_one(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.desk.state.mkdir()
    inbox.desk.found = {**inbox.desk.found, "status": "success", "alerts": {"disk": "full"}}
    for number, job in enumerate(("j", "k", "m")):
        inbox.desk.last[run_id(number)] = evidence.moment(1.0)
        wake.send(inbox.address, "succeeded", job, run_id(number), ["disk"])
    if not (child := os.fork()):
        inbox.desk.meanwhile = lambda name: os.kill(os.getpid(), signal.SIGKILL)
        inbox.start(monkeypatch)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    # What a kill left half written is no reason to lose the rest.
    with (inbox.desk.state / ".heard").open("a") as file:
        file.write('\n0 ["succeeded", "n", "\nx [1]\n7')
    assert receive(inbox.socket) == []
    assert inbox.start(monkeypatch) == 0
    told = [("alert", job, "full") for job in "jkm"]
    assert sorted(inbox.desk.told("a", "job", "error")) == told
    assert not (inbox.desk.state / ".heard").exists()
    assert inbox.start(monkeypatch) == 0
    assert sorted(inbox.desk.told("b", "job", "error")) == told


def test_an_alert_that_comes_while_the_file_is_broken_is_told_once_it_is_mended(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.desk.state.mkdir()
    Path(inbox.environ[NOTIFY_CONFIG]).write_text("x = 1")
    inbox.desk.found = {**inbox.desk.found, "status": "success", "alerts": {"disk": "full"}}
    inbox.desk.last[RUN] = evidence.moment(1.0)
    wake.send(inbox.address, "succeeded", "j", RUN, ["disk"])
    assert inbox.start(monkeypatch) == 2
    Path(inbox.environ[NOTIFY_CONFIG]).write_text(HANDLERS)
    assert inbox.start(monkeypatch) == 0
    assert inbox.desk.told("a", "job") == [("alert", "j")]


def test_of_a_flood_only_so_much_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagram, "MOST_BYTES", 1000)
    heard = datagram.Heard(str(tmp_path))
    flood = [Datagram("succeeded", "j", run_id(n), 7, ("disk",)) for n in range(100)]
    heard.add(flood)
    kept = [one._replace(heard_s=0.0) for one in heard.read()]
    assert 10 < len(kept) < 20
    assert kept == flood[: len(kept)]
    assert (tmp_path / ".heard").stat().st_size <= 1000


@pytest.mark.parametrize("away", ["at first", "later"])
def test_without_the_journals_socket_messages_leave_all_the_same(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    address = tmp_path / "journal"

    def told() -> bool:
        monkeypatch.undo()
        monkeypatch.setattr(service, "Handling", lambda environ, made: inbox.made(made))
        monkeypatch.setattr(sending, "SOCKET", str(address))
        monkeypatch.setenv("INVOCATION_ID", RUN)
        inbox.desk.meanwhile = lambda name: address.unlink(missing_ok=True)
        inbox.desk.course = [Account(run_id(1), True, "exit-code", "exited", "1")]
        done = service.run(inbox.environ, of_failures=True)
        return done == 0 and inbox.desk.told() == ["failure"]

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        if away == "later":
            journald.bind(str(address))
            address.chmod(0o666)
        assert in_a_child(told)


@pytest.mark.parametrize("whose", ["file", "directory"])
def test_a_state_of_another_owner_holds_no_message_back(whose: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        desk = Desk(Path(place))
        desk.fail(1)
        for path in (desk.state, desk.state / ".lock"):
            os.chown(path, ID, ID)
        (desk.state / "j.json").chmod(0)
        if whose == "directory":
            os.chown(desk.state, os.geteuid(), os.getegid())
            desk.state.chmod(0o500)
        Path(place).chmod(0o755)

        def told() -> bool:
            desk.now_s += 10
            desk.fail(2)
            desk.fail(3)
            return desk.told("b") == ["failure", "failure"] + ["failure"] * (whose == "directory")

        assert as_nobody(told)


def test_a_broken_file_leaves_nothing_in_the_socket_that_would_start_the_unit_for_ever(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(inbox.environ[NOTIFY_CONFIG]).write_text("x = 1")
    inbox.recovers("j", "k")
    assert inbox.start(monkeypatch) == 2
    assert receive(inbox.socket) == []


def test_a_test_message_is_answered_by_the_service_without_a_journal(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    (tmp_path / "sereno").mkdir()
    os.rename(inbox.address, tmp_path / "sereno/notify")
    inbox.desk.broken = {"b"}

    def serve() -> None:
        select.select([inbox.socket], [], [], 10)
        inbox.start(monkeypatch)

    thread = threading.Thread(target=serve)
    thread.start()
    loaded = parse(HANDLERS, "f")
    found = list(service.trial(loaded, True, {"XDG_RUNTIME_DIR": str(tmp_path)}, deadline_s=10))
    thread.join()
    assert sorted(found) == [("a", None), ("b", "out of order")]
    monkeypatch.setattr(service.health, "senders", lambda user: {12345})
    with pytest.raises(NotAvailable, match=r"no answer from a, b within 0\.1 s"):
        list(service.trial(loaded, True, {"XDG_RUNTIME_DIR": str(tmp_path)}, deadline_s=0.1))


@pytest.mark.parametrize(
    ("of_failures", "says"), [(True, "SERENO_NOTIFY_CONFIG"), (False, "LISTEN_FDS")]
)
def test_what_the_units_start_is_refused_by_hand_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, of_failures: bool, says: str
) -> None:
    monkeypatch.setattr(journal, "set_up_as", lambda identifier: None)
    assert service.run({}, of_failures=of_failures) == 2
    assert f"{says}: " in caplog.text


def manager_record(
    job: str, run: str, kind: str, at_s: float, boot: bytes, **fields: str
) -> dict[str, Any]:
    return {
        "MESSAGE_ID": kind, "INVOCATION_ID": run, "UNIT": f"sereno@{job}.service", "_PID": "1", "_UID": "0",
        "__MONOTONIC_TIMESTAMP": (at_s * 1e6, boot), **fields,
    }  # fmt: skip


def test_only_what_the_manager_recorded_in_this_boot_since_the_last_look_is_a_new_failure() -> None:
    new, old = bytes([7] * 16), bytes([8] * 16)
    failed, exited = {"UNIT_RESULT": "exit-code"}, {"EXIT_CODE": "exited", "EXIT_STATUS": "3"}
    records = [
        # Newest first, as they are read; the last is of the boot before, and late in it.
        manager_record("k", run_id(3), UNIT_FAILED, 9.0, new, **failed),
        manager_record("j", run_id(2), UNIT_FAILED, 8.0, new, **failed),
        manager_record("j", run_id(2), PROCESS_EXITED, 7.9, new, **exited),
        manager_record(
            "forged", run_id(4), UNIT_FAILED, 7.0, new, **failed, _PID="77", _UID="1000"
        ),
        {**manager_record("x", run_id(4), UNIT_FAILED, 6.5, new, **failed), "UNIT": "cron.service"},
        manager_record("j", run_id(1), UNIT_FAILED, 6.0, new, UNIT_RESULT="timeout"),
        manager_record("m", run_id(5), UNIT_FAILED, 4.9, new, **failed),
        manager_record("n", run_id(6), UNIT_FAILED, 99.0, old, **failed),
    ]
    read = lambda *alternatives: iter(records)  # noqa: E731
    found = Journal(False, read).failures(5.0)
    assert found == {
        "k": {run_id(3): Account(run_id(3), True, "exit-code")},
        "j": {
            run_id(1): Account(run_id(1), True, "timeout"),
            run_id(2): Account(run_id(2), True, "exit-code", "exited", "3"),
        },
    }  # fmt: skip
    quiet = [{**records[0], "UNIT": "cron.service", "MESSAGE_ID": "", "_PID": "9"}, records[-1]]
    read = lambda *alternatives: iter(quiet[1:] if alternatives else quiet)  # noqa: E731
    assert Journal(False, read).failures(5.0) == {}


def test_what_fails_after_the_last_look_is_left_to_the_next_start_which_the_manager_knows_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "set_up_as", lambda identifier: None)
    monkeypatch.setattr(service, "_last_look_s", lambda environ: 0.0)
    address, said = str(tmp_path / "notify"), list[bytes]()
    looks = [False, True, True]

    class Looks:
        def __init__(self, *_: object) -> None:
            pass

        def look(self, since_s: float) -> bool:
            said.append(b"look")
            return looks.pop(0)

    def manager() -> None:
        for _ in range(2):
            data, rights, _flags, _address = socket.recv_fds(receiver, 100, 1)
            time.sleep(0.2)
            said.append(data)
            for descriptor in rights:
                os.close(descriptor)

    monkeypatch.setattr(service, "Handling", Looks)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        thread = threading.Thread(target=manager)
        thread.start()
        assert service.run({"NOTIFY_SOCKET": address}, of_failures=True) == 0
        thread.join()
    assert said == [b"look", b"look", b"STOPPING=1", b"BARRIER=1", b"look"]


@pytest.mark.parametrize(("restarts", "since_s"), [("0", 7.5), ("2", 0.0)])
def test_a_process_whose_predecessor_was_killed_looks_at_what_that_had_yet_to_tell(
    restarts: str, since_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {"ActiveExitTimestampMonotonic": "7500000", "NRestarts": restarts}
    monkeypatch.setattr(
        service.Systemctl, "show", lambda _, unit, *names: {name: shown[name] for name in names}
    )
    assert service._last_look_s({}) == since_s


def test_whatever_a_fleets_store_does_it_costs_no_message_and_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "url").write_text("postgresql://u@h/d")
    desk, asked = Desk(tmp_path), list[str]()
    desk.environ[FLEET_URL_FILE] = str(tmp_path / "url")
    errors = [ValueError("a NUL in the text"), FleetError("no answer"), FleetError("no answer")]

    def end(_: object, run: str, *__: object) -> bool:
        asked.append(run)
        raise errors[len(asked) - 1]

    monkeypatch.setattr(PostgreSQL, "__init__", lambda *_, **__: None)
    monkeypatch.setattr(PostgreSQL, "end", end)
    handling, _ = desk.handling()
    told = [handling.end_in_fleet(run, "E") for run in ("1", "2", "3")]
    assert told == ["ValueError: a NUL in the text", "no answer", None]
    assert asked == ["1", "2"]


@pytest.mark.parametrize("kind", EVENTS)
def test_every_kind_of_event_is_told_alone_and_together(kind: str) -> None:
    (one,) = handlers("a")
    for number in (1, MOST_ALONE + 1):
        sent: list[Message] = []
        deliveries = Deliveries(
            time.monotonic() + 10,
            lambda one, message, sent=sent, **_: sent.append(message),
            gather_s=0.1,
        )
        for job in range(number):
            event = replace(EVENT, kind=kind, job=f"j{job}", run=run_id(job), alert=f"a{job}")
            deliveries.start(Task(one, event))
        deliveries.wait()
        (message,) = sent
        assert message.payload["event"] == kind
        assert len(message.payload["more"]) == number - 1
