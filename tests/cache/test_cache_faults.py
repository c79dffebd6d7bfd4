"""Files that were damaged, replaced or cannot be written: a helpful error or an empty cache, never a wrong value."""

from __future__ import annotations

import errno
import gc
import logging
import os
import random
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sereno.cache import MetadataCache, damage, files, place, session, store
from sereno.cache import board as words
from sereno.cache.directory import Directory
from sereno.errors import CacheError, CacheFormatError

HERE = Path(__file__).parent
LIB = HERE.parents[1] / "lib"
LONG = os.environ.get("SERENO_TEST_LONG") == "1"
MUTATIONS = 100_000 if LONG else 60


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def filled(path) -> Path:
    """A closed cache with 200 entries of many sizes."""
    cache = MetadataCache(path)
    cache.set_many({f"k{n}": "v" * (n * 40) for n in range(200)})
    cache.close()
    return path


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs Python in a process of its own, which may die."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\nfrom sereno.cache import MetadataCache\n" + code,
            *map(str, arguments),
        ],
        env=os.environ | {"PYTHONPATH": str(LIB)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def set_aside(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.startswith("damaged-"))


def spoil_end(data: bytearray) -> bytearray:
    return data[: len(data) // 2]


def spoil_all(data: bytearray) -> bytearray:
    return bytearray(random.Random(1).randbytes(len(data)))


def spoil_pages(data: bytearray) -> bytearray:
    data[8192:] = bytes(len(data) - 8192)
    return data


@pytest.mark.parametrize("spoil", [spoil_end, spoil_all, spoil_pages, lambda data: bytearray()])
@pytest.mark.parametrize("name", ["data.mdb", "board"])
def test_a_damaged_file_is_reported_set_aside_and_replaced_by_an_empty_cache(
    filled, caplog, name, spoil
):
    file = filled / "format-3" / name
    data = bytearray(file.read_bytes())
    whole = len(data)
    data = spoil(data)
    if name == "board" and len(data) == whole:
        data[:16] = b"\1" * 16
    file.write_bytes(data)
    cache = MetadataCache(filled)
    with caplog.at_level(logging.WARNING, logger="sereno.cache"):
        assert cache.get("k1") is None
    assert len(set_aside(filled)) == 1
    assert str(filled) in caplog.text
    assert set_aside(filled)[0] in caplog.text
    cache.set("k1", 2)
    assert cache.get("k1") == 2
    cache.close()
    assert MetadataCache(filled).get("k1") == 2
    assert len(set_aside(filled)) == 1


def test_at_most_three_damaged_caches_are_kept(filled):
    for _ in range(5):
        (filled / "format-3" / "data.mdb").write_bytes(b"x" * 10_000)
        assert MetadataCache(filled).get("k1") is None
        session.session_for(str(filled)).close()
    assert len(set_aside(filled)) == 3


def test_damaged_files_are_set_aside_where_their_directory_cannot_be_renamed(filled, monkeypatch):
    """As on overlayfs, when the cache came with a container's image."""
    rename = os.rename

    def refuse_directories(old, new, **directories):
        if os.path.basename(old) == "format-3":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), old)
        rename(old, new, **directories)

    monkeypatch.setattr(os, "rename", refuse_directories)
    (filled / "format-3" / "data.mdb").write_bytes(b"x" * 10_000)
    cache = MetadataCache(filled)
    assert cache.get("k1") is None
    cache.set("k1", 2)
    assert cache.get("k1") == 2
    (aside,) = set_aside(filled)
    assert sorted(os.listdir(filled / aside)) == [
        *("board", "data.mdb", "lock.mdb", "reserve", "synced")
    ]


@pytest.mark.parametrize("name", ["data.mdb", "lock.mdb", "board", "format-3"])
def test_a_missing_file_makes_an_empty_cache_and_no_failure(filled, name):
    gone = filled / "format-3" if name == "format-3" else filled / "format-3" / name
    os.rename(gone, filled.parent / "gone")
    cache = MetadataCache(filled)
    # Without LMDB's lock file nothing of the content is lost.
    assert cache.get("k1") == ("v" * 40 if name == "lock.mdb" else None)
    cache.set("k1", 2)
    assert cache.get("k1") == 2


