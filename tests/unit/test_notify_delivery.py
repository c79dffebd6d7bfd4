"""Handlers against a real HTTP server and real programs: what arrives, what is tried again, what is recorded."""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import logging
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from sereno import journal
from sereno.notify import handling, wake
from sereno.notify.config import Handler, parse
from sereno.notify.datagram import Datagram, datagrams
from sereno.notify.delivery import Delivery, deliver
from sereno.notify.event import FAILURE, Event
from sereno.notify.evidence import Evidence, gather
from sereno.notify.handling import Handling
from sereno.notify.message import compose
from sereno.notify.senders import BACKOFF_S, DeliveryError, send

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT = Event(
    FAILURE, "shop_sync", "ab" * 16, "web1", "system", 0.0, result="exit-code",
    exit_code="exited", exit_status="1", error="ñandú", log=("uno", "dos"),
)  # fmt: skip
MESSAGE = compose(EVENT)
QUIET = {"pause": lambda seconds: None}


class Server(HTTPServer):
    """Answers with each of `answers` in turn, then with 200."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
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
def test_apprise_speaks_to_its_services(server: Server) -> None:
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
    with pytest.raises(DeliveryError, match="URL 1 of urls is none that Apprise knows"):
        send(handler('type = "apprise"\nurls = ["nonsense://x"]'), MESSAGE)


def test_apprise_that_is_not_installed_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with pytest.raises(DeliveryError, match="apt install apprise"):
        send(handler('type = "apprise"\nurls = ["json://x"]'), MESSAGE)


def test_no_handlers_failure_stops_another_and_each_leaves_a_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    handlers = parse(
        "".join(f'[[handler]]\ntype = "command"\nname = "{n}"\ncommand = ["/x"]\n' for n in "abc"),
        "f",
    ).handlers
    meet = threading.Barrier(3, timeout=10)

    def sender(one: Handler, message: object) -> None:
        meet.wait()  # all at the same time: a slow one does not hold up the others
        if one.name == "a":
            raise DeliveryError("refused")
        if one.name == "b":
            raise RuntimeError("a defect")

    done = deliver(EVENT, handlers, send=sender)
    assert dict(done) == {"a": "refused", "b": "RuntimeError: a defect", "c": None}
    kinds = {
        record.SERENO_HANDLER: record.MESSAGE_ID
        for record in caplog.records
        if hasattr(record, "SERENO_HANDLER")
    }
    bad, good = journal.NOT_DELIVERED, journal.DELIVERED
    assert kinds == {"a": bad, "b": bad, "c": good}


# --- what the units start -----------------------------------------------------------------------------------------


class Desk:
    """A `Handling` whose journal and handlers are the test's own."""

    def __init__(self, tmp_path: Path, **evidence: Any) -> None:
        (tmp_path / "notify.toml").write_text('[[handler]]\ntype = "command"\ncommand = ["/x"]\n')
        self.now_s, self.events, self.error = 1e9, [], None
        found = {"status": "failed", "error": "E", "alerts": {}, "lines": ("uno",), **evidence}
        self.handling = Handling(
            {wake.CONFIG: str(tmp_path / "notify.toml"), wake.STATE: str(tmp_path / "state")},
            now_s=lambda: self.now_s,
            tell=self.tell,
            gather=lambda *_, **__: Evidence(**found),
        )

    def tell(self, event: Event, handlers: object) -> list[Delivery]:
        self.events.append(event)
        return [Delivery("command", self.error)]

    def fail(self, result: str = "exit-code") -> None:
        monitor = {"MONITOR_INVOCATION_ID": "r", "MONITOR_SERVICE_RESULT": result}
        self.handling.failed("j", monitor)


