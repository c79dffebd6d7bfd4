"""What makes an installation impossible or unsafe, told before anything is made."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
from collections.abc import Iterator

from sereno.errors import NotAvailable, SerenoError, UsageError
from sereno.install.changes import ask
from sereno.install.places import Places

LEAST_SYSTEMD = 252
OUR_ACCOUNTS = {"sereno": "Periodic jobs of sereno", "sereno-notify": "Messages of sereno"}


def check_paths(places: Places) -> None:
    """Units, scripts and the manifest name these paths; outside this set each would need another way of quoting."""
    prefix = places.prefix
    for path in (prefix, places.at(prefix), places.units, places.generated, places.command):
        if not re.fullmatch(r"[A-Za-z0-9._/+-]*", path):
            rule = "has a character other than A-Z a-z 0-9 . _ / + -"
        elif not path.startswith("/") or path.endswith("/"):
            rule = "is not absolute, or ends with a slash"
        elif path != os.path.normpath(path) or path.startswith("//"):
            rule = "is not in its plain form"
        else:
            continue
        raise UsageError(f"this path {rule}: {path}")
    if len(prefix) > 120:
        raise UsageError(
            f"--prefix: longer than 120 characters: {prefix}",
            hint="The kernel reads no more than 255 of a script's first line.",
        )


def check_systemd() -> None:
    names = ["systemctl", "systemd-analyze", "systemd-sysusers", "systemd-tmpfiles"]
    missing = [name for name in names if not shutil.which(name)]
    if missing:
        raise NotAvailable(
            f"commands are missing: {' '.join(missing)}", hint="They are in systemd."
        )
    version = re.match(r"systemd (\d+)", ask("systemctl", "--version").stdout)
    if not version or int(version[1]) < LEAST_SYSTEMD:
        here = version[1] if version else "an unknown one"
        raise NotAvailable(
            f"systemd {LEAST_SYSTEMD} or newer is needed; here is {here}",
            hint="It comes with Debian 12, Ubuntu 23.04 and Fedora 37.",
        )


def check_owners(places: Places) -> None:
    """Whoever can write to the prefix, or rename what is above it (or above its target), decides what runs."""
    # A user's own group is often that user alone.
    others = stat.S_IWOTH if places.is_user else stat.S_IWOTH | stat.S_IWGRP
    prefix = places.at(places.prefix)
    for path, above in _of_concern(places.root, prefix):
        try:
            status = os.lstat(path)
        except OSError:
            continue
        writable = not stat.S_ISLNK(status.st_mode) and status.st_mode & others
        if above and status.st_mode & stat.S_ISVTX:
            writable = 0
        if status.st_uid not in (0, os.getuid()) or writable:
            owner = f"{_name(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):o}"
            raise SerenoError(
                f"another user could change what runs here: {path} is {owner}",
                hint="Choose another --prefix; or, when all in it is as it should be:"
                f" chown -h {_name(os.getuid())} {path}; chmod go-w {path}",
            )


def _of_concern(root: str, prefix: str) -> Iterator[tuple[str, bool]]:
    """(path, whether it is above or the prefix itself)."""
    for path in (prefix, os.path.realpath(prefix)):
        while path not in (root, "", "/"):
            yield path, True
            path = os.path.dirname(path)
    yield f"{prefix}/", False
    for directory, names, files in os.walk(prefix):
        for name in (*names, *files):
            yield f"{directory}/{name}", False


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def check_mounts(places: Places) -> None:
    place, command = "/", os.path.dirname(places.command)
    for path in (places.units, places.generated, command, places.share, places.prefix):
        place = places.at(path)
        while not os.path.exists(place):
            place = os.path.dirname(place)
        if not os.access(place, os.W_OK):
            mount = place
            while not os.path.ismount(mount):
                mount = os.path.dirname(mount)
            raise SerenoError(
                f"{place} cannot be written: its file system is read-only, or it is another's",
                hint=f"For a file system: mount -o remount,rw {mount}",
            )
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        raise SerenoError(
            f"{place} is on a file system that is mounted noexec: no job could run from there",
            hint="Choose another --prefix.",
        )


def check_accounts(root: str | None) -> None:
    """systemd-sysusers takes an account that is there for its own: jobs would run as that person."""
    for name in OUR_ACCOUNTS:
        number, shell = _account(name, root)
        if number == 0 or (number >= 1000 and os.path.basename(shell) not in ("nologin", "false")):
            raise SerenoError(
                f"the account {name} (uid {number}) is a person's: jobs would run as that person",
                hint=f"Rename it (usermod --login NEW {name}; groupmod --new-name NEW {name}),"
                " or: ./install.sh --user",
            )


def _account(name: str, root: str | None) -> tuple[int, str]:
    """(uid, shell) of an account of this machine, or of the image in `root`; uid -1: there is none."""
    if root is None:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            return -1, ""
        return found.pw_uid, found.pw_shell
    fields = entry(root, "passwd", name)
    return (int(fields[2]), fields[6]) if len(fields) > 6 else (-1, "")


def entry(root: str, database: str, name: str) -> list[str]:
    """The fields of `name` in passwd or group, as the file has them; [] when it has none."""
    try:
        with open(f"{root}/etc/{database}", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                if line.startswith(f"{name}:"):
                    return line.rstrip("\n").split(":")
    except OSError:
        pass
    return []


def is_our_account(places: Places, name: str) -> bool:
    """An account that was there before us is not ours to remove; systemd-sysusers gave ours this name."""
    fields = entry(places.root, "passwd", name)
    return not places.is_user and len(fields) > 4 and fields[4] == OUR_ACCOUNTS[name]