@pytest.mark.parametrize("name", ["current", "format-2"])
def test_an_older_format_is_superseded_and_its_processes_told(filled, caplog, name):
    older = filled / name
    os.rename(filled / words.CURRENT, older)
    data = bytearray((older / "board").read_bytes())
    data[8:16] = struct.pack("<Q", words.FORMAT - 1)
    (older / "board").write_bytes(data)
    with caplog.at_level(logging.WARNING, logger="sereno.cache"):
        cache = MetadataCache(filled)
        assert cache.get("k1") is None
    assert f"an older sereno wrote {name}" in caplog.text
    assert set_aside(filled) == []
    assert os.listdir(older) == ["board"]
    head = struct.unpack("<512Q", (older / "board").read_bytes()[:4096])
    assert (head[1], head[words.RETIRED]) == (words.FORMAT, 1)
    cache.set("k1", 1)
    cache.close()
    caplog.clear()
    assert (cache.get("k1"), caplog.text) == (1, "")


def test_processes_of_a_superseded_format_find_nothing_and_are_told_of_removals(filled, caplog):
    cache = MetadataCache(filled, max_size=100)
    assert cache.get("k150") == cache.get("k150") == "v" * 6000
    (filled / f"format-{words.FORMAT + 1}").mkdir()
    board = cache._session.store.board
    with open(filled / words.CURRENT / "board", "r+b") as file:
        words.FORMAT += 1
        try:
            assert damage.supersede(file.fileno())
        finally:
            words.FORMAT -= 1
    assert board.words[words.RETIRED]
    with caplog.at_level(logging.WARNING, logger="sereno.cache"):
        assert cache.get("k150") is cache.get("k1") is None
    assert caplog.text.count("a newer sereno uses it") == 1
    cache.set("k1", 1)
    cache.set_many({"k2": 1})
    assert (cache.get("k1"), cache.get_many(["k2"]), list(cache)) == (None, {}, [])
    assert ("k1" in cache, len(cache), list(cache.items())) == (False, 0, [])
    assert cache.memoize(name="f")(lambda: 7)() == 7
    for unnoticed in (
        lambda: cache.invalidate("k1"),
        lambda: cache.invalidate_pattern("k"),
        cache.clear,
        lambda: cache.add("n", 1),
        lambda: cache.incr("n"),
        lambda: cache.pop("k1", None),
        lambda: cache.setdefault("n", 1),
    ):
        with pytest.raises(CacheFormatError, match="newer sereno"):
            unnoticed()
    del session._sessions[str(filled)]
    assert MetadataCache(filled).get("k1") is None


def test_a_newer_format_is_refused_and_left_alone(filled):
    board = filled / "format-3" / "board"
    data = bytearray(board.read_bytes())
    data[8:16] = struct.pack("<Q", words.FORMAT + 1)
    board.write_bytes(data)
    before = {file: file.read_bytes() for file in (filled / "format-3").iterdir()}
    with pytest.raises(CacheFormatError) as caught:
        MetadataCache(filled).get("k1")
    assert f"format {words.FORMAT + 1}" in str(caught.value)
    assert str(filled) in str(caught.value)
    assert {file: file.read_bytes() for file in (filled / "format-3").iterdir()} == before
    assert set_aside(filled) == []