def test_a_failure_is_told_once_and_kept_with_its_flag(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.fail()
    desk.fail()
    (event,) = desk.events
    assert (event.kind, event.job, event.result, event.failures) == ("failure", "j", "exit-code", 1)
    assert (tmp_path / "state/j.failing").exists()
    recovered = Desk(tmp_path, status="success", error=None)
    recovered.handling.succeeded("j", "r2")
    recovered.handling.succeeded("j", "r3")
    (event,) = recovered.events
    assert (event.kind, event.failures, event.untold) == ("recovery", 2, 1)
    assert not (tmp_path / "state/j.failing").exists()


def test_a_failure_that_no_handler_took_is_told_again_at_the_next_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.error = "out of order"
    desk.fail()
    desk.error = None
    desk.fail()
    desk.fail()
    assert [event.failures for event in desk.events] == [1, 2]


@pytest.mark.parametrize(
    ("result", "told"), [("signal", 0), ("exit-code", 1), ("timeout", 1), ("oom-kill", 1)]
)
def test_a_run_that_was_stopped_is_no_failure_unless_its_limit_or_another_program_did(
    tmp_path: Path, result: str, told: int
) -> None:
    desk = Desk(tmp_path, status="interrupted")
    desk.fail(result)
    assert len(desk.events) == told


def test_what_failed_again_while_a_failure_was_being_told_is_counted(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.fail()
    journal = {"r": ["r2", "r3"], "r3": ["r4"], "r4": []}

    def read(job_id: str, run_id: str, **_: object) -> list[dict[str, str]]:
        found = {"MONITOR_SERVICE_RESULT": "timeout"}
        return [{"MONITOR_INVOCATION_ID": each, **found} for each in journal[run_id]]

    desk.handling.failed_again("j", "r", 0.0, read)
    desk.now_s += 86_400
    desk.fail()
    assert [(event.failures, event.untold) for event in desk.events] == [(1, 0), (5, 3)]


def test_a_success_that_the_journal_does_not_confirm_tells_nothing(tmp_path: Path) -> None:
    Desk(tmp_path).fail()
    for status in ("", "failed", "skipped"):
        desk = Desk(tmp_path, status=status)
        desk.handling.succeeded("j", "r")
        assert desk.events == []
    assert (tmp_path / "state/j.failing").exists()


def test_each_alert_of_a_success_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path, status="success", alerts={"capacity": "95 %", "hit_rate": "3 %"})
    desk.handling.succeeded("j", "r")
    desk.handling.succeeded("j", "r2")
    assert [(event.kind, event.alert, event.error) for event in desk.events] == [
        ("alert", "capacity", "95 %"),
        ("alert", "hit_rate", "3 %"),
    ]


CLOSING = {"SERENO_JOB": "j", "SERENO_STATUS": "success"}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "success"),
        ({"_SYSTEMD_UNIT": "sereno@j.service"}, "success"),
        ({"SERENO_JOB": "other"}, ""),
        ({"_SYSTEMD_UNIT": "sereno@other.service"}, ""),
        # The job of the same id of somebody's own manager.
        ({"_SYSTEMD_UNIT": "user@1.service", "_SYSTEMD_USER_UNIT": "sereno@j.service"}, ""),
    ],
)
def test_a_run_of_another_job_is_no_evidence(fields: dict[str, str], status: str) -> None:
    read = lambda *_: [{**CLOSING, **fields}]  # noqa: E731
    assert gather("j", "r", 1, user=False, deadline_s=0, read=read).status == status


def test_an_alert_is_found_however_much_its_run_logged_afterwards() -> None:
    alert = {"MESSAGE": "disk almost full", "SERENO_ALERT": "disk"}
    log = [alert, *({"MESSAGE": f"line {n}"} for n in range(600)), CLOSING]

    def find(run_id: str, name: str) -> dict[str, str] | None:
        return alert if name == "disk" else None

    found = gather(
        "j",
        "r",
        1,
        user=False,
        deadline_s=0,
        alerts=["disk", "gone"],
        read=lambda _, n: log[-n:],
        find=find,
    )
    assert found == Evidence("success", None, {"disk": "disk almost full"}, ("line 599",))


def test_a_datagram_names_as_many_alerts_as_it_holds(tmp_path: Path) -> None:
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        wake.send(
            address, "succeeded", "j", "r", ["a" * 70_000, *(f"n{n:099}" for n in range(999))]
        )
        (heard,) = datagrams(receiver)
    assert heard.alerts == tuple(f"n{n:099}" for n in range(len(heard.alerts)))
    assert 600 < len(heard.alerts) < 999


def test_a_state_file_that_is_garbage_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    for garbage in ("", "[]", "{}", '{"failing_since_s": "x"}', "\0"):
        (tmp_path / "state/j.json").write_text(garbage)
        desk = Desk(tmp_path)
        desk.fail()
        assert len(desk.events) == 1


def test_a_state_that_cannot_be_kept_holds_no_message_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    desk = Desk(tmp_path)
    desk.error = "and nobody takes it"
    desk.fail()
    assert len(desk.events) == 1
    assert "Tarea j: avisos sin memoria: " in caplog.text


