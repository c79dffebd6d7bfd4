"""From a release that is complete to one that runs: the only part of an installation that changes what runs."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from sereno.errors import SerenoError, SystemdError
from sereno.install.changes import Changes, ask, cause
from sereno.install.checks import OUR_ACCOUNTS, entry, is_our_account
from sereno.install.manifest import Manifest, Wanted, complete, refuse_foreign, wanted
from sereno.install.places import Order
from sereno.install.releases import prune, sweep
from sereno.manager import names
from sereno.units.durable import link_of


def prepare(order: Order) -> None:
    """Before anything is staged: refuse what is foreign, announce a first one, remove what killed calls left."""
    places = order.places
    old, new, done = _read(order)
    refuse_foreign(old, new, places)
    changes = Changes(dry_run=order.dry_run)
    if not order.dry_run and old.is_first and link_of(f"{places.home}/current") is None:
        # Data of an earlier installation stay also if this one fails.
        kept = [places.cache, places.state]
        keep = any(map(os.path.exists, map(places.at, kept))) or is_our_account(places, "sereno")
        order.answer("undo", "no" if keep else "yes")
    changes.make_directory(places.home)
    if old.is_first and old != done:
        _announce(order, changes, old, done)
    sweep(order, changes)


def _read(order: Order) -> tuple[Manifest, Wanted, Manifest]:
    """The manifest that is there, what is wanted, and the manifest when it is done."""
    old = Manifest.read(order.places.at(order.places.manifest))
    new = wanted(order.places, order.code, order.release)
    return old, new, complete(old, new, order.places, order.release)


def _announce(order: Order, changes: Changes, old: Manifest, done: Manifest) -> None:
    state = "installing" if old.is_first else "upgrading"
    both = Manifest(state, done.release, old.lines | done.lines)
    changes.write({order.places.at(order.places.manifest): both.text()})


def verify(order: Order) -> None:
    """Raise SystemdError unless systemd reads every unit as it will be and finds nothing to say."""
    with tempfile.TemporaryDirectory(dir=order.answers) as place:
        new = wanted(order.places, order.code, order.release, named=str(order.code))
        for path, text in new.files.items():
            if os.path.dirname(path) == order.places.units:
                Path(place, os.path.basename(path)).write_text(text, "utf-8")
        done = ask(*_command(order.code), "render", "--to", place)
        if done.returncode:
            raise SerenoError(f"the shipped jobs' units could not be made: {cause(done)}")
        units = ["sereno-notify.socket", "sereno-notify.service", names.TELLER]
        for timer in Path(place).glob(names.timer_name("?*")):
            service = Path(place, names.service_name(names.job_of(timer.name) or ""))
            service.symlink_to(names.TEMPLATE)
            units += [service.name, timer.name]
        done = ask(
            *("systemd-analyze", "verify", "--man=no", "--recursive-errors=no"),
            *(f"{place}/{unit}" for unit in units),
            env={**os.environ, "SYSTEMD_UNIT_PATH": f"{place}:"},
        )
        if said := (done.stdout + done.stderr).strip():
            raise SystemdError("systemd does not accept the units; nothing was changed", hint=said)
        if done.returncode:
            raise SystemdError(f"systemd-analyze verify: it ended with status {done.returncode}")


def _command(code: Path) -> list[str]:
    return [f"{code}/venv/bin/python3", "-I", f"{code}/bin/sereno"]


def commit(order: Order) -> bool:
    """Switch to the release; return whether anything was changed."""
    places = order.places
    changes = Changes(dry_run=order.dry_run)
    old, new, done = _read(order)
    release = f"releases/{order.release}"
    if link_of(f"{places.home}/current") not in (None, release):
        # `prune` goes by their times: what comes into use again is not an old one.
        changes.touch(f"{places.home}/{release}/MANIFEST")
    if old != done:
        _announce(order, changes, old, done)
    for path in new.directories:
        changes.make_directory(places.at(path))
    if not places.is_user:
        _open_homes(places.at(places.units), changes)
    other = changes.write({places.at(path): text for path, text in new.files.items()})
    if not places.is_user:
        _make_accounts_and_cache(order, changes)
    for path, target in new.links.items():
        changes.link(places.at(path), target)
    gone = [path for _, path in old.entries("file") if path not in new.files]
    for path in gone:
        if old.has(places, "file", path):
            changes.remove(places.at(path))
    # Whatever a killed call did or did not get to tell systemd is told again.
    again = old != done and old.state in ("installing", "upgrading")
    if again or any(path.endswith(".catalog") for path in other):
        update_catalog(order)
    units = [path for path in other if os.path.dirname(path) == places.at(places.units)]
    _enable_timers(order, changes, reload=bool(again or units or gone), first=old.is_first)
    changes.write({places.at(places.manifest): done.text()})
    if not order.dry_run:
        (order.answers / "undo").unlink(missing_ok=True)
    prune(order, changes)
    return changes.made


def _make_accounts_and_cache(order: Order, changes: Changes) -> None:
    """In an image that is staged without root they are made by the image's own systemd; the report says so."""
    if os.geteuid():
        return
    root = order.places.root
    entries = [("group", "sereno"), *(("passwd", name) for name in OUR_ACCOUNTS)]
    if not all(entry(root, database, name) for database, name in entries):
        changes.run("systemd-sysusers", f"--root={root or '/'}", "sereno.conf")
    cache = Path(order.places.at(order.places.cache), "metadata")
    if not cache.exists() or cache.stat().st_mode & 0o7777 != 0o2770:
        changes.run("systemd-tmpfiles", f"--root={root or '/'}", "--create", "sereno.conf")


