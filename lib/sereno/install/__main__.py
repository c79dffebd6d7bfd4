"""What install.sh calls: `python3 -I -B …/install/__main__.py ACTION NAME=VALUE…`; answers are files in a directory."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sereno.errors import SerenoError
from sereno.install import checks, places, releases
from sereno.install.commit import commit, prepare, verify
from sereno.install.ending import report
from sereno.install.places import Order
from sereno.install.removal import remove


def _check(order: Order) -> None:
    checks.check_paths(order.places)
    checks.check_owners(order.places)
    if not order.uninstall:
        checks.check_systemd()
        if not order.dry_run:
            checks.check_mounts(order.places)
        if not order.places.is_user:
            checks.check_accounts(order.places.root if order.manager == "staged" else None)
    else:
        # What was installed knows best what it left, where it is as it was.
        current = f"{order.places.home}/current"
        knows = os.path.isdir(f"{current}/lib/sereno/install") and releases.is_whole(current)
        order.answer("code", current if knows else str(order.code))
    order.answer("prefix", order.places.prefix)


def _prepare(order: Order) -> None:
    files = list(releases.shipped(order.code, order.places.scope.name))
    release, environment = releases.choose(order, files)
    order.answer("shipped", *files, end="\0")
    home = order.places.home
    order.answer("chosen", f"{release} {home}/environments/{environment}")
    prepare(replace(order, release=release))
    if order.dry_run:
        for path in (f"{home}/environments/{environment}", f"{home}/releases/{release}"):
            if not os.path.exists(f"{path}/MANIFEST"):
                print(f"would stage {path}")


def _verify(order: Order) -> None:
    verify(order)
    releases.seal(order, str(order.code))


ACTIONS = {
    "check": _check,
    "prepare": _prepare,
    "pip-settings": lambda order: order.answer("settings", *releases.pip_settings(order)),
    "seal-environment": lambda order: releases.seal(order, order.environment),
    "verify": _verify,
    "commit": lambda order: report(order, commit(order) or order.changed),
    "remove": remove,
}


def main(action: str, words: list[str]) -> int:
    """Do one of install.sh's actions; 0: done, 1: it was said why not, 130: interrupted."""
    told = dict(word.partition("=")[::2] for word in words)
    try:
        order = places.order(told, Path(__file__).resolve().parents[3], os.geteuid(), os.environ)
        ACTIONS[action](order)
        sys.stdout.flush()
    except (SerenoError, OSError) as error:
        sys.stdout.flush()
        message, hint = str(error), "Mend the cause, then run install.sh again."
        if isinstance(error, SerenoError):
            message, hint = error.message, error.hint or hint
        print(f"install.sh: {message}", file=sys.stderr)
        for line in hint.splitlines():
            print(f"  {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
