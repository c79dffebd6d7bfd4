"""`install.sh --uninstall`, and what is undone of a first installation that did not succeed."""

from __future__ import annotations

import glob
import os
import shlex
import sys
from pathlib import Path

from sereno.errors import SerenoError
from sereno.install.changes import Changes, ask
from sereno.install.checks import OUR_ACCOUNTS, entry, is_our_account
from sereno.install.commit import update_catalog
from sereno.install.ending import tell
from sereno.install.manifest import Manifest
from sereno.install.places import JOB, Order
from sereno.manager import names
from sereno.setting_names import TEXTFILE_DIR

# Of every kind of unit that sereno ever had.
UNITS = (
    *(names.ALL_JOBS, names.ALL_APPS, "sereno.*"),
    *("sereno-seed.*", "sereno-start*", "sereno-failed*", "sereno-notify.*"),
)


def remove(order: Order) -> None:
    """Remove exactly what was installed, whatever of it is there.

    Raises:
        SerenoError: something could not be removed; the rest was. The next call finishes it.
    """
    places = order.places
    changes = Changes(dry_run=order.dry_run, goes_on=True)
    old = Manifest.read(places.at(places.manifest))
    kept: list[str] = []
    metrics = None
    if not old.lines:
        print(f"Nothing is installed in {places.home}: there is no {places.manifest}.")
        # The very last step of an uninstall that was killed, or the first ones of an install.
        changes.sweep([places.home])
        changes.remove_empty(places.home)
    else:
        metrics = _metrics_directory(order) if order.purge and order.running else None
        _stop_and_remove_timers(order, changes)
        kept = _remove_files(order, changes, old)
        update_catalog(order)
        if order.running:
            changes.run(*order.systemctl, "daemon-reload")
            changes.run(*order.systemctl, "reset-failed", *UNITS)
            if not places.is_user:
                changes.remove_empty("/run/sereno")
    if order.purge:
        _remove_data(order, changes, metrics)
    else:
        _say_what_stays(order)
    if old.lines:
        _remove_directories(order, changes, old)
    if kept:
        print("Kept, because it was changed since it was installed:", *kept)
    if yours := _of_the_administrator(order):
        print("Kept, because it is yours:", *yours)
    if changes.failed:
        raise SerenoError(
            f"only partly uninstalled; this failed: {'; '.join(changes.failed)}",
            hint="Mend the cause, then run install.sh --uninstall again.",
        )
    tell(changes.made)


def _metrics_directory(order: Order) -> str | None:
    """Where the cleanup writes metrics: a directory that the administrator chose."""
    done = ask(*order.systemctl, "show", "-P", "Environment", names.service_name(JOB))
    settings = dict(word.partition("=")[::2] for word in shlex.split(done.stdout))
    return settings.get(TEXTFILE_DIR)


def _stop_and_remove_timers(order: Order, changes: Changes) -> None:
    places = order.places
    command = [sys.executable, "-I", "-B", f"{order.code}/bin/sereno"]
    changes.run(*command, "remove", "--all", order.scope_option, *order.offline)
    if order.running:
        changes.run(*order.systemctl, "stop", *UNITS)
    if os.path.exists(places.at(f"{places.units}/{names.TARGET}")):
        changes.run(*order.systemctl, "--no-reload", "disable", names.TARGET)
    # Links and drop-ins whose timer was gone already, so that nobody but their names says whose they are.
    generated = places.at(places.generated)
    for pattern in (
        f"timers.target.wants/{names.TARGET}",
        f"sereno*.target.wants/{names.ALL_APPS}",
        f"sereno-*@*.wants/{names.ALL_TIMERS}",
    ):
        for path in filter(os.path.islink, glob.glob(f"{generated}/{pattern}")):
            changes.remove(path)
    for path in glob.glob(f"{generated}/{names.drop_in_name('*')}"):
        if "[X-Sereno]" in Path(path).read_text("utf-8", "replace").splitlines():
            changes.remove(path)
    for path in glob.glob(f"{generated}/sereno*[sd]"):
        changes.remove_empty(path)


def _remove_files(order: Order, changes: Changes, old: Manifest) -> list[str]:
    """Remove what lies outside the prefix, and the releases; return the files that somebody has changed."""
    places = order.places
    kept = []
    paths = [path for kind in ("file", "link") for _, path in old.entries(kind)]
    changes.sweep(places.at(os.path.dirname(path)) for path in paths)
    for kind in ("file", "link"):
        for path in dict.fromkeys(path for _, path in old.entries(kind)):
            if old.has(places, kind, path):
                changes.remove(places.at(path))
            elif kind == "file" and os.path.lexists(places.at(path)):
                kept.append(places.at(path))
    for name in ("releases", "environments"):
        changes.remove_tree(f"{places.home}/{name}")
    return kept


def _say_what_stays(order: Order) -> None:
    places = order.places
    stays = [
        f"{words} in {places.at(path)}"
        for words, path in (("the cache", places.cache), ("the messages' state", places.state))
        if os.path.lexists(places.at(path))
    ]
    if is_our_account(places, "sereno"):
        stays.append("the users and groups sereno and sereno-notify")
    if stays:
        print(f"Kept: {', '.join(stays)} (--uninstall --purge removes them)")


def _remove_data(order: Order, changes: Changes, metrics: str | None) -> None:
    places = order.places
    changes.remove_tree(places.at(places.cache))
    for path in glob.glob(places.at(f"{places.scope.stamps}/{names.stamp_name('*')}")):
        changes.remove(path)
    changes.remove_tree(places.at(places.state))
    if metrics:
        for path in glob.glob(f"{glob.escape(metrics)}/sereno_cache_*.prom"):
            changes.remove(path)
    image = ["--prefix", places.root] if places.root else []
    for name in OUR_ACCOUNTS:
        if is_our_account(places, name):
            changes.run("userdel", *image, name)
            # userdel takes the group of the same name along, unless it has members.
            if entry(places.root, "group", name):
                changes.run("groupdel", *image, name)


def _remove_directories(order: Order, changes: Changes, old: Manifest) -> None:
    """The manifest goes when all that it lists is gone: an uninstall that was killed or failed can be finished."""
    places = order.places
    for _, path in sorted(old.entries("dir"), reverse=True):
        if path == places.prefix and not changes.failed:
            changes.remove(places.at(places.manifest))
            changes.sweep([places.at(path)])
        changes.remove_empty(places.at(path))


def _of_the_administrator(order: Order) -> list[str]:
    places = order.places
    generated = places.at(places.generated)
    found = glob.glob(f"{generated}/sereno*") + glob.glob(f"{generated}.control/sereno*")
    yours = [path for path in found if not os.path.isdir(path) or os.path.islink(path)]
    for top in [places.at(places.config), *found]:
        for directory, below, files in os.walk(top):
            links = [name for name in below if os.path.islink(f"{directory}/{name}")]
            yours += [f"{directory}/{name}" for name in (*files, *links)]
    return yours
