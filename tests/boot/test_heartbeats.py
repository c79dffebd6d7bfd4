"""Heartbeats: a monitor sees every run start and end, and one that is dead harms no run."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from shop import FAILED, FINISHED, Shop
from sink import HTTP_PORT, Sink

if TYPE_CHECKING:
    from machine import Machine

PING_FAILED = "MESSAGE_ID=393f47682b3f407a81122d82e311c9b5"
WEB = f"http://127.0.0.1:{HTTP_PORT}"
# A listening socket that nobody accepts from, with its queue full: a connection gets no answer at all.
HOLE = """
import socket, time
hole = socket.socket()
hole.bind(("127.0.0.1", 8091))
hole.listen(0)
fill = [socket.socket() for _ in range(4)]
for one in fill:
    one.setblocking(False)
    one.connect_ex(("127.0.0.1", 8091))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def sink(machine: Machine) -> Sink:
    return Sink(machine)


@pytest.fixture
def monitor(sink: Sink) -> Sink:
    sink.forget()
    return sink


def install(shop: Shop, job_id: str, function: str, url: str, **options: Any) -> None:
    options = {"network": True, "ping_url": url, **options}
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    shop.install(f"add_interval_job(shop_jobs.{function}, {job_id!r}, hours=1{given})")


def run(shop: Shop, job_id: str) -> bool:
    unit = f"sereno@{job_id}.service"
    return shop.machine.run("systemctl", "start", unit, check=False).returncode == 0


def test_the_start_and_the_success_of_a_run_are_told_in_order(monitor: Sink, shop: Shop) -> None:
    install(shop, "beats", "quick", f"{WEB}/ping/abc?create=1")
    assert run(shop, "beats")
    (finished,) = shop.runs("beats", FINISHED)
    rid = uuid.UUID(finished["SERENO_RUN"])
    calls = monitor.got("http")
    assert [call["path"] for call in calls] == [
        f"/ping/abc/start?create=1&rid={rid}",
        f"/ping/abc?create=1&rid={rid}",
    ]
    assert calls[1]["body"] == finished["MESSAGE"]
    assert shop.runs("beats", PING_FAILED) == []


def test_a_failure_is_told_with_its_reason(monitor: Sink, shop: Shop) -> None:
    install(shop, "beats_not", "raises", f"{WEB}/ping/abc/")
    assert not run(shop, "beats_not")
    start, fail = monitor.got("http")
    assert start["path"].startswith("/ping/abc/start?rid=")
    assert fail["path"].startswith("/ping/abc/fail?rid=")
    assert "ValueError: no such table: ventas" in fail["body"]


def test_a_run_that_is_stopped_leaves_the_monitor_its_own_opinion(
    monitor: Sink, shop: Shop
) -> None:
    install(shop, "beats_on", "endless", f"{WEB}/ping/abc")
    shop.machine.run("systemctl", "start", "--no-block", "sereno@beats_on.service")
    shop.machine.wait_for(lambda: monitor.got("http"), what="the start")
    shop.machine.run("systemctl", "stop", "sereno@beats_on.service")
    assert [call["path"].partition("?")[0] for call in monitor.got("http")] == [
        "/ping/abc/start",
        "/ping/abc/log",
    ]


def test_a_run_that_is_left_out_leaves_the_monitor_its_own_opinion_too(
    monitor: Sink, shop: Shop
) -> None:
    options = f"second='*/2', after='never', only_if_success=True, network=True, ping_url='{WEB}/ping/abc'"
    shop.install(
        "add_interval_job(shop_jobs.quick, 'never', hours=1)",
        f"add_cron_job(shop_jobs.quick, 'beats_after', {options})",
    )
    calls = shop.machine.wait_for(lambda: monitor.got("http"), what="a call")
    shop.remove_all()
    assert {call["path"].partition("?")[0] for call in calls} == {"/ping/abc/log"}
    assert calls[0]["body"].startswith("Tarea beats_after omitida: ")


