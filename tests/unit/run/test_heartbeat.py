"""What a monitor is told of a run, and that it can never hold the run up for long."""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sereno.records import messages
from sereno.run import heartbeat
from sereno.run.heartbeat import Heartbeat, address, of_this_run
from sereno.setting_names import PING_URL, PING_URL_FILE

RUN = "0123456789abcdef0123456789abcdef"
URL = "https://hc.example.org/ping/abc"


class Refused(Exception):
    passing = True


def a_run(beat: Heartbeat, status: str) -> None:
    beat.begin()
    beat.end(status, "Tarea j terminada")
    beat.wait()


@pytest.mark.parametrize(
    ("status", "suffix"),
    [("success", ""), ("failed", "/fail"), ("interrupted", "/log"), ("skipped", "/log")],
)
def test_the_monitor_is_told_the_start_and_then_the_end(status: str, suffix: str) -> None:
    calls: list[tuple[str, bytes]] = []
    a_run(Heartbeat("j", URL, RUN, post=lambda url, body: calls.append((url, body))), status)
    rid = str(uuid.UUID(RUN))
    assert calls == [
        (f"{URL}/start?rid={rid}", b""),
        (f"{URL}{suffix}?rid={rid}", b"Tarea j terminada"),
    ]


@given(
    st.sampled_from(["", "/", "/ping/abc", "/ping/abc/"]),
    st.sampled_from(["", "create=1", "a=b&c=d"]),
    st.sampled_from(["", "/start", "/fail"]),
)
def test_a_call_keeps_host_query_and_path_of_the_url(path: str, query: str, suffix: str) -> None:
    parts = urlsplit(address(f"http://u:p@h:1{path}?{query}", suffix, "R"))
    assert parts.netloc == "u:p@h:1"
    assert parts.path == path.rstrip("/") + suffix
    assert parse_qs(parts.query) == {**parse_qs(query), "rid": ["R"]}


def test_the_end_is_tried_again_and_the_start_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heartbeat, "_PAUSE_S", 0)
    calls: list[str] = []

    def post(url: str, body: bytes) -> None:
        calls.append(urlsplit(url).path)
        if len(calls) < 4:
            raise Refused("h: Connection refused")

    a_run(Heartbeat("j", URL, RUN, post=post), "success")
    assert calls == ["/ping/abc/start", "/ping/abc", "/ping/abc", "/ping/abc"]
    (warning,) = caplog.records
    assert warning.getMessage() == "Tarea j: latido no entregado: /start: h: Connection refused"
    assert messages.PING_FAILED.kind == warning.MESSAGE_ID


def test_who_waits_too_goes_on_when_the_first_has_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def post(url: str, body: bytes) -> None:
        time.sleep(0.1)
        raise ValueError("refused")

    recorded: list[object] = []

    def record(*values: object, **_: object) -> None:
        time.sleep(0.2)
        recorded.append(values)

    monkeypatch.setattr(heartbeat._logger, "warning", record)
    beat = Heartbeat("j", URL, RUN, post=post)
    beat.end("success", "")
    first = threading.Thread(target=beat.wait)
    first.start()
    beat.wait()
    assert len(recorded) == 1
    first.join()
    assert len(recorded) == 1


def test_a_refusal_that_is_final_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    def post(url: str, body: bytes) -> None:
        calls.append(url)
        raise ValueError("h: HTTP 404 Not Found")

    a_run(Heartbeat("j", URL, RUN, post=post), "success")
    assert len(calls) == 2
    assert of_this_run("j", RUN, {PING_URL: "http://["}) is None
    assert [found.MESSAGE_ID for found in caplog.records] == [messages.PING_FAILED.kind] * 3


def test_a_monitor_that_hangs_is_left_and_the_run_does_not_wait_for_its_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    released = threading.Event()
    beat = Heartbeat("j", URL, RUN, post=lambda url, body: released.wait(30) and None)
    start = time.monotonic()
    beat.begin()
    beat.end("success", "")
    beat.wait(0.1)
    released.set()
    assert time.monotonic() - start < 5
    assert "hc.example.org: no answer within 0.1 s" in caplog.text
    assert "/ping/abc" not in caplog.text


def test_a_url_that_cannot_be_read_is_recorded_and_the_job_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "url"
    assert of_this_run("j", RUN, {PING_URL_FILE: str(path)}) is None
    path.write_text("ftp://x\n")
    assert of_this_run("j", RUN, {PING_URL_FILE: str(path)}) is None
    assert [found.MESSAGE_ID for found in caplog.records] == [messages.PING_FAILED.kind] * 2
    path.write_text(f"{URL}\nand a comment\n")
    assert of_this_run("j", RUN, {PING_URL_FILE: str(path)}) is not None