def test_a_datagram_is_read_with_its_senders_user_and_garbage_is_left_out(tmp_path: Path) -> None:
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        wake.send(address, "succeeded", "a_job", "r1", ["disk", "ñ\udc80"])
        for garbage in (
            b"",
            b"[]",
            b"\xff",
            b'["succeeded", 3, "r"]',
            b'["a","../x","r"]',
            b'{"a":1}',
        ):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(garbage, address)
        wake.send(address, "test", "sereno", "r2")
        assert list(datagrams(receiver)) == [
            ("succeeded", "a_job", "r1", os.getuid(), ("disk", "ñ\udc80")),
            ("test", "sereno", "r2", os.getuid(), ()),
        ]
        assert list(datagrams(receiver)) == []


def test_only_root_and_the_user_itself_may_ask_for_a_test(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.handling.heard(Datagram("test", "sereno", "r", 12345))
    assert desk.events == []
    desk.handling.heard(Datagram("test", "sereno", "r", 0))
    assert [event.kind for event in desk.events] == ["test"]


def test_waking_never_raises_and_needs_somebody_who_wants_to_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(wake.SOCKET, str(tmp_path / "s"))
    monkeypatch.setenv(wake.CONFIG, str(tmp_path / "notify.toml"))
    wake.wake("j", "r")
    assert caplog.records == []
    (tmp_path / "notify.toml").touch()
    wake.wake("j", "r")
    assert "Tarea j: aviso no pedido" in caplog.text


def test_a_broken_file_is_recorded_and_is_the_units_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal, "set_up_as", lambda identifier: None)
    (tmp_path / "notify.toml").write_text("x = 1")
    environ = {wake.CONFIG: str(tmp_path / "notify.toml"), wake.STATE: str(tmp_path)}
    assert handling.run("j", environ) == 2
    assert [record.MESSAGE_ID for record in caplog.records] == [journal.NOT_DELIVERED]


class Inbox:
    """The socket that systemd gives to the unit, as its process finds it at each start."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(journal, "set_up_as", lambda identifier: None)
        self.config = tmp_path / "notify.toml"
        self.config.write_text('[[handler]]\ntype = "command"\ncommand = ["/x"]\n')
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(tmp_path / "s"))
        for number in range(3):
            wake.send(str(tmp_path / "s"), "succeeded", f"job_{number}", "r")
        self.environ = {
            "LISTEN_FDS": "1",
            wake.CONFIG: str(self.config),
            wake.STATE: str(tmp_path / "state"),
        }

    def start(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> int:
        monkeypatch.setattr(handling, "_FIRST_DESCRIPTOR", os.dup(self.socket.fileno()))
        return handling.run(None, self.environ, **options)


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    inbox = Inbox(tmp_path, monkeypatch)
    with inbox.socket:
        yield inbox


def test_a_start_that_is_killed_loses_no_message_but_its_own(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    def succeeded(self: Handling, job_id: str, *_: object) -> list[Delivery]:
        heard.append(job_id)
        if len(heard) == 1:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr(Handling, "succeeded", succeeded)
    with pytest.raises(KeyboardInterrupt):
        inbox.start(monkeypatch)
    assert inbox.start(monkeypatch) == 0
    assert heard == ["job_0", "job_1", "job_2"]


def test_slow_handlers_are_given_a_start_for_each_message(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, heard = 0.0, list[str]()

    def succeeded(self: Handling, job_id: str, *_: object) -> list[Delivery]:
        nonlocal now_s
        now_s += 53.0
        heard.append(job_id)
        return [Delivery("dead", "timed out")]

    monkeypatch.setattr(Handling, "succeeded", succeeded)
    for number in range(3):
        assert inbox.start(monkeypatch, clock=lambda: now_s) == 1
        assert heard == [f"job_{n}" for n in range(number + 1)]
    assert inbox.start(monkeypatch, clock=lambda: now_s) == 0


def test_a_broken_file_leaves_nothing_in_the_socket_that_would_start_the_unit_for_ever(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.config.write_text("x = 1")
    assert inbox.start(monkeypatch) == 2
    assert list(datagrams(inbox.socket)) == []


@pytest.mark.parametrize(("failed", "says"), [("j", "SERENO_NOTIFY_CONFIG"), (None, "LISTEN_FDS")])
def test_what_the_units_start_is_refused_by_hand_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failed: str | None, says: str
) -> None:
    monkeypatch.setattr(journal, "set_up_as", lambda identifier: None)
    assert handling.run(failed, {}) == 2
    assert f"{says}: " in caplog.text
