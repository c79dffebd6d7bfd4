"""The machine's cache between users: two of its group share it, a third may nothing, a fourth plants things."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from machine import Machine

CACHE = "/var/cache/sereno"
PRELUDE = """
import os, sys, time
from sereno import MetadataCache
def until(question):
    give_up = time.monotonic() + 30
    while not question():
        assert time.monotonic() < give_up
        time.sleep(0.005)
cache = MetadataCache(*sys.argv[1:])
"""


@pytest.fixture(scope="module", autouse=True)
def _users(machine: Machine) -> None:
    for name, options in (
        ("web", ["--groups=sereno"]),
        ("etl", ["--groups=sereno"]),
        ("eve", []),
        ("mallory", []),
    ):
        machine.run("useradd", "--create-home", *options, name)


def python(
    machine: Machine, user: str | None, code: str, *arguments: str, umask: str = "022"
) -> CompletedProcess[str]:
    return machine.run(
        *("sh", "-c", f'umask {umask}; exec "$@"', "sh"),
        *("/opt/sereno/current/venv/bin/python", "-c", PRELUDE + code, *arguments),
        user=user,
        env={"PYTHONPATH": "/opt/sereno/lib"},
        check=False,
    )


def works(done: CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def modes(machine: Machine) -> set[str]:
    words = ("find", CACHE, "-printf", "%y %m %g\n")
    return set(machine.run(*words).stdout.splitlines())


def test_what_one_member_sets_the_other_reads_and_what_he_invalidates_is_gone_at_once(
    machine: Machine,
) -> None:
    keeps = "cache.set('k', 'of web'); cache.get('k'); cache.set('ready', 1)\n"
    sees = "until(lambda: cache.get('k') is None); print('gone')"
    invalidates = (
        "until(lambda: cache.get('ready')); print(cache.get('k')); cache.invalidate('k')\n"
        "cache.set('from', 'etl')"
    )
    with ThreadPoolExecutor(2) as pool:
        web = pool.submit(python, machine, "web", keeps + sees)
        etl = pool.submit(python, machine, "etl", invalidates, umask="077")
        assert works(etl.result()) == "of web\n"
        assert works(web.result()) == "gone\n"
    assert works(python(machine, "web", "print(cache.get('from'), cache.path)")) == (
        f"etl {CACHE}/metadata\n"
    )
    # And a third one, in the sandbox, where the members look like nobody.
    machine.run("sereno", "run", "--wait", "cache_cleanup_hourly")
    assert works(python(machine, None, "print(cache.get('from'))")) == "etl\n"


def test_whoever_is_not_in_the_group_can_neither_read_nor_write_nor_open_it(
    machine: Machine,
) -> None:
    python(machine, "web", "cache.set('secret', 'sésame')")
    done = python(machine, "eve", "cache.get('secret')", f"{CACHE}/metadata")
    assert done.returncode == 1
    assert "permission are needed" in done.stderr
    assert "usermod -aG sereno eve" in done.stderr
    # Nor is the machine's cleanup shown to her with a cache of her own.
    machine.run("usermod", "-aG", "systemd-journal", "eve")
    history = ("sereno", "history", "cache_cleanup_hourly", "--system", "--json")
    shown = [json.loads(machine.run(*history, user=user).stdout)["now"] for user in ("eve", None)]
    assert [now is None for now in shown] == [True, False]
    # Left to choose, eve has her own.
    own = works(python(machine, "eve", "print(cache.get('secret'), cache.path)"))
    assert own == "None /home/eve/.cache/sereno/metadata\n"
    for path in ("", "/metadata", "/metadata/format-3/data.mdb", "/metadata/open.lock"):
        for test in ("-r", "-w", "-x"):
            done = machine.run("test", test, CACHE + path, user="eve", check=False)
            assert done.returncode == 1, (test, path)


def test_everything_in_it_is_the_groups_and_nobody_elses(machine: Machine) -> None:
    code = """
