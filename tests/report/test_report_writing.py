"""Where a report may be written: not where somebody else leads it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sereno.errors import NotAllowed, SerenoError, UsageError
from sereno.observe.report.writing import write

OTHER = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")


def left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_new_file_has_the_rights_of_the_umask_and_an_old_one_is_replaced(home: Path) -> None:
    write(str(home / "r"), "one")
    write(str(home / "r"), "two\udc80")
    assert (home / "r").read_bytes() == b"two\\udc80"
    assert stat.S_IMODE((home / "r").stat().st_mode) == 0o666 & ~_umask()
    assert left(home) == ["r"]


def test_a_path_may_be_relative_and_lead_over_links_and_parents_of_ones_own(
    home: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "link").symlink_to("home")
    monkeypatch.chdir(tmp_path)
    for path in ("home/a", "./home//b", "link/c", "home/../home/d"):
        write(path, path)
    assert left(home) == ["a", "b", "c", "d"]


@needs_root
@pytest.mark.parametrize("where", ["link", "directory", "file", "link above", "pipe"])
def test_what_somebody_else_owns_on_the_way_is_refused_with_the_way_out(
    home: Path, tmp_path: Path, where: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    path = shared / "r"
    if where == "link":
        path.symlink_to(victim)
    elif where == "pipe":
        os.mkfifo(path)
    elif where == "file":
        path.write_text("his")
    elif where == "link above":
        (shared / "d").symlink_to(tmp_path)
        os.lchown(shared / "d", OTHER, OTHER)
        path = shared / "d/victim"
    else:
        (shared / "d").mkdir()
        os.chown(shared / "d", OTHER, OTHER)
        path = shared / "d/r"
    if path.parent == shared:
        os.lchown(path, OTHER, OTHER)
    with pytest.raises(NotAllowed, match="somebody else") as caught:
        write(str(path), "report")
    assert "-o -" in str(caught.value.hint)
    assert victim.read_text() == "mine"
    assert not [name for name in left(shared) if name.startswith(".")]


@pytest.mark.parametrize("mode", [0o777, 0o2777])
def test_a_directory_that_all_may_write_is_refused_but_one_where_each_moves_his_own_is_not(
    home: Path, mode: int
) -> None:
    home.chmod(mode)
    with pytest.raises(NotAllowed):
        write(str(home / "r"), "x")
    assert left(home) == []
    home.chmod(mode | stat.S_ISVTX)
    write(str(home / "r"), "x")
    assert left(home) == ["r"]


def test_a_link_to_a_file_is_refused_and_the_file_stays(home: Path) -> None:
    (home / "file").write_text("old")
    (home / "link").symlink_to("file")
    with pytest.raises(UsageError, match="a link to a file"):
        write(str(home / "link"), "x")
    assert (home / "file").read_text() == "old"


def test_a_pipe_of_ones_own_and_standard_output_get_it(home: Path) -> None:
    os.mkfifo(home / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((home / "pipe").read_bytes()))
    reader.start()
    write(str(home / "pipe"), "through")
    reader.join(10)
    assert got == [b"through"]
    code = "from sereno.observe.report.writing import write; write('/dev/stdout', 'page')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=_environment()
    )
    assert done.stdout == b"page"


@pytest.mark.parametrize("path", ["", "/", "none/r", "r/", "file/r"])
def test_what_is_no_path_of_a_file_is_refused(home: Path, path: str, monkeypatch) -> None:
    monkeypatch.chdir(home)
    Path("file").touch()
    with pytest.raises(SerenoError, match="-o: "):
        write(path, "x")
    assert left(home) == ["file"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(__file__).parents[2] / "lib")}