def test_a_value_whose_bytes_changed_is_never_handed_out(filled):
    cache = MetadataCache(filled)
    cache.set("needle", "haystack-" * 20)
    cache.close()
    data = filled / "format-3" / "data.mdb"
    os.utime(data)
    stamp = data.stat()
    data.write_bytes(data.read_bytes().replace(b"haystack-haystack", b"haystack-HAYSTACK"))
    os.utime(data, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert cache.get("needle") is None
    assert len(set_aside(filled)) == 1
    cache.set("needle", 1)
    assert cache.get("needle") == 1


def test_damage_found_by_one_process_empties_the_cache_for_all(filled):
    cache = MetadataCache(filled)
    assert cache.get("k1") == cache.get("k1") == "v" * 40
    other = run(
        "cache = MetadataCache(sys.argv[1]); cache.get('k1'); session = cache._session\n"
        "from sereno.cache.entry import Damaged\n"
        "session._recover(Damaged('test')); cache.set('k1', 'new')",
        filled,
    )
    assert other.returncode == 0, other.stderr
    assert cache.get("k1") == "new"
    assert cache.get("k2") is None


@pytest.mark.parametrize("replaced", [False, True])
def test_files_removed_or_swapped_while_open_are_noticed(filled, replaced, monkeypatch):
    monkeypatch.setattr(session, "CHECK_EVERY_S", 0.0)
    cache = MetadataCache(filled)
    assert cache.get("k1") == "v" * 40
    os.rename(filled / "format-3", filled.parent / "gone")
    if replaced:
        other = run("MetadataCache(sys.argv[1]).set('k1', 'other')", filled)
        assert other.returncode == 0, other.stderr
    assert cache.get("nothing") is None
    assert cache.get("k1") == ("other" if replaced else None)
    cache.set("k2", 2)
    cache.close()
    assert run("print(MetadataCache(sys.argv[1]).get('k2'))", filled).stdout == "2\n"


WITHOUT_RIGHTS = """
import os
from sereno.cache import session
session.CHECK_EVERY_S = 0.0
cache = MetadataCache(sys.argv[1])
assert cache.get('k1') == 'v' * 40
if os.geteuid() == 0:
    os.setgroups([]), os.setegid(65534), os.seteuid(65534)
else:
    os.chmod(sys.argv[1], 0)
for use in ("cache.get('k2')", "cache.get_many(['k2'])", "cache.set('k1', 1)", "cache.invalidate('k1')",
            "cache.clear()", "cache.cleanup()", "cache.get_stats()"):
    try:
        eval(use)
    except OSError as error:
        print(type(error).__name__, error.errno, 'SERENO_CACHE_DIR' in str(error), flush=True)
cache.close()
"""


def test_a_process_that_loses_its_rights_is_refused_and_harms_nobody(filled):
    cache = MetadataCache(filled)
    assert cache.get("k1") == "v" * 40
    done = run(WITHOUT_RIGHTS, filled)
    filled.chmod(0o700)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"CacheError {errno.EACCES} True"] * 7
    assert not cache._session.store.words[words.RETIRED]
    assert len(cache) == 200
    cache.close()
    assert (cache.get("k2"), len(cache), set_aside(filled)) == ("v" * 80, 200, [])


@pytest.mark.parametrize("replaced", [False, True])
def test_files_removed_or_swapped_are_noticed_by_who_reads_only_what_the_process_keeps(
    filled, replaced, monkeypatch
):
    monkeypatch.setattr(session, "CHECK_EVERY_S", 3600.0)
    cache = MetadataCache(filled)
    for _ in range(3):
        assert cache.get("k1") == "v" * 40
    assert cache._level is not None
    assert "k1" in cache._level.kept
    os.rename(filled / "format-3", filled.parent / "gone")
    if replaced:
        other = run("MetadataCache(sys.argv[1]).set('k1', 'other')", filled)
        assert other.returncode == 0, other.stderr
    cache._session.check_at[0] = 0.0  # that hour is over
    assert cache.get("k1") == ("other" if replaced else None)
    cache.close()


def test_a_backend_that_crashed_on_a_truncated_file_does_not_crash_again(filled):
    crash = (
        "import os\ncache = MetadataCache(sys.argv[1], level_bytes=0)\ncache.get('k199')\n"
        "os.truncate(sys.argv[1] + '/format-3/data.mdb', 8192)\n"
        "[cache.get(f'k{n}') for n in range(200)]"
    )
    assert run(crash, filled).returncode in (0, -signal.SIGBUS)
    after = run(
        "cache = MetadataCache(sys.argv[1])\nprint([cache.get(f'k{n}') for n in range(200)])",
        filled,
    )
    assert after.returncode == 0, after.stderr
    values = eval_free_list(after.stdout)
    assert all(value is None or set(value) <= {"v"} for value in values)


def eval_free_list(text: str) -> list[str | None]:
    import ast

    values: list[str | None] = ast.literal_eval(text)
    return values


