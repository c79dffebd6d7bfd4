"""What install.sh does in Python: places, the manifest, changes, releases, pip's settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sereno.errors import Conflict, SerenoError, UsageError
from sereno.install import checks, commit, manifest, places, releases
from sereno.install.changes import Changes
from sereno.install.manifest import Manifest
from sereno.observe.doctor.files import settings_in
from sereno.units.service_text import OPEN_HOMES
from sereno.units.unit_text import is_as_written, signed

CODE = Path(places.__file__).resolve().parents[3]
HOME = {"HOME": "/home/ada"}


def order(root: Path | str = "", **told: str) -> places.Order:
    words = {"root": str(root), "manager": "staged", "tmp": str(root), "start": "yes", **told}
    return places.order(words, CODE, 0, HOME)


def test_a_user_has_everything_below_the_xdg_directories_and_relative_ones_are_ignored() -> None:
    found = places.choose(
        user=True, root="", prefix="", euid=1, environ={**HOME, "XDG_CACHE_HOME": "/c", "XDG_DATA_HOME": "d"}
    )  # fmt: skip
    assert found.prefix == "/home/ada/.local/share/sereno"
    assert found.units == "/home/ada/.local/share/systemd/user"
    assert (found.generated, found.config) == (
        "/home/ada/.config/systemd/user",
        "/home/ada/.config/sereno",
    )
    assert found.cache == "/c/sereno"


def test_a_manifest_is_read_as_it_was_written_and_none_is_an_empty_one(tmp_path: Path) -> None:
    written = Manifest("installed", "1-a", frozenset({"dir - /opt", "file ab /etc/x", "link b /c"}))
    (tmp_path / "manifest").write_text(written.text())
    assert written.text().startswith("sereno installed 1-a\ndir - /opt\n")
    assert Manifest.read(str(tmp_path / "manifest")) == written
    assert Manifest.read(str(tmp_path / "none")) == Manifest()
    assert list(written.entries("link")) == [("b", "/c")]


def test_the_template_that_switches_the_jobs_is_written_last() -> None:
    new = manifest.wanted(order().places, CODE, "1-a")
    assert list(new.files)[-1] == "/etc/systemd/system/sereno@.service"
    assert "ExecStart=/opt/sereno/releases/1-a/bin/%i" in new.files[list(new.files)[-1]]
    assert all("@RELEASE@" not in text for text in new.files.values())


@pytest.mark.parametrize("scope", ["system", "user"])
def test_the_template_is_installed_with_all_its_settings_and_one_comment(scope: str) -> None:
    shipped = (CODE / "systemd" / scope / "sereno@.service").read_text().replace("@RELEASE@", "/r")
    where = places.choose(user=scope == "user", root="", prefix="", euid=1, environ=HOME)
    text = manifest.wanted(where, CODE, "1-a", "/r").files[f"{where.units}/sereno@.service"]
    assert settings_in(text) == settings_in(shipped)
    head, _, rest = text.partition("[Unit]\n")
    assert shipped.startswith(f"{head}\n[Unit]\n")
    assert f"/r/systemd/{scope}/sereno@.service" in head
    assert "#" not in rest
    assert "\n\n" not in rest


def test_what_is_ours_by_the_old_manifest_or_as_it_shall_be_is_not_foreign(tmp_path: Path) -> None:
    where = order(tmp_path).places
    new = manifest.wanted(where, CODE, "1-a")
    path = "/etc/systemd/system/sereno.target"
    there = tmp_path / path[1:]
    there.parent.mkdir(parents=True)
    there.write_text(new.files[path])
    manifest.refuse_foreign(Manifest(), new, where)
    there.write_text("older\n")
    with pytest.raises(Conflict, match=r"in the way.*/sereno\.target\n"):
        manifest.refuse_foreign(Manifest(), new, where)
    ours = Manifest("installed", "0", frozenset({f"file {manifest.hash_of(str(there))} {path}"}))
    manifest.refuse_foreign(ours, new, where)
    (tmp_path / "opt/sereno").mkdir(parents=True)
    (tmp_path / "opt/sereno/bin").symlink_to("elsewhere")
    with pytest.raises(Conflict, match=r"/opt/sereno/bin\n"):
        manifest.refuse_foreign(ours, new, where)


def test_a_dry_run_says_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = Changes(dry_run=True)
    (tmp_path / "there").touch()
    changes.write({f"{tmp_path}/a": "1", f"{tmp_path}/b": "2"})
    changes.link(f"{tmp_path}/c", "a")
    changes.remove(f"{tmp_path}/there")
    changes.run("false")
    assert changes.made
    assert os.listdir(tmp_path) == ["there"]
    said = capsys.readouterr().out
    assert said.count("would ") == 4
    assert f"would write: {tmp_path}/a {tmp_path}/b\n" in said


def test_a_change_that_fails_ends_an_installation_and_is_remembered_by_a_removal(
    tmp_path: Path,
) -> None:
    (tmp_path / "full/x").mkdir(parents=True)
    with pytest.raises(SerenoError, match=r"this failed: remove .*/full: Is a directory"):
        Changes(dry_run=False).remove(f"{tmp_path}/full")
    changes = Changes(dry_run=False, goes_on=True)
    changes.remove(f"{tmp_path}/full")
    changes.run("sh", "-c", "echo first >&2; echo why >&2; exit 3")
    changes.remove_tree(f"{tmp_path}/full")
    assert [failure.rpartition(": ")[2] for failure in changes.failed] == ["Is a directory", "why"]
    assert not (tmp_path / "full").exists()


def test_what_is_as_it_shall_be_is_not_touched_and_what_a_kill_left_goes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / ".sereno-new-0").write_text("half")
    changes = Changes(dry_run=False)
    assert changes.write({f"{tmp_path}/a": "1"}) == []
    assert not changes.made
    assert changes.write({f"{tmp_path}/a": "1", f"{tmp_path}/b": "2"}) == [f"{tmp_path}/b"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_an_upgrade_leaves_homes_open_to_the_jobs_that_have_them(tmp_path: Path) -> None:
    """Which the drop-ins of 0.1.0 say with one line."""
    owner, guest = (tmp_path / f"sereno@{name}.service.d/50-sereno.conf" for name in ("o", "g"))
    for path, home in ((owner, "no"), (guest, "read-only")):
        path.parent.mkdir()
        path.write_text(signed(f"[Service]\nProtectHome={home}\nNice=5\n"))
    # As an administrator left it.
    guest.write_text(guest.read_text().replace("Nice=5", "Nice=6"))
    for time in range(2):
        changes = Changes(dry_run=False)
        commit._open_homes(str(tmp_path), changes)
        assert changes.made == (time == 0)
    for path, home in ((owner, "no"), (guest, "read-only")):
        lines = ["[Service]", f"ProtectHome={home}", *OPEN_HOMES]
        assert path.read_text().splitlines()[: len(lines)] == lines
    assert [is_as_written(path.read_text()) for path in (owner, guest)] == [True, False]


def test_the_name_of_a_release_says_what_is_in_it(tmp_path: Path) -> None:
    where = order(tmp_path, python_version="3.11")
    files = list(releases.shipped(CODE, "system"))
    assert "bin/sereno" in files and "systemd/system/sereno.target" in files
    assert not [name for name in files if "systemd/user" in name or "__pycache__" in name]
    first = releases.choose(where, files)
    assert first == releases.choose(where, files)
    other_code = releases.choose(where, files[1:])
    assert other_code[0] != first[0]
    assert other_code[1] == first[1]
    assert releases.choose(order(tmp_path, python_version="3.13"), files)[1] != first[1]
    home = tmp_path / "opt/sereno/releases" / first[0]
    home.mkdir(parents=True)
    (home / "code").write_text("")
    assert not releases.is_whole(str(home))
    releases.seal(where, str(home))
    assert releases.is_whole(str(home))
    assert releases.choose(where, files) == first
    (home / "code").write_text("changed")
    assert releases.choose(where, files)[0] == f"{first[0]}.2"


def test_an_environment_stays_as_long_as_a_release_that_uses_it(tmp_path: Path) -> None:
    for n, name in enumerate(("oldest", "older", "now")):
        for kind in ("releases", "environments"):
            home = tmp_path / "opt/sereno" / kind / (name if kind == "releases" else f"e{n}")
            home.mkdir(parents=True)
            (home / "MANIFEST").touch()
            os.utime(home / "MANIFEST", (n, n))
        (tmp_path / "opt/sereno/releases" / name / "venv").symlink_to(f"../../environments/e{n}")
    releases.prune(order(tmp_path, release="now"), Changes(dry_run=False))
    assert {path.name for path in tmp_path.glob("opt/sereno/*/*")} == {"older", "now", "e1", "e2"}


@pytest.mark.parametrize("said", [
    "global.index-url='http://a'\n:env:.index-url='http://b'\ninstall.index-url='http://c'\n",
    "install.user='yes'\nglobal.target='/x'\n:env:.index-url='http://b'\n",
])  # fmt: skip
def test_of_pips_settings_the_later_one_holds_and_no_others(tmp_path: Path, said: str) -> None:
    (tmp_path / "pip/pip").mkdir(parents=True)
    (tmp_path / "pip/pip/__main__.py").write_text(f"print({said!r})")
    assert releases.pip_settings(order(tmp_path))[-1] == "PIP_INDEX_URL=http://b"
    assert {line.partition("=")[0] for line in releases.pip_settings(order(tmp_path))} == {
        "PIP_INDEX_URL"
    }


def test_a_setting_of_several_lines_is_one_of_words(tmp_path: Path) -> None:
    (tmp_path / "pip/pip").mkdir(parents=True)
    said = "global.trusted-host='\\na.example\\nb.example'\n"
    (tmp_path / "pip/pip/__main__.py").write_text(f"print({said!r})".replace("\\\\n", "\\\\n"))
    assert releases.pip_settings(order(tmp_path)) == ["PIP_TRUSTED_HOST=a.example b.example"]


@pytest.mark.parametrize("prefix", ["/a b", "/a/../b", "a", "/a/", "//a", "/a//b", "/" + "x" * 120])
def test_a_path_that_units_could_not_name_plainly_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError):
        checks.check_paths(order(prefix=prefix).places)