def test_a_job_that_takes_logging_over_does_not_take_the_end_from_the_monitor(
    monitor: Sink, shop: Shop
) -> None:
    shop.machine.write(
        "/srv/shop/loud_jobs.py",
        "import logging\ndef f():\n    logging.basicConfig(force=True)\n    logging.disable(50)\n    return {'n': 1}\n",
    )
    registration = (
        f"add_interval_job(jobs.f, 'loud', hours=1, network=True, ping_url='{WEB}/ping/abc')"
    )
    shop.install(registration, functions="loud_jobs")
    assert run(shop, "loud")
    paths = [call["path"].partition("?")[0] for call in monitor.got("http")]
    assert paths == ["/ping/abc/start", "/ping/abc"]


def test_the_url_can_be_a_file_that_only_root_reads(monitor: Sink, shop: Shop) -> None:
    shop.machine.write("/etc/shop/ping", f"{WEB}/secret\n", 0o600)
    install(shop, "beats_secretly", "quick", "", ping_url=None, ping_url_file="/etc/shop/ping")
    assert run(shop, "beats_secretly")
    assert len(monitor.got("http", "/secret")) == 2
    assert "secret" not in shop.machine.run(
        "systemctl", "show", "sereno@beats_secretly.service"
    ).stdout.replace("beats_secretly", "")
    shop.machine.run("rm", "/etc/shop/ping")
    shop.machine.write("/etc/shop/ping", "no URL\n", 0o600)
    assert run(shop, "beats_secretly")
    (record,) = shop.runs("beats_secretly", PING_FAILED)
    assert "its first line is no http or https URL" in record["MESSAGE"]


def test_the_end_of_a_run_gets_through_a_monitor_that_is_busy_for_a_moment(
    monitor: Sink, shop: Shop
) -> None:
    install(shop, "beats_again", "quick", f"{WEB}/busy")
    assert run(shop, "beats_again")
    paths = [call["path"].partition("?")[0] for call in monitor.got("http")]
    assert paths == ["/busy/start", "/busy"]
    (record,) = shop.runs("beats_again", PING_FAILED)
    assert "/start: 127.0.0.1: HTTP 503" in record["MESSAGE"]


@pytest.mark.parametrize(
    ("job_id", "url", "most_s"),
    [
        ("dead_refuses", "http://127.0.0.1:9/x", 3.0),
        ("dead_hangs", f"{WEB}/hang", 12.0),
        ("dead_hole", "http://127.0.0.1:8091/x", 12.0),
        ("dead_name", "http://monitor.invalid/x", 12.0),
    ],
)
def test_a_dead_monitor_leaves_the_result_and_delays_the_end_within_bounds(
    monitor: Sink, shop: Shop, job_id: str, url: str, most_s: float
) -> None:
    machine = shop.machine
    machine.run("systemd-run", "--unit=hole", "python3", "-c", HOLE)
    try:
        # A time limit that the monitor alone would exceed.
        install(shop, job_id, "quick", url, timeout=5)
        assert run(shop, job_id)
    finally:
        machine.run("systemctl", "stop", "hole.service")
    properties = ("Result", "ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic")
    result, start, end = machine.show(f"sereno@{job_id}.service", *properties).values()
    assert result == "success"
    assert (int(end) - int(start)) / 1e6 < most_s
    (finished,) = shop.runs(job_id, FINISHED)
    assert float(finished["SERENO_DURATION_MS"]) < 1000
    assert shop.runs(job_id, PING_FAILED)


def test_a_dead_monitor_does_not_hide_a_failure(monitor: Sink, shop: Shop) -> None:
    install(shop, "dead_fails", "raises", "http://127.0.0.1:9/x")
    assert not run(shop, "dead_fails")
    assert len(shop.runs("dead_fails", FAILED)) == 1
    shown = shop.machine.show("sereno@dead_fails.service", "Result", "ExecMainStatus")
    assert shown == {"Result": "exit-code", "ExecMainStatus": "1"}
