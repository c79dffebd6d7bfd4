"""Who may own and write a cache: the rules, and the modes of what is created under any umask."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sereno.cache import MetadataCache, place
from sereno.errors import CacheError

LIB = Path(__file__).parents[2] / "lib"
ROOT, ADA, BOB, EVE = 0, 1001, 1002, 1003
TEAM, OTHER_TEAM = 2001, 2002
DIRECTORY, FILE = stat.S_IFDIR, stat.S_IFREG


def status(kind: int, mode: int, uid: int, gid: int, links: int = 1) -> os.stat_result:
    return os.stat_result((kind | mode, 1, 1, links, uid, gid, 0, 0, 0, 0))


@pytest.fixture
def be(monkeypatch):
    """be(uid, *groups): this process is that user; the first group is its own."""

    def be(uid: int, *groups: int) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        monkeypatch.setattr(os, "getegid", lambda: groups[0])
        monkeypatch.setattr(os, "getgroups", lambda: list(groups))

    return be


@pytest.mark.parametrize(
    ("me", "mode", "uid", "gid"),
    [
        ((ADA, ADA), 0o700, ADA, ADA),
        # A umask of 002 and a group for each user.
        ((ADA, ADA), 0o775, ADA, ADA),
        # A container's volume, of root, with an access list or the group of the service.
        ((ADA, ADA), 0o755, ROOT, ROOT),
        ((ADA, TEAM), 0o770, ROOT, TEAM),
        ((ADA, ADA, TEAM), 0o2770, ROOT, TEAM),
        ((ADA, ADA, TEAM), 0o2770, BOB, TEAM),
        ((ADA, ADA, TEAM), 0o2775, BOB, TEAM),
        ((ROOT, ROOT), 0o700, ROOT, ROOT),
        ((ROOT, ROOT), 0o2770, ROOT, TEAM),
    ],
)
def test_a_directory_of_root_of_this_user_or_of_his_group_is_used(be, me, mode, uid, gid) -> None:
    be(*me)
    place.check_directory("/x", status(DIRECTORY, mode, uid, gid))


@pytest.mark.parametrize(
    ("me", "mode", "uid", "gid", "says", "way_out"),
    [
        ((ADA, ADA), 0o1777, ROOT, ROOT, "every user", "chmod o-w /x"),
        ((ADA, ADA), 0o700, EVE, EVE, "belongs to user 1003", "SERENO_CACHE_DIR"),
        ((ADA, ADA, TEAM), 0o770, BOB, TEAM, "belongs to user 1002", "chmod 2770"),
        ((ADA, ADA, TEAM), 0o2770, EVE, OTHER_TEAM, "belongs to user 1003", "run as user 1003"),
        ((ADA, ADA, TEAM), 0o770, ADA, TEAM, "group 2001 may write", "chmod 2770 /x"),
        ((ADA, ADA), 0o770, ROOT, TEAM, "group 2001 may write", "chmod g-w /x"),
        # As root, with the HOME of ada, he would make files there that ada may not open.
        ((ROOT, ROOT), 0o700, ADA, ADA, "belongs to user 1001", "run as user 1001"),
        ((ROOT, ROOT), 0o2770, ADA, TEAM, "belongs to user 1001", "chown root /x"),
    ],
)
def test_a_directory_that_strangers_own_or_write_is_refused_with_the_way_to_mend_it(
    be, me, mode, uid, gid, says, way_out, monkeypatch
) -> None:
    monkeypatch.setattr(os, "stat", lambda _: status(DIRECTORY, 0o755, ROOT, ROOT))
    be(*me)
    with pytest.raises(CacheError, match=says) as caught:
        place.check_directory("/x", status(DIRECTORY, mode, uid, gid))
    assert way_out in str(caught.value.hint)


def test_root_uses_a_members_directory_within_the_one_that_root_gave_to_the_group(
    be, monkeypatch
) -> None:
    monkeypatch.setattr(os, "stat", lambda _: status(DIRECTORY, 0o2770, ROOT, TEAM))
    be(ROOT, ROOT)
    place.check_directory("/x/y", status(DIRECTORY, 0o2770, ADA, TEAM))


PRIVATE = status(DIRECTORY, 0o700, ADA, ADA)
SHARED = status(DIRECTORY, 0o2770, ROOT, TEAM)


@pytest.mark.parametrize(
    ("directory", "found"),
    [
        (PRIVATE, status(FILE, 0o600, ADA, ADA)),
        (PRIVATE, status(FILE, 0o664, ADA, ADA)),
        (PRIVATE, status(FILE, 0o644, ROOT, ROOT)),
        (SHARED, status(FILE, 0o660, ADA, TEAM)),
        (SHARED, status(FILE, 0o660, BOB, TEAM)),
        (SHARED, status(DIRECTORY, 0o2770, BOB, TEAM)),
    ],
)
def test_files_of_those_who_share_the_directory_are_used(be, directory, found) -> None:
    be(ADA, ADA, TEAM)
    place.check_file("/c/x", found, directory, "/c")


@pytest.mark.parametrize(
    ("directory", "found", "says"),
    [
        (PRIVATE, status(FILE, 0o600, EVE, EVE), "belongs to user 1003"),
        (PRIVATE, status(FILE, 0o602, ADA, ADA), "strangers"),
        (PRIVATE, status(FILE, 0o660, ADA, TEAM), "strangers"),
        (SHARED, status(FILE, 0o664, ADA, TEAM), "strangers"),
        (SHARED, status(FILE, 0o660, ADA, ADA), "of the group 1001"),
        (SHARED, status(FILE, 0o660, ADA, TEAM, links=2), "one name"),
        (SHARED, status(stat.S_IFIFO, 0o660, ADA, TEAM), "not a plain file"),
        (SHARED, status(stat.S_IFLNK, 0o777, ADA, TEAM), "not a plain file"),
    ],
)
def test_files_that_are_no_files_or_that_strangers_own_or_write_are_refused(
    be, directory, found, says
) -> None:
    be(ADA, ADA, TEAM)
    with pytest.raises(CacheError, match=says) as caught:
        place.check_file("/c/x", found, directory, "/c")
    # What is in the directory can be swapped before it is changed: no advice names it.
    assert caught.value.hint == "rm -r /c: a cache can be filled again"


def test_a_link_is_followed_when_it_is_of_root_or_of_this_user(tmp_path, be) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    link, owner = str(tmp_path / "link"), (tmp_path / "link").lstat().st_uid
    assert place.resolved(link) == str(tmp_path / "real")
    if owner == ROOT:
        os.chown(link, EVE, EVE, follow_symlinks=False)
        assert place.resolved(link) == link
        with pytest.raises(CacheError, match="symbolic link"):
            MetadataCache(link).get("k")
        be(EVE, EVE)
        assert place.resolved(link) == str(tmp_path / "real")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("shared", [True, False])
def test_what_is_created_has_the_directorys_modes_under_any_umask(
    tmp_path, umask: int, shared: bool
) -> None:
    top = tmp_path / "cache"
    top.mkdir()
    top.chmod(0o2770 if shared else 0o700)
    code = """
