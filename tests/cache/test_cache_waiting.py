"""No call waits without an end for another process, and the error names it."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sereno.cache import MetadataCache, locks
from sereno.errors import CacheError, UsageError

LIB = Path(__file__).parents[2] / "lib"
OPENING = (
    "import fcntl\nfcntl.flock(os.open(TOP + '/open.lock', os.O_RDWR), fcntl.LOCK_EX)\nready()"
)
WRITING = (
    "cache = MetadataCache(TOP)\ncache.get('k')\ncache._session.written(lambda *_: ready(), None)"
)
PAST_OURS = (
    "import lmdb\nenv = lmdb.open(TOP + '/format-3', map_size=1 << 34, max_dbs=2, lib_version=0)\n"
    "with env.begin(write=True):\n    ready()"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    cache = MetadataCache(tmp_path / "cache")
    cache.set("k", 1)
    cache.close()
    return tmp_path / "cache"


@contextmanager
def holding(path: Path, how: str) -> Iterator[int]:
    """While another process holds a lock; its id."""
    code = (
        f"import os, sys, time\nfrom sereno.cache import MetadataCache\nTOP = {str(path)!r}\n"
        f"def ready():\n    print('ready', flush=True)\n    time.sleep(600)\n{how}"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={"PYTHONPATH": str(LIB)}
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", [OPENING, WRITING], ids=["opening", "writing"])
@pytest.mark.parametrize("stopped", [False, True], ids=["sleeps", "is stopped"])
def test_a_call_gives_up_after_what_the_setting_says_and_names_the_holder(
    path: Path, how: str, stopped: bool, monkeypatch
) -> None:
    monkeypatch.setenv(locks.SETTING, "0.5")
    cache = MetadataCache(path)
    with holding(path, how) as pid:
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        start_s = time.monotonic()
        with pytest.raises(CacheError) as caught:
            cache.set("k", 2)
        assert 0.4 < time.monotonic() - start_s < 4
        assert f"was held for 0.5 s by process {pid} ('python" in str(caught.value)
        assert caught.value.errno == errno.EAGAIN
    # The lock goes with its holder.
    cache.set("k", 3)
    assert cache.get("k") == 3


def test_readers_do_not_wait_for_a_writer(path: Path, monkeypatch) -> None:
    monkeypatch.setenv(locks.SETTING, "0.5")
    cache = MetadataCache(path)
    assert cache.get("k") == 1
    with holding(path, WRITING):
        assert cache.get("k") == 1
        assert cache.get_stats()["size"] == 1


def test_a_cache_is_closed_although_somebody_holds_it(path: Path, monkeypatch) -> None:
    monkeypatch.setenv(locks.SETTING, "0.2")
    cache = MetadataCache(path)
    cache.get("k")
    with holding(path, OPENING):
        cache.close()
    assert MetadataCache(path).get("k") == 1


@pytest.mark.parametrize("text", ["x", "-1", "nan", "inf"])
def test_a_setting_that_is_no_number_of_seconds_is_named(
    path: Path, text: str, monkeypatch
) -> None:
    monkeypatch.setenv(locks.SETTING, text)
    with holding(path, OPENING), pytest.raises(UsageError, match=re.escape(repr(text))):
        MetadataCache(path).get("k")


def test_who_takes_the_stores_own_lock_holds_up_other_programs(path: Path) -> None:
    with holding(path, PAST_OURS):
        code = f"from sereno.cache import MetadataCache\nMetadataCache({str(path)!r}).set('k', 2)"
        other = subprocess.Popen(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(LIB), locks.SETTING: "0.1"},
        )
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(2)
    assert other.wait(30) == 0


def test_a_board_that_is_cut_under_a_program_kills_it(path: Path) -> None:
    code = (
        f"import os\nfrom sereno.cache import MetadataCache\ncache = MetadataCache({str(path)!r})\n"
        f"cache.get('k')\nos.truncate({str(path)!r} + '/format-3/board', 0)\ncache.get('other')"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(LIB)}, check=False)
    assert done.returncode == -signal.SIGBUS


def test_many_writers_at_once_all_come_through(path: Path) -> None:
    code = (
        f"from sereno.cache import MetadataCache\ncache = MetadataCache({str(path)!r})\n"
        "for _ in range(300): cache.invalidate_pattern('x'); cache.set('k', 1)"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code], env={"PYTHONPATH": str(LIB)})
        for _ in range(4)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