def _open_homes(units: str, changes: Changes) -> None:
    """To jobs with home= that 0.1.0 wrote: what closes homes was another line then."""
    from sereno.units.service_text import OPEN_HOMES
    from sereno.units.unit_text import is_as_written, signed

    for path in Path(units).glob(names.drop_in_name("*")):
        text = old = path.read_text("utf-8", "surrogateescape")
        if OPEN_HOMES[1] not in text.splitlines():
            for line in ("\nProtectHome=no\n", "\nProtectHome=read-only\n"):
                text = text.replace(line, "\n".join((line[:-1], *OPEN_HOMES, "")))
            if is_as_written(old):
                text = signed(text.rpartition("Digest=")[0])
            changes.write({str(path): text})


def update_catalog(order: Order) -> None:
    """For `journalctl -x`. Another's malformed file makes it fail, and is no reason for us to."""
    if order.places.is_user or order.manager == "staged":
        return
    words = ["journalctl", "--update-catalog"]
    if order.dry_run:
        print(f"would run: {' '.join(words)}")
        return
    done = ask(*words)
    if done.returncode:
        print(
            "journalctl --update-catalog failed, so that journalctl -x may not explain what it should:",
            (done.stdout + done.stderr).strip(),
            sep="\n",
        )


def _enable_timers(order: Order, changes: Changes, *, reload: bool, first: bool) -> None:
    """Stopping or disabling sereno.target is the administrator's switch: an upgrade leaves it as it is."""
    places = order.places
    if link_of(places.at(places.switch)) == f"{places.former_units}/{names.TARGET}":
        changes.link(places.at(places.switch), f"{places.units}/{names.TARGET}")
    # Before the reload, so that the manager knows of it: its timers.target stays loaded.
    if first and not target_is(order, "enabled"):
        changes.run(*order.systemctl, "--no-reload", "enable", names.TARGET)
    if order.running and reload:
        changes.run(*order.systemctl, "daemon-reload")
    if first and order.start and order.running and not target_is(order, "active"):
        changes.run(*order.systemctl, "start", names.TARGET)
    words = ["apply", "--prune", "--no-diff", order.scope_option]
    words += [*order.offline, *([] if order.start else ["--no-start"])]
    code = order.code
    if order.dry_run:
        # The checkout, which is read now, has no environment: the command is the installed one.
        code = Path(f"{places.home}/releases/{order.release}")
        if not os.path.exists(code / "MANIFEST"):
            print(f"would run: {places.command} {' '.join(words)}")
            return
        words.append("--dry-run")
    done = ask(*_command(code), *words)
    if done.returncode:
        raise SerenoError(f"the timers could not be made: {cause(done)}")
    print(end=done.stderr, file=sys.stderr)
    if done.stdout != "nothing to do\n":
        for line in done.stdout.splitlines():
            print("would " * order.dry_run + line)
        changes.made = True


def target_is(order: Order, state: str) -> bool:
    """Whether sereno.target is "enabled" or "active"."""
    return not ask(*order.systemctl, f"is-{state}", "--quiet", names.TARGET).returncode