from sereno.cache.entry import Damaged
cache.set("k", 1)
cache._session._recover(Damaged("test"))
cache.set("k", 2)
cache.close()
os.unlink(cache.path + "/format-3/lock.mdb")
assert cache.get("k") == 2
MetadataCache(name="other").set("k", 1)
"""
    for user, umask in (("web", "077"), ("etl", "022"), ("web", "002"), (None, "022")):
        works(python(machine, user, code, umask=umask))
        assert modes(machine) == {"d 2770 sereno", "f 660 sereno"}
        works(python(machine, "etl", "assert cache.get('k') == 2"))
        works(python(machine, "etl", "assert MetadataCache(name='other').get('k') == 1"))
    names = set(machine.run("find", CACHE, "-printf", "%f\n").stdout.split())
    assert {"open.lock", "synced", "board", "lock.mdb", "data.mdb"} <= names
    assert any(name.startswith("damaged-") for name in names)
    machine.run("sereno", "run", "--wait", "cache_cleanup_hourly")
    machine.run("/src/install.sh", "--wheels", "/wheels", timeout=180)
    assert modes(machine) == {"d 2770 sereno", "f 660 sereno"}


PLACE = "/var/tmp/planted"


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        ("mkdir {place}", "it belongs to mallory, and this process is web"),
        ("mkdir {place}; chmod 777 {place}", "every user of the machine may write to it"),
        ("ln -s /home/web/real {place}", "a symbolic link of mallory, which is not followed"),
        ("ln -s /nowhere {place}", "a symbolic link of mallory, which is not followed"),
        ("mkfifo {place}", "mallory"),
        ("echo x >{place}", "mallory"),
    ],
)
def test_what_a_stranger_plants_in_a_caches_place_is_refused(
    machine: Machine, plant: str, says: str
) -> None:
    machine.run("rm", "-rf", PLACE, "/home/web/real")
    machine.run("mkdir", "/home/web/real", user="web")
    machine.run("sh", "-c", plant.format(place=PLACE), user="mallory")
    for user in ("web", None):
        done = python(machine, user, "cache.set('k', 1)", PLACE)
        assert done.returncode == 1
        assert says.replace("is web", f"is {user or 'root'}") in done.stderr, done.stderr
        assert "hint: " in done.stderr
    assert machine.run("ls", "-A", "/home/web/real").stdout == ""
    assert machine.run("find", PLACE, "-newer", "/home/web/real", "-name", "?*.*").stdout == ""


@pytest.mark.parametrize("name", ["open.lock", "format-3/board", "format-3/data.mdb", "format-3"])
@pytest.mark.parametrize("kind", ["ln -s", "ln", "mkfifo"])
def test_links_and_special_files_within_the_shared_cache_are_refused_and_not_followed(
    machine: Machine, name: str, kind: str
) -> None:
    path, victim = f"{CACHE}/victims/{name}", "/home/etl/victim"
    machine.run("rm", "-rf", f"{CACHE}/victims")
    works(python(machine, "etl", "cache.set('k', 1); cache.close()", f"{CACHE}/victims"))
    machine.run("sh", "-c", f"rm -rf {victim}; cp -r {path} {victim}", user="etl")
    before = machine.run("sh", "-c", f"find {victim} -type f | xargs sha256sum").stdout
    if kind == "ln" and name == "format-3":
        kind = "ln -s"
    source = "" if kind == "mkfifo" else victim
    machine.run("sh", "-c", f"rm -rf {path}; {kind} {source} {path}", user="etl")
    done = python(machine, "web", "cache.set('k', 2)", f"{CACHE}/victims")
    assert done.returncode == 1
    assert f"{path}: not a " in done.stderr
    assert machine.run("sh", "-c", f"find {victim} -type f | xargs sha256sum").stdout == before


def test_a_users_own_cache_is_not_opened_by_root_who_would_leave_files_of_his_there(
    machine: Machine,
) -> None:
    own = "/home/eve/.cache/sereno/metadata"
    works(python(machine, "eve", "cache.set('k', 1)", own))
    done = python(machine, None, "cache.get('k')", own)
    assert done.returncode == 1
    assert "it belongs to eve, and this process is root" in done.stderr
    assert "run as eve" in done.stderr
    assert works(python(machine, "eve", "print(cache.get('k'))", own)) == "1\n"


def test_a_service_that_does_not_see_the_boots_id_is_told_so_and_empties_nothing(
    machine: Machine,
) -> None:
    works(python(machine, "web", "cache.set('k', 'kept')"))
    done = machine.run(
        *("systemd-run", "--pipe", "--wait", "--quiet", "--property=ProcSubset=pid"),
        *("--property=User=web", "--setenv=PYTHONPATH=/opt/sereno/lib"),
        *("/opt/sereno/current/venv/bin/python", "-c", PRELUDE + "print(cache.get('k'))"),
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "under ProcSubset=pid a service does not see it: set ProcSubset=all" in done.stderr
    assert works(python(machine, "etl", "print(cache.get('k'))")) == "kept\n"
