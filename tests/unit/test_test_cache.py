"""What tests/run keeps for later runs, and for how long."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

from shipped import REPOSITORY


def in_the_script(text: str, cache: Path) -> None:
    """Run `text` with the functions of tests/run."""
    functions = (REPOSITORY / "tests/run").read_text("utf-8").rpartition("\nmain ")[0]
    script = f"{functions}\ncache=$0\n{text}"
    subprocess.run(["sh", "-c", script, str(cache)], check=True, stdin=subprocess.DEVNULL)


def test_what_no_run_has_used_for_days_is_removed_but_for_what_one_holds(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("venv-old", "installed-held", "image-new"):
        (cache / name / "lib").mkdir(parents=True)
    (cache / "wheels").symlink_to("image-new")
    for name in ("venv-old", "installed-held"):
        os.utime(cache / name, (0, 0))
    os.utime(cache / "wheels", (0, 0), follow_symlinks=False)
    held = os.open(cache / "installed-held", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    in_the_script("remove_unused", cache)
    os.close(held)
    assert {one.name for one in cache.iterdir()} == {"installed-held", "image-new", "wheels"}
    in_the_script("remove_unused", cache)
    assert not (cache / "installed-held").exists()


def test_a_run_holds_what_it_has_made_or_found_made_and_makes_it_young(tmp_path: Path) -> None:
    make = "make venv a mkdir_of; make wheels b mkdir_of"
    in_the_script(f"mkdir_of() {{ mkdir $1/lib; }}; {make}", tmp_path)
    for name in ("venv-a", "wheels-b"):
        os.utime(tmp_path / name, (0, 0))
    # A second one finds them, and they are as old as can be while it goes on.
    in_the_script(
        f'{make}; find "$cache" -mindepth 1 -mtime +1 | {{ ! grep .; }}; touch --date=@0 "$cache"/*-*; remove_unused',
        tmp_path,
    )
    assert sorted(one.name for one in tmp_path.iterdir()) == ["venv-a", "wheels-b"]
    in_the_script("remove_unused", tmp_path)
    assert list(tmp_path.iterdir()) == []