def test_mutated_files_give_the_value_that_was_stored_or_none_and_no_crash(filled, in_memory):
    path = shutil.copytree(filled, in_memory / "cache")
    done = subprocess.run(
        [sys.executable, HERE / "mutated_files.py", path, "0", str(MUTATIONS)],
        env=os.environ | {"PYTHONPATH": str(LIB)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout[-10:], done.stderr[-3000:])


def test_files_that_were_to_be_set_aside_when_their_process_was_killed_are_set_aside(filled):
    killed = (
        "import os\ncache = MetadataCache(sys.argv[1])\ncache.get('k1')\n"
        "from sereno.cache import damage\ndamage.move = lambda *_: os._exit(3)\n"
        "from sereno.cache.entry import Damaged\ncache._session._recover(Damaged('test'))"
    )
    assert run(killed, filled).returncode == 3
    assert set_aside(filled) == []
    cache = MetadataCache(filled)
    assert cache.get("k1") is None
    assert len(set_aside(filled)) == 1
    cache.set("k1", 2)
    assert cache.get("k1") == 2


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (words.NEXT_SEQUENCE, 0),
        (words.NEXT_SEQUENCE, (1 << 64) - 1),
        (words.HAND, (1 << 64) - 1),
        (words.EPOCH_MS, (1 << 64) - 1),
        (words.TALLY_AFTER + 1, (1 << 64) - 1),
        (words.TALLY_AFTER + 1, 0),
    ],
)
def test_a_board_whose_words_cannot_be_makes_an_empty_cache_and_no_failure(filled, word, value):
    board = filled / "format-3" / "board"
    with board.open("r+b") as file:
        file.seek(8 * word)
        file.write(struct.pack("<Q", value))
    cache = MetadataCache(filled)
    cache.set("k1", "new")
    assert cache.invalidate_pattern("k1") > 0
    cache.set("k1", 2)
    assert (cache.get("k1"), cache.cleanup()) == (2, 0)
    assert cache.get("k2") in (None, "v" * 80)


def forge_boot(path: Path) -> None:
    """Makes the files those of another boot."""
    with open(path / "format-3" / "board", "r+b") as file:
        file.seek(8 * words.BOOT_ID)
        file.write(b"another boot's !")


def test_a_clean_reboot_keeps_the_content_and_the_counters(filled):
    MetadataCache(filled).get("k1")
    session.session_for(str(filled)).close()
    forge_boot(filled)
    cache = MetadataCache(filled)
    assert cache.get("k1") == "v" * 40
    assert len(cache) == 200
    assert cache.get_stats()["hits"] == 2
    cache.set("new", 1)
    assert cache.get("new") == 1


def test_after_an_unclean_reboot_the_cache_starts_empty_and_says_why(filled, caplog):
    crashed = run(
        "import os\ncache = MetadataCache(sys.argv[1])\ncache.invalidate('k1')\nos._exit(1)", filled
    )
    assert crashed.returncode == 1
    forge_boot(filled)
    cache = MetadataCache(filled)
    with caplog.at_level(logging.WARNING, logger="sereno.cache"):
        assert len(cache) == 0
    assert "machine went down" in caplog.text
    assert sorted(os.listdir(filled)) == ["format-3", "open.lock"]
    caplog.clear()
    cache.set("k1", 1)
    cache.close()
    assert (cache.get("k1"), caplog.text) == (1, "")


def test_a_process_that_only_read_does_not_make_the_end_unclean(filled):
    crashed = run("import os\nMetadataCache(sys.argv[1]).get('k1')\nos._exit(1)", filled)
    assert crashed.returncode == 1
    forge_boot(filled)
    assert MetadataCache(filled).get("k1") == "v" * 40


def test_a_store_other_than_the_one_that_was_marked_clean_is_dropped(filled):
    (filled / "format-3" / "synced").write_text("1\n")
    forge_boot(filled)
    assert len(MetadataCache(filled)) == 0


def test_after_an_unclean_reboot_the_content_is_dropped_once_however_many_open(filled):
    run("import os\nc = MetadataCache(sys.argv[1])\nc.invalidate('k1')\nos._exit(1)", filled)
    forge_boot(filled)
    code = "import os\ncache = MetadataCache(sys.argv[1])\ncache.set(sys.argv[2], 1)\nassert cache.get(sys.argv[2])"
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys\nfrom sereno.cache import MetadataCache\n" + code,
                filled,
                f"new{n}",
            ],
            env=os.environ | {"PYTHONPATH": str(LIB)},
        )
        for n in range(8)
    ]
    assert [process.wait(60) for process in started] == [0] * 8
    assert set(MetadataCache(filled)) == {f"new{n}" for n in range(8)}