import os, sys
from sereno.cache import MetadataCache, place
from sereno.cache.entry import Damaged
os.umask(int(sys.argv[2]))
cache = MetadataCache(sys.argv[1] + "/metadata")
cache.set("k", 1)
cache._session._recover(Damaged("test"))
cache.set("k", 1)
cache.close()
os.unlink(sys.argv[1] + "/metadata/format-3/lock.mdb")
assert cache.get("k") == 1
cache.close()
"""
    subprocess.run(
        [sys.executable, "-c", code, str(top), str(umask)],
        env={"PYTHONPATH": str(LIB)},
        check=True,
        timeout=60,
    )
    found = {stat.filemode(path.lstat().st_mode) for path in top.rglob("*")}
    assert found == ({"drwxrws---", "-rw-rw----"} if shared else {"drwx------", "-rw-------"})
    names = {path.name for path in (top / "metadata" / "format-3").iterdir()}
    assert names == {"board", "data.mdb", "lock.mdb", "reserve", "synced"}
    assert list((top / "metadata").glob("damaged-*"))


def test_an_advice_is_quoted_for_a_shell(be) -> None:
    be(ADA, ADA)
    path = "/a b/$HOME;x"
    for check in (
        lambda: place.check_directory(path, status(DIRECTORY, 0o1777, ROOT, ROOT)),
        lambda: place.check_directory(path, status(stat.S_IFLNK, 0o777, EVE, EVE)),
        lambda: place.check_file(f"{path}/y", status(FILE, 0o600, EVE, EVE), PRIVATE, path),
    ):
        with pytest.raises(CacheError) as caught:
            check()
        assert f"'{path}'" in str(caught.value.hint)
