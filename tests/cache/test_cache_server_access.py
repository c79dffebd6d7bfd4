"""The URL of a cache server, who may use it, and what another client of it can do. No error has the password."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from functools import partial
from pathlib import Path

import pytest
from cache_server import Server, python
from hypothesis import given
from hypothesis import strategies as st

from sereno.cache import MetadataCache
from sereno.cache.fleet.url import SCHEMES, Address
from sereno.errors import CacheError, CacheUnavailable, SerenoError, UsageError

PAGE = Path(__file__).parents[2] / "docs" / "cache-many-hosts.md"
SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("valkey://h", ("h", 6379, 0, None, None, "sereno", 0.0, "valkey://h:6379/0")),
        (
            "redis://u:p%40%2F%3F@h:7/3?ns=shop&max_stale=0.3",
            ("h", 7, 3, "u", "p@/?", "shop", 0.3, "redis://h:7/3"),
        ),
        ("valkey://:p@[::1]:1", ("::1", 1, 0, None, "p", "sereno", 0.0, "valkey://[::1]:1/0")),
        ("unix:///run/s?db=2", ("", 0, 2, None, None, "sereno", 0.0, "unix:///run/s?db=2")),
        ("unix://u:p@/run/s", ("", 0, 0, "u", "p", "sereno", 0.0, "unix:///run/s?db=0")),
    ],
)
def test_a_url_says_where_and_as_whom(url, told):
    a = Address(url)
    assert told == (
        a.host,
        a.port,
        a.database,
        a.username,
        a.password,
        a.ns,
        a.max_stale_s,
        a.public,
    )
    assert "p@" not in repr(a)


@pytest.mark.parametrize(
    ("url", "field"),
    [
        (f"{SECRET}@h", "scheme"),
        (f"http://:{SECRET}@h", "scheme"),
        (f"valkey:/:{SECRET}@h", "scheme"),
        (f"valkey://:{SECRET}@", "host"),
        (f"valkey://:{SECRET}@[::1", "host"),
        (f"valkey://:{SECRET}@h:port", "port"),
        (f"valkey://:{SECRET}@h:0", "port"),
        (f"valkey://:{SECRET}@h:70000", "port"),
        (f"valkey://:a/{SECRET}@h", "password"),
        (f"valkey://:a?{SECRET}@h", "password"),
        (f"valkey://:a#{SECRET}@h", "password"),
        (f"valkey://{SECRET}@h", "password"),
        (f"valkey://:{SECRET}@h/zero", "database"),
        (f"valkey://:{SECRET}@h/0/1", "database"),
        (f"valkey://:{SECRET}@h/-1", "database"),
        (f"valkey://:{SECRET}@h?db=1", "db"),
        (f"valkey://:{SECRET}@h?max_stale=soon", "max_stale"),
        (f"valkey://:{SECRET}@h?max_stale=nan", "max_stale"),
        (f"valkey://:{SECRET}@h?timeout=0", "timeout"),
        (f"valkey://:{SECRET}@h?stale=1", "parameter 'stale'"),
        (f"valkey://:{SECRET}@h?ns=a&ns=b", "parameter 'ns'"),
        (f"valkey://:{SECRET}@h?ns=", "ns"),
        (f"valkey://:{SECRET}@h?ca=/x", "ca"),
        (f"valkey://:{SECRET}@a..b", "host"),
        (f"valkey://:{SECRET}@{'a' * 64}", "host"),
        (f"valkey://:{SECRET}@a%00b", "host"),
        (f"valkey://:{SECRET}\udcff@h", "text"),
        (f"valkey://:{SECRET}\n@h", "text"),
        (f"unix://:{SECRET}@run/s", "socket"),
        (f"unix://:{SECRET}@", "socket"),
    ],
)
def test_a_wrong_url_is_refused_by_its_field_and_without_its_password(url, field, monkeypatch):
    monkeypatch.setenv("SERENO_CACHE_URL", url)
    with pytest.raises(UsageError) as refused:
        MetadataCache()
    assert str(refused.value).startswith(f"SERENO_CACHE_URL: {field}: ")
    assert refused.value.hint
    assert SECRET not in str(refused.value)


@given(st.text(max_size=40), st.sampled_from(["", *(f"{scheme}://" for scheme in SCHEMES)]))
def test_any_text_is_a_url_or_refused(text, scheme):
    try:
        address = Address(scheme + text)
    except UsageError as error:
        assert str(error).startswith("SERENO_CACHE_URL: ")
    else:
        assert 0 <= address.port < 1 << 16
        assert address.public.startswith(scheme)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def acl_rule() -> str:
    """The rule that the page shows, for a password of ours."""
    (rule,) = re.findall(r"^    (user sereno .*)$", PAGE.read_text(), re.MULTILINE)
    return rule.replace("PASSWORD", SECRET)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "acl").write_text(
        f"user default off\n{acl_rule()}\nuser root on nopass ~* &* +@all\n"
    )
    server = Server(directory, f"aclfile {directory}/acl")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def opened(monkeypatch):
    caches = []

    def open_it(url, **arguments):
        monkeypatch.setenv("SERENO_CACHE_URL", url)
        caches.append(MetadataCache(**arguments))
        return caches[-1]

    yield open_it
    for cache in caches:
        cache.close()


@pytest.mark.parametrize("max_stale", [0, 0.3])
def test_the_acl_rule_of_the_page_is_enough_for_everything(guarded, opened, max_stale):
    cache = opened(guarded.url(f"max_stale={max_stale}", user=f"sereno:{SECRET}@"), default_ttl=60)
    cache.set("a", 1)
    cache.set_many({"b": 2, "c": 3})
    assert cache.add("d", 4)
    assert cache.incr("n") == 1
    assert [cache.get("a"), cache.get("a"), cache.get_many(["b", "x"])] == [1, 1, {"b": 2}]
    assert dict(cache) == {"a": 1, "b": 2, "c": 3, "d": 4, "n": 1}
    assert cache.pop("d") == 4
    assert cache.invalidate("a")
    assert cache.invalidate_pattern("b") == 1
    calls = []
    function = cache.memoize(name="f")(lambda: calls.append(1))
    function(), function()
    assert calls == [1]
    cache.get_stats(), cache.run_cleanup(), cache.reset_stats(), cache.server()
    cache.clear()
    assert list(cache) == []


@pytest.mark.parametrize(
    "words",
    [
        ("GET", "other"),
        ("SET", "other", "1"),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "*"),
        ("KEYS", "*"),
        ("EVAL", "return redis.call('GET', 'other')", "0"),
        ("SHUTDOWN",),
        ("MONITOR",),
        ("ACL", "LIST"),
        ("REPLICAOF", "NO", "ONE"),
    ],
    ids=" ".join,
)
def test_by_the_acl_rule_of_the_page_nobody_does_more(guarded, words):
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(str(guarded.socket))
        for command in (("AUTH", "sereno", SECRET), words):
            asked.sendall(f"*{len(command)}\r\n".encode())
            asked.sendall("".join(f"${len(word)}\r\n{word}\r\n" for word in command).encode())
            told = asked.recv(10_000)
        assert told.startswith(b"-NOPERM")


def test_a_wrong_password_a_wrong_user_and_none_are_told_without_it(guarded, opened, caplog):
    for user in ("sereno:wrong-hunter2@", "nobody:wrong-hunter2@", ""):
        cache = opened(guarded.url(user=user))
        for action in (cache.get, partial(cache.set, value=1)):
            with pytest.raises(CacheError, match=r"WRONGPASS|NOAUTH") as refused:
                action("key")
            assert not isinstance(refused.value, CacheUnavailable)
            assert (
                "SERENO_CACHE_URL" in (refused.value.hint or "")
                or "valkey://" in refused.value.hint
            )
            assert "hunter2" not in f"{refused.value}{refused.value!r}{caplog.text}"


def test_a_database_that_is_not_there_and_a_right_that_is_missing_are_told(guarded, opened):
    cache = opened(guarded.url("db=99", user=f"sereno:{SECRET}@"))
    with pytest.raises(CacheError, match=r"(?s)DB index.*database"):
        cache.set("key", 1)
    cache = opened(guarded.url("ns=other", user=f"sereno:{SECRET}@"))
    with pytest.raises(CacheError, match=r"(?s)rights|permission"):
        cache.set("key", 1)


def test_tls_is_spoken_where_the_certificate_is_trusted_and_nowhere_else(tmp_path, opened):
    crt, key, port = tmp_path / "crt", tmp_path / "key", free_port()
    made = subprocess.run(
        [
            *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes".split(),
            *"-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost".split(),
            *("-keyout", key, "-out", crt),
        ],
        capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    tls = [f"tls-port {port}", "bind 127.0.0.1", f"tls-cert-file {crt}", f"tls-key-file {key}"]
    with Server(tmp_path / "s", *tls, "tls-auth-clients no", f"tls-ca-cert-file {crt}"):
        url = f"valkeys://localhost:{port}/0?timeout=10&max_stale=0.5"
        cache = opened(f"{url}&ca={crt}")
        cache.set("key", "x" * 100_000)
        assert cache.get("key") == cache.get("key") == "x" * 100_000
        with pytest.raises(CacheError, match=r"(?s)certificate.*ca="):
            opened(url).set("key", 1)
        with pytest.raises(CacheError, match=r"valkeys://"):
            opened(f"valkey://localhost:{port}/0?timeout=1").set("key", 1)
        with pytest.raises(SerenoError, match="/nowhere"):
            opened(f"{url}&ca=/nowhere").set("key", 1)


def test_a_tls_server_that_goes_in_the_middle_is_a_miss(opened):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        closing = threading.Thread(target=lambda: listening.accept()[0].close())
        closing.start()
        cache = opened(f"valkeys://127.0.0.1:{listening.getsockname()[1]}/0?timeout=10")
        assert cache.get("key", "default") == "default"
        with pytest.raises(CacheUnavailable):
            cache.invalidate("key")
        closing.join()


def test_a_missing_parser_is_told_with_the_way_out(tmp_path):
    (tmp_path / "libvalkey.py").write_text("raise ModuleNotFoundError('libvalkey')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from sereno.errors import NotAvailable\nfrom sereno import MetadataCache\n"
        "try: MetadataCache()\nexcept NotAvailable as error: print(error)"
    )
    with python(code, "valkey://h") as process:
        out, error = process.communicate()
    assert "pip install 'sereno[valkey]'" in out, error


def test_a_job_without_network_is_told_what_it_needs(tmp_path):
    code = (
        "import ctypes; ctypes.CDLL(None).unshare(0x10000000 | 0x40000000)\n"
        "from sereno import MetadataCache\n"
        "try: MetadataCache().set('key', 1)\n"
        "except OSError as error: print(error)"
    )
    for host in ("192.0.2.1", "cache.example"):
        with python(code, f"valkey://{host}:6379/0?timeout=2") as process:
            out, error = process.communicate()
        assert "network=True" in out, out + error