def test_a_clock_set_back_or_forward_changes_no_lifetime(path, monkeypatch):
    cache = MetadataCache(path)
    cache.set("k", 1, ttl=3600)
    cache.set("short", 1, ttl=0.01)
    now = time.time
    for shift in (-86_400, 86_400):
        monkeypatch.setattr(time, "time", lambda shift=shift: now() + shift)
        monkeypatch.setattr(time, "time_ns", lambda shift=shift: int((now() + shift) * 1e9))
        assert cache.get("k") == 1
        cache.close()
        assert cache.get("k") == 1
        deadline = time.monotonic() + 30
        while cache.get("short") is not None:
            assert time.monotonic() < deadline


def test_a_machine_that_boots_with_its_clock_in_the_past_gives_no_entry_more_time(
    path, monkeypatch
):
    cache = MetadataCache(path)
    cache.set("k", 1, ttl=3600)
    before_ms = cache._now_ms()
    cache.close()
    forge_boot(path)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert cache.get("k") == 1
    assert cache._now_ms() >= before_ms


def test_a_cache_that_fills_its_map_makes_room_in_it_and_removals_never_fail(path, monkeypatch):
    monkeypatch.setattr(store, "MAP_BYTES", 8 << 20)
    cache = MetadataCache(path, max_size=None)
    for number in range(3000):
        cache.set(f"k{number}", "v" * (number % 9 * 1000))
    assert cache.get("k2999") == "v" * 2000
    assert cache.get("k0") is None
    assert cache.get_stats()["evictions"] > 1000
    with cache._session.store.begin():  # so that no page of before is used again
        for number in range(2900, 3000):
            assert cache.invalidate(f"k{number}")
    cache.clear()
    cache.set("new", 1)
    assert (len(cache), cache.get("new")) == (1, 1)


FILL = """
cache = MetadataCache(sys.argv[1], max_size=None)
cache.set('first', 'v' * 1000)
limit()
try:
    for n in range(100_000):
        cache.set(f'k{n}', 'v' * 2000)
except OSError as error:
    print(error.errno, error.filename)
assert cache.get('first') == cache.get('first') == 'v' * 1000
assert cache.get('k0') == 'v' * 2000
try:
    cache.get('nothing'), len(cache), cache.get_stats()
    cache.invalidate('k0')
except OSError:
    pass
unlimit()
cache.set('after', 1)
assert cache.get('after') == 1 and cache.get('first') == 'v' * 1000
"""


