"""The parts of the cache, each alone."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
import time
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sereno.cache
from sereno.cache import (
    MetadataCache,
    backend,
    board,
    clock,
    damage,
    entry,
    level,
    place,
    reads,
    reports,
    transaction,
    upkeep,
)
from sereno.cache.board import Board
from sereno.cache.directory import Directory
from sereno.cache.entry import Damaged
from sereno.cache.write import Write

LIB = Path(__file__).parents[2] / "lib"
TEXT = st.text(st.characters(), max_size=20) | st.text(st.characters(), min_size=400, max_size=700)


# Entry


@given(TEXT, st.integers(0, clock.NEVER_MS), st.integers(0, (1 << 63) - 1), st.binary(max_size=50))
def test_a_record_gives_back_its_key_its_header_and_its_value(key, expiry_ms, sequence, value):
    stored = entry.store_key(key)
    assert 1 <= len(stored) <= entry.MAX_KEY_BYTES
    record = entry.pack(stored, key, expiry_ms, sequence, value, entry.crc32(stored))
    assert entry.is_intact(stored, record)
    assert entry.expiry_and_sequence(record) == (expiry_ms, sequence)
    assert entry.key_text(stored, record) == key
    assert entry.value_of(record) == value
    assert entry.size_bytes(stored, len(record)) == len(entry.utf8(key)) + len(value)


@given(TEXT, TEXT)
def test_different_keys_have_different_store_keys_in_the_same_order_up_to_their_common_length(
    one, other
):
    stored, others = entry.store_key(one), entry.store_key(other)
    assert (stored == others) == (one == other)
    kept = entry.KEPT_BYTES
    if entry.utf8(one)[:kept] < entry.utf8(other)[:kept] and one:
        assert stored < others


@given(st.binary(min_size=24, max_size=60), st.integers(0, 1 << 30), st.integers(0, 7))
def test_a_single_changed_bit_is_seen(value, position, bit):
    stored = b"key"
    record = bytearray(entry.pack(stored, "key", 1, 2, value, entry.crc32(stored)))
    record[position % len(record)] ^= 1 << bit
    assert not entry.is_intact(stored, bytes(record))
    assert not entry.is_intact(
        b"other", entry.pack(stored, "key", 1, 2, value, entry.crc32(stored))
    )


# Codec and limits


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(st.characters())
        | st.binary(),
        lambda inner: (
            st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner)
        ),
    )
)
def test_whatever_is_encoded_comes_back_the_same_and_whatever_is_not_is_a_type_error(value):
    try:
        text = entry.encode(value)
    except TypeError as error:
        assert str(error).startswith("value")
    else:
        assert repr(entry.decode(text)) == repr(value)


@pytest.mark.parametrize(
    ("seconds", "in_ms"),
    [(1, 1000), (0.0001, 1), (1.0004, 1001), (0, 0), (-3, 0), (float("inf"), clock.NEVER_MS)],
)
def test_a_lifetime_is_rounded_up_to_milliseconds(seconds, in_ms):
    assert reports.ttl_ms(seconds) == in_ms


def test_a_lifetime_beyond_all_clocks_does_not_overflow(tmp_path):
    cache = MetadataCache(tmp_path / "c", default_ttl=1e300)
    cache.set("k", 1)
    cache.set("l", 1, ttl=1e308)
    assert cache.get_many(["k", "l"]) == {"k": 1, "l": 1}


# Place


@pytest.fixture
def no_machine_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("SERENO_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(place, "MACHINE_DIRECTORY", str(tmp_path / "machine"))
    return tmp_path


def test_the_directory_is_the_one_that_the_environment_names(no_machine_directory, monkeypatch):
    (no_machine_directory / "machine").mkdir()
    monkeypatch.setenv("SERENO_CACHE_DIR", "/somewhere")
    assert place.default_path("metadata") == "/somewhere/metadata"


def test_else_the_machines_where_the_caller_may_use_it(no_machine_directory):
    (no_machine_directory / "machine").mkdir()
    assert place.default_path("n") == str(no_machine_directory / "machine" / "n")


def test_else_the_users_own(no_machine_directory, monkeypatch):
    assert place.default_path("n") == str(no_machine_directory / "home/.cache/sereno/n")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert place.default_path("n") == str(no_machine_directory / "home/.cache/sereno/n")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert place.default_path("n") == "/xdg/sereno/n"


def test_the_process_has_one_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SERENO_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(sereno.cache, "_process_cache", {})
    cache = sereno.cache.get_metadata_cache()
    assert cache is sereno.cache.get_metadata_cache()
    assert cache.path == str(tmp_path / "metadata")


# Board


@pytest.fixture
def board_path(tmp_path) -> str:
    path = str(tmp_path / "board")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    board.fill(fd)
    os.close(fd)
    return path


def opened(board_path: str) -> Board:
    with Directory(os.path.dirname(board_path)) as directory:
        return Board(directory)


def test_a_new_board_has_all_its_blocks(board_path):
    found = os.stat(board_path)
    assert found.st_size == board.SIZE_BYTES <= found.st_blocks * 512


def test_each_board_takes_a_line_of_its_own_and_the_next_one_counts_on(board_path):
    first, second = opened(board_path), opened(board_path)
    first.take_line()
    second.take_line()
    assert (first.line_number, second.line_number) == (0, 1)
    assert first.has_company()
    first.line[board.HITS] += 3
    second.line[board.HITS] += 4
    assert second.totals()["hits"] == 7
    first.close()
    assert not second.has_company()
    third = opened(board_path)
    third.take_line()
    third.line[board.HITS] += 1
    assert (third.line_number, third.totals()["hits"]) == (0, 8)


@pytest.mark.parametrize("writing", [0, 1])
def test_a_board_that_was_not_closed_counts_as_one_death(board_path, writing):
    watcher = opened(board_path)
    pid = os.fork()
    if pid == 0:
        dying = opened(board_path)
        dying.take_line()
        dying.line[board.WRITING] = writing
        os._exit(0)
    os.waitpid(pid, 0)
    for _ in range(2):
        assert watcher.census() == 0
        assert watcher.words[board.DEATHS] == (board.DEATH_IN_A_WRITE if writing else 1)


def test_more_processes_than_lines_are_refused(board_path, monkeypatch):
    monkeypatch.setattr(board, "LINES", 2)
    boards = [opened(board_path) for _ in range(3)]
    boards[0].take_line()
    boards[1].take_line()
    with pytest.raises(OSError, match="2 processes") as caught:
        boards[2].take_line()
    assert caught.value.errno == errno.EAGAIN


@pytest.mark.parametrize("size", [0, 8, 4096, board.SIZE_BYTES - 1, board.SIZE_BYTES + 1])
def test_a_board_of_another_size_is_damaged(board_path, size):
    os.truncate(board_path, size)
    with pytest.raises(Damaged):
        opened(board_path)


# The process's own level


def of_bytes(count: int) -> level.Kept:
    return (b"x" * count, 0.0, memoryview(b""), 0, 0, 0)


def test_the_level_stays_within_its_bytes_and_drops_what_came_first():
    kept = level.Level(3 * (level.OVERHEAD_BYTES + 100))
    for number in range(5):
        kept.keep(f"k{number}", of_bytes(100))
    assert list(kept.kept) == list(kept) == ["k2", "k3", "k4"]
    order = kept["k2"] = kept["k2"]
    assert order == level.OVERHEAD_BYTES + 100
    kept.keep("k4", of_bytes(200))
    assert kept.currsize <= kept.maxsize
    assert set(kept.kept) == set(kept)
    assert len(kept.kept["k4"][0]) == 200


def test_a_value_of_equal_size_takes_the_others_place_in_the_level(monkeypatch):
    kept = level.Level(10_000)
    kept.keep("k", of_bytes(100))
    monkeypatch.setattr(level.Level, "__setitem__", None)
    again = of_bytes(100)
    kept.keep("k", again)
    assert kept.kept["k"] is again


def test_an_interrupted_change_of_the_level_leaves_it_empty_and_not_halved(tmp_path, monkeypatch):
    cache = MetadataCache(tmp_path / "c")
    cache.set_many({"k": 1, "l": 2})
    cache.get("k"), cache.get("k"), cache.get("l")

    def keep_half(level, key, value):
        level[key] = 700
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(level.Level, "keep", keep_half)
        with pytest.raises(KeyboardInterrupt):
            cache.get("l")
    assert cache._level is None
    for _ in range(3):
        assert (cache.get("k"), cache.get("l")) == (1, 2)
    assert set(cache._level.kept) == {"k", "l"}


def test_a_level_that_serves_too_little_rests_and_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(reads, "FEWEST_KEPT", 8)
    cache = MetadataCache(tmp_path / "c")
    cache.set("k", 0)
    offered: list[bool] = []
    for n in range(200):
        # Each write makes what is kept worthless: it is read twice and served once at most.
        cache.set("k", n)
        assert cache.get("k") == cache.get("k") == n
        offered.append(cache._level is not None)
    assert not all(offered[20:])
    assert offered.count(True) < 120
    # From now on it would serve all; after its rest it does.
    for _ in range(500):
        cache.get("k")
    assert cache._level.kept.keys() == {"k"}
    begin, cache._begin = cache._begin, None  # the store cannot be read
    assert cache.get("k") == 199
    cache._begin = begin


def test_a_value_too_large_for_the_level_is_read_from_the_store(tmp_path):
    cache = MetadataCache(tmp_path / "c", level_bytes=1000)
    for _ in range(3):
        cache.set("large", "x" * 2000)
        assert cache.get("large") == cache.get("large") == "x" * 2000


def test_what_is_read_twice_is_kept_and_dropped_at_a_write(tmp_path):
    cache = MetadataCache(tmp_path / "c")
    cache.set("k", 1)
    for _ in range(3):
        cache.get("k")
    assert cache._level.kept["k"] is not None
    begin, cache._begin = cache._begin, None  # the store cannot be read
    assert cache.get("k") == 1
    cache._begin = begin
    cache.set("k", 2)
    assert cache.get("k") == 2


def test_a_set_after_the_limit_was_lowered_shrinks_the_cache_by_one(tmp_path):
    """Whoever lowered it may have been killed before it evicted the rest."""
    cache = MetadataCache(tmp_path / "c", max_size=2000)
    cache.set_many({f"{n}": "v" * 300 for n in range(2000)})
    cache._session.written(Write.set_limits, {"max_size": 100})
    for n in range(1, 50):
        cache.set(f"k{n}", 1)
        assert cache.get_stats()["size"] == 2000 - n
    assert cache.get_stats()["evictions"] == 2 * 49
    while cache.get_stats()["size"] > 100:
        n += 1
        cache.set(f"k{n}", 1)
    cache.set("last", 1)
    assert (len(cache), cache.get("last")) == (100, 1)


# Expiries


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5000)), max_size=30),
    st.integers(0, 6000),
)
def test_no_entry_that_has_expired_is_missing_from_the_slots_that_are_due(notes, now_ms):
    """Also where sequence numbers share a slot."""
    words = memoryview(bytearray(4 * board.SLOTS)).cast("I")
    for number, expiry_ms in notes:
        board.note(words, (number % 7) * board.SLOTS + number, expiry_ms)
    due = board.due(words, 0, 50, now_ms)
    assert {number for number, expiry_ms in notes if expiry_ms <= now_ms} <= set(due)
    for slot in due:
        assert slot + 3 * board.SLOTS in transaction.in_use(None, slot, 0, 8 * board.SLOTS)


@pytest.mark.parametrize("between", [1, 10**9], ids=["few", "years of writes"])
def test_a_cleanup_finds_entries_that_share_a_slot_with_younger_ones(tmp_path, between):
    now_s = 1000.0
    cache = MetadataCache(tmp_path / "c", clock=lambda: now_s)
    cache.set("old, expires", 1, ttl=5)
    cache.set("old, stays", 1, ttl=100)
    words = cache._session.store.words
    words[board.NEXT_SEQUENCE] += between * board.SLOTS - 2
    cache.set("young, stays", 1, ttl=100)
    cache.set("young, expires", 1, ttl=50)
    now_s = 1006.0
    assert cache.cleanup() == 1
    assert sorted(cache) == ["old, stays", "young, expires", "young, stays"]
    now_s = 1051.0
    assert cache.cleanup() == 1
    assert sorted(cache) == ["old, stays", "young, stays"]
    now_s = 1101.0
    assert (cache.cleanup(), cache.cleanup(), list(cache)) == (2, 0, [])
    used = cache._session.store.board.expiries[:16].tolist()
    assert used == [0] * 16


# Cleanup


def test_a_cleanup_beside_others_stays_away_as_long_as_it_held_the_lock(tmp_path, monkeypatch):
    cache = MetadataCache(tmp_path / "c", max_size=None, clock=lambda: 1000.0)
    cache.set_many({f"k{number}": number for number in range(5000)}, ttl=10)
    monkeypatch.setattr(backend, "BOX_S", 0.0005)
    monkeypatch.setattr(Board, "has_company", lambda self: True)
    pauses: list[float] = []
    steps = list(cache._backend.purge(2_000_000, sleep=pauses.append))
    boxes = [step.entries for step in steps if step.hold_s]
    assert sum(boxes) == 5000
    assert len(pauses) == len(boxes) > 5
    assert min(pauses) >= backend.SMALLEST_PAUSE_S
    assert sum(step.held_bytes for step in steps) == sum(
        len(f"k{n}") + len(str(n)) for n in range(5000)
    )
    assert steps[-1].looked_at == 5001  # numbers begin with 1
    assert len(cache) == 0


def test_an_entry_that_is_set_again_during_the_cleanup_stays(tmp_path):
    now_s = 1000.0
    cache = MetadataCache(tmp_path / "c", clock=lambda: now_s)
    cache.set("k", "old", ttl=1)
    now_s = 1001.0
    slots = cache._session.store.due(0, 100, cache._now_ms())
    assert len(slots) == 1
    cache.set("k", "new", ttl=10)
    done = cache._session.written(Write.delete_expired, slots, cache._now_ms(), 1.0)
    assert done.entries == 0
    assert cache.get("k") == "new"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, True), (io.StringIO, False)])
def test_progress_is_shown_on_a_terminal_after_a_second(monkeypatch, stream, shown):
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    monkeypatch.setattr(sys, "stderr", stream())
    progress = upkeep.TerminalProgress()
    now_s = 0.9
    progress(1000, 1)
    assert sys.stderr.getvalue() == ""
    now_s = 1.1
    progress(2000, 2)
    progress.end()
    assert sys.stderr.getvalue() == ("\rlooked at 2000 entries, removed 2\n" if shown else "")


@pytest.mark.parametrize(
    "name",
    "get set add incr get_many set_many get_stats invalidate peek pop setdefault update items".split(),
)
def test_the_annotations_of_what_a_backend_may_serve_can_be_evaluated(name):
    assert get_type_hints(getattr(MetadataCache, name))


def test_the_cache_imports_nothing_of_sereno_but_errors_and_what_takes_the_place_of_dear_modules():
    for file in (LIB / "sereno" / "cache").glob("*.py"):
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"]) and words[1].startswith("sereno"):
                assert words[1].startswith("sereno.cache") or words[1] in (
                    "sereno.errors",
                    "sereno.named_tuple",
                    "sereno.context_manager",
                    "sereno.setting_names",
                ), (file.name, line)


# Waiting for a writer


def test_readers_do_not_wait_for_a_writer(tmp_path):
    cache = MetadataCache(tmp_path / "c", level_bytes=0)
    cache.set("k", 1)
    inside, leave = threading.Event(), threading.Event()

    def write(txn, _) -> None:
        inside.set()
        leave.wait(30)

    writer = threading.Thread(target=cache._session.written, args=(write, None))
    writer.start()
    assert inside.wait(10)
    assert cache.get("k") == 1
    assert writer.is_alive()
    leave.set()
    writer.join()


# What lies about in a cache's directory


def test_a_tree_of_any_depth_goes_and_a_link_in_it_is_not_followed(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").touch()
    os.mkdir(tmp_path / "c")
    here = os.open(tmp_path / "c", os.O_RDONLY)
    for name in ["new-1", *["d"] * 3000]:
        os.mkdir(name, dir_fd=here)
        os.symlink(tmp_path / "victim", "link", dir_fd=here)
        above, here = here, os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(above)
    os.close(here)
    os.unlink(tmp_path / "c/link")
    (tmp_path / "c/new-2").symlink_to(tmp_path / "victim")
    (tmp_path / "c/new-3").touch()
    assert MetadataCache(tmp_path / "c").get("k") is None
    assert sorted(os.listdir(tmp_path / "c")) == ["format-3", "open.lock"]
    assert os.listdir(tmp_path / "victim") == ["file"]


def test_an_opening_removes_so_many_files_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(damage, "MOST_AT_ONCE", 10)
    (tmp_path / "new-1").mkdir()
    for number in range(25):
        (tmp_path / f"new-1/{number}").touch()
    top = Directory(str(tmp_path))
    damage.sweep(top)
    assert 0 < len(list((tmp_path / "new-1").iterdir())) < 25
    for _ in range(5):
        damage.sweep(top)
    top.close()
    assert list(tmp_path.iterdir()) == []