def test_a_file_size_limit_is_an_error_and_earlier_entries_stay_readable(path):
    code = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, hard))\n"
        "unlimit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
    )
    done = run(code + "limit()\n" + FILL, path)
    assert done.returncode == 0, done.stderr
    # LMDB calls a write that was cut short EIO.
    assert done.stdout.split()[0] in (str(errno.EFBIG), str(errno.EIO))
    assert done.stdout.split()[1] == os.path.realpath(path)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def on_small_disk(
    size: str, directory: Path, code: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs Python with a file system of that size on `directory`, in a mount name space of its own."""
    directory.mkdir()
    script = directory.parent / "script.py"
    script.write_text("import os, sys\nfrom sereno.cache import MetadataCache\n" + code)
    mount = f'mount -t tmpfs -o size={size} none "$1" && exec "$2" "$3" "$1/cache"'
    own_space = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    return subprocess.run(
        [*own_space, "sh", "-c", mount, "sh", directory, sys.executable, script],
        env=os.environ | {"PYTHONPATH": str(LIB)} | (environment or {}),
        capture_output=True,
        text=True,
    )


def test_a_full_disk_is_an_error_and_earlier_entries_stay_readable(tmp_path):
    ballast = (
        "ballast = os.path.dirname(sys.argv[1]) + '/ballast'\n"
        "open(ballast, 'wb').write(bytes(1_000_000))\n"
        "limit = lambda: None\nunlimit = lambda: os.unlink(ballast)\n"
    )
    done = on_small_disk("20m", tmp_path / "disk", ballast + FILL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(errno.ENOSPC), str(tmp_path / "disk" / "cache")]


ANOTHER_PROGRAM = """
from sereno.cache.store import Store
disk = os.path.dirname(sys.argv[1])
def fill():
    try:
        with open(disk + '/log', 'ab', buffering=0) as log:
            while log.write(bytes(4096)):
                pass
    except OSError:
        pass
cache = MetadataCache(sys.argv[1], max_size=None)
cache.set_many({f'k{n}': 'v' * 2000 for n in range(200)})
spend = Store.spend_reserve
Store.spend_reserve = lambda store: (spend(store), fill())
fill()
with cache._session.store.begin():  # so that no page of before is used again
    for n in range(50):
        assert cache.invalidate(f'k{n}')
print(len(cache), os.path.getsize(disk + '/log') > 0)
"""


def test_what_is_reserved_for_removals_goes_to_no_other_program(tmp_path):
    done = on_small_disk("24m", tmp_path / "disk", ANOTHER_PROGRAM)
    assert (done.stdout, done.stderr) == ("150 True\n", "")


FILL_SEVERAL_WAYS = """
import errno, itertools, random
from sereno.cache import session
disk = os.path.dirname(sys.argv[1])
for seed in range(int(os.environ["SEEDS"])):
    chance = random.Random(seed)
    cache = MetadataCache(sys.argv[1], max_size=chance.choice((None, 300)))
    cache.clear()
    cache.set('first', 'v')
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    open(disk + '/ballast', 'wb').write(bytes(max(0, free - chance.randrange(3_000_000))))
    refused = 0
    for n in range(600):
        value = 'v' * chance.choice((10, 300, 1500, 2000, 9000))
        try:
            match chance.randrange(20):
                case 0: cache.set_many({f'm{n}-{k}': value for k in range(chance.choice((3, 700)))})
                case 1: cache.invalidate_pattern(f'k{n % 10}')
                case 2: cache.set(f'k{n}', value, ttl=0.001)
                case 3: cache.cleanup()
                case 4: cache.invalidate(f'k{n - 3}')
                case _: cache.set(f'k{n}', value)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            assert cache.set(f'k{n}', 0, ttl=0) is None and not cache.invalidate(f'k{n}')
            refused += 1
            if refused == 50:
                break
    assert cache.get('first') in ('v', None)
    cache.clear()
    os.unlink(disk + '/ballast')
    cache.set('after', seed)
    assert cache.get('after') == seed
    cache.close()
    print(seed, refused)
"""


def test_a_disk_that_fills_up_at_any_point_of_any_write_kills_nobody(tmp_path):
    """The board and the readers' table are mapped for writing: a page without a block would be a SIGBUS."""
    done = on_small_disk(
        "24m", tmp_path / "disk", FILL_SEVERAL_WAYS, {"SEEDS": "300" if LONG else "8"}
    )
    assert done.returncode == 0, (done.stdout[-100:], done.stderr)
    assert sum(int(line.split()[1]) > 0 for line in done.stdout.splitlines()) > 3


def test_a_disk_too_full_for_the_cache_itself_is_an_error_that_leaves_nothing(tmp_path):
    code = (
        "try:\n    MetadataCache(sys.argv[1]).get('k')\n"
        "except OSError as error:\n    print(error.errno, sys.argv[1] in str(error))\n"
        "print(os.listdir(sys.argv[1]))"
    )
    done = on_small_disk("1m", tmp_path / "disk", code)
    assert done.stdout == f"{errno.ENOSPC} True\n['open.lock']\n", done.stderr


UNPRIVILEGED = """
import os
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    MetadataCache(sys.argv[1]).get('k')
except OSError as error:
    print(type(error).__name__, error.errno, str(error))
"""


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o311])
def test_a_directory_without_the_rights_is_refused_with_what_is_missing_and_a_hint(tmp_path, mode):
    if os.geteuid() != 0:
        (tmp_path / "cache").mkdir(mode=mode & 0o555)
        with pytest.raises(CacheError, match="permission"):
            MetadataCache(tmp_path / "cache").get("k")
        return
    for directory in (tmp_path, *tmp_path.parents[:3]):
        if str(directory).startswith("/tmp/"):
            directory.chmod(0o755)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    done = run(UNPRIVILEGED, tmp_path / "cache")
    assert f"CacheError {errno.EACCES} cache directory {tmp_path}/cache" in done.stdout, done.stderr
    assert "permission" in done.stdout
    assert "hint: set SERENO_CACHE_DIR" in done.stdout


def test_below_the_machines_directory_the_hint_names_the_group():
    error = place.refused(
        "/var/cache/sereno/metadata", PermissionError(errno.EACCES, "Permission denied")
    )
    assert "usermod -aG sereno " in str(error.hint)


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="Not a directory"):
        MetadataCache(tmp_path / "file").get("k")


def test_a_directory_that_everybody_may_write_to_is_refused(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o1777)
    with pytest.raises(CacheError, match="every user"):
        MetadataCache(tmp_path / "cache").get("k")


MOUNTS = """\
21 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
35 21 0:44 / /mnt/my\\040share rw - nfs4 server:/share rw
36 21 0:45 /sub /mnt/pool rw - btrfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("path", "device", "kind"),
    [
        ("/var/x", (0, 20), "ext4"),
        ("/mnt/my share/x", (0, 44), "nfs4"),
        ("/mnt/my share/x", (0, 99), "nfs4"),
        ("/mnt/pool/x", (0, 46), "btrfs"),
    ],
)
def test_the_file_system_of_a_path_is_told_by_its_device_or_else_by_the_mount_point(
    path, device, kind
):
    assert place.filesystem_type(path, os.makedev(*device), MOUNTS) == kind


def test_a_network_file_system_is_refused_at_open(tmp_path, monkeypatch):
    monkeypatch.setattr(place, "filesystem_type", lambda *_: "nfs4")
    with pytest.raises(CacheError, match="on nfs4, a file system of a network"):
        MetadataCache(tmp_path / "cache").get("k")


@pytest.mark.parametrize("name", ["format-3", "data.mdb", "board", "open.lock", "lock.mdb"])
@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo"])
def test_links_and_special_files_in_a_files_place_are_not_followed(filled, tmp_path, name, kind):
    file = filled / name if name in ("format-3", "open.lock") else filled / "format-3" / name
    if name == "format-3" and kind != "symlink":
        file = filled / "format-3" / "board"
    victim = tmp_path / "victim"
    os.rename(file, victim)
    before = {path: path.read_bytes() for path in [victim, *victim.rglob("*")] if path.is_file()}
    if kind == "symlink":
        file.symlink_to(victim)
    elif kind == "hard link":
        os.link(victim, file)
    else:
        os.mkfifo(file)
    cache = MetadataCache(filled)
    try:
        cache.set("k1", "other")
    except CacheError as error:
        assert str(filled) in str(error)
    assert {path: path.read_bytes() for path in before} == before
    assert not stat.S_ISSOCK(file.lstat().st_mode)


def test_a_crash_while_files_are_made_leaves_nothing_that_disturbs(path):
    code = (
        "import os\nfrom sereno.cache import files\n"
        "files.os.rename = lambda *_, **__: os._exit(3)\nMetadataCache(sys.argv[1]).get('k')"
    )
    assert run(code, path).returncode == 3
    assert [name for name in os.listdir(path) if name.startswith("new-")]
    cache = MetadataCache(path)
    cache.set("k", 1)
    assert sorted(os.listdir(path)) == ["format-3", "open.lock"]


def test_a_process_that_cannot_open_takes_nothing_from_those_that_have(filled):
    cache = MetadataCache(filled)
    assert cache.get("k1") == "v" * 40
    starved = run(
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "try:\n    MetadataCache(sys.argv[1]).get('k1')\nexcept OSError as error:\n    print(error.errno)",
        filled,
    )
    assert starved.stdout.split() == [str(errno.ENOMEM)], starved.stderr
    assert (cache.get("k1"), cache.get("k2"), set_aside(filled)) == ("v" * 40, "v" * 80, [])


def test_a_check_beside_busy_writers_finds_nothing_wrong(filled):
    busy = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import sys\nfrom sereno.cache import MetadataCache\ncache = MetadataCache(sys.argv[1])\n"
            "n = 0\nwhile True:\n    n += 1\n    cache.set(f'k{n * 7919 % 200}', 'w' * (n % 9000))",
            str(filled),
        ],
        env=os.environ | {"PYTHONPATH": str(LIB)},
    )
    try:
        for _ in range(6):
            died = run(
                "import os\ncache = MetadataCache(sys.argv[1])\ncache.get('k1')\n"
                "cache._session.written(lambda _: os._exit(1))",
                filled,
            )
            assert (died.returncode, died.stderr) == (1, "")
        cache = MetadataCache(filled)
        assert len(cache) == 200
        assert set_aside(filled) == []
        assert cache._session.store.board.words[words.DEATHS] < damage.TOLERATED_DEATHS
    finally:
        busy.kill()
        busy.wait()


def test_every_file_is_closed_with_the_cache(path):
    gc.collect()
    # The last cache that nobody held any more stays open until there is another one.
    with MetadataCache(path) as cache:
        cache.get("k")
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        cache = MetadataCache(path)
        cache.set("k", 1)
        cache.get("k")
        cache.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    with Directory(str(path / "format-3")) as current:
        assert files.is_current(str(path), words.Board(current))


def blocks(path: Path) -> int:
    return (path / "format-3" / "data.mdb").stat().st_blocks * 512


@pytest.fixture
def emptied(path) -> MetadataCache:
    """Open, and of 8 MB that it has on the disk it needs a few pages."""
    cache = MetadataCache(path)
    cache.set_many({f"k{n}": str(n) * 1_000_000 for n in range(8)})
    for n in range(7):
        cache.invalidate(f"k{n}")
    cache.set_many({f"small{n}": n for n in range(300)})
    cache.set("k7", 7)
    assert blocks(path) > 4 << 20
    return cache


def assert_is_whole(path: Path) -> None:
    cache = MetadataCache(path)
    assert (len(cache), cache.get("k7"), cache.get("k0")) == (301, 7, None)
    assert cache.get_stats()["size"] == 301
    # Transactions are counted from 1 again, and what is read is kept as before.
    for _ in range(3):
        assert cache.get("small5") == 5
    assert "small5" in cache._level.kept
    cache.set("k7", 8)
    for _ in range(3):
        assert cache.get("k7") == 8
    MetadataCache(path).set("k7", 9)
    assert cache.get("k7") == 9
    version = cache._backend.version("small1")
    assert cache.incr("small1") == 2
    assert cache._backend.version("small1") != version
    assert {name for name in os.listdir(path) if name != "open.lock"} == {"format-3"}


def test_what_free_pages_take_is_given_back_by_the_last_one_to_close(path, emptied):
    code = (
        "cache = MetadataCache(sys.argv[1])\ncache.get('k7')\nprint(flush=True)\nsys.stdin.read()"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", "import sys\nfrom sereno.cache import MetadataCache\n" + code]
    with subprocess.Popen(
        [*command, path], stdin=pipe, stdout=pipe, env=os.environ | {"PYTHONPATH": str(LIB)}
    ) as other:
        assert other.stdout.readline() == b"\n"
        emptied.close()
        assert blocks(path) > 4 << 20
    assert blocks(path) < 200_000
    assert_is_whole(path)
    session.session_for(str(path)).close()
    forge_boot(path)
    assert MetadataCache(path).get("k7") == 9


@pytest.mark.parametrize("dies_in", ["copyfd", "rename", "_open", "write"])
def test_a_process_killed_while_it_gives_pages_back_loses_nothing(
    path, emptied, dies_in, monkeypatch
):
    monkeypatch.setattr(store, "MOST_COPIED_BYTES", 0)
    emptied.close()
    monkeypatch.undo()
    pid = os.fork()
    if not pid:
        cache = MetadataCache(path)
        cache.set("k7", 7)
        env = cache._session.store.env

        class Dying:
            def __getattr__(self, name: str) -> object:
                return die if name == "copyfd" else getattr(env, name)

        def die(*_: object, **__: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        if dies_in == "copyfd":
            cache._session.store.env = Dying()
        elif dies_in == "_open":
            store.Store._open = die
        elif dies_in == "write":
            files.directory.write_mark = die
        else:
            setattr(os, dies_in, die)
        cache.close()
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert_is_whole(path)


def test_what_entries_hold_is_counted_as_before_when_pages_were_given_back(path, emptied):
    held_bytes = emptied.get_stats()["memory_bytes"]
    emptied.close()
    assert blocks(path) < 200_000
    assert emptied.get_stats()["memory_bytes"] == held_bytes < 10_000


def test_a_full_disk_keeps_the_file_as_it_is(path, emptied, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "rename", full)
    before = blocks(path)
    emptied.close()
    monkeypatch.undo()
    assert blocks(path) >= before - (1 << 20)
    assert_is_whole(path)


def test_a_cache_that_others_have_open_was_not_lost_in_a_reboot_whatever_the_boot_id_says(
    tmp_path, monkeypatch
):
    cache = MetadataCache(tmp_path)
    cache.set("a", 1)
    code = (
        f"import sys; sys.path.insert(0, {str(LIB)!r})\n"
        "from sereno.cache import MetadataCache, clock\nclock.boot_id = lambda: bytes(16)\n"
        f"print(MetadataCache({str(tmp_path)!r}).get('a'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert cache.get("a") == 1
