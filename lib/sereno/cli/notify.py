"""`sereno notify`: a test of the handlers; and what the units start to tell people."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys

from sereno.cli.arguments import add_scope, installation_of
from sereno.errors import InvalidConfig
from sereno.notify import config, service
from sereno.records.printable import printable


def add_notify(sub: argparse.ArgumentParser) -> None:
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("--test", action="store_true", help="send it, and report each handler")
    what.add_argument("--failures", action="store_true", help="used by sereno-failed.service")
    what.add_argument("--listen", action="store_true", help="used by sereno-notify.service")
    add_scope(sub)
    sub.set_defaults(command=_notify)


def _notify(arguments: argparse.Namespace) -> int:
    if arguments.test:
        return _test(arguments)
    # Its records go to the journal; by the command's own handler, on stderr, each would be there twice.
    logging.getLogger().handlers.clear()
    return service.run(os.environ, of_failures=arguments.failures)


def _test(arguments: argparse.Namespace) -> int:
    installation = installation_of(arguments)
    user = installation.scope.is_user
    path = config.path_of(user, os.environ)
    loaded = config.load(path)
    if not loaded.handlers:
        raise InvalidConfig(f"{path}: there is no [[handler]] in it")
    if os.stat(path).st_mode & 0o077:
        print(
            f"warning: {path}: it may hold secrets: chmod 600 {shlex.quote(path)}", file=sys.stderr
        )
    installation.manager.start(["sereno-notify.socket"])
    failures = 0
    for delivery in service.trial(loaded, user, os.environ):
        said = printable(f"{delivery.handler}: {delivery.error or 'delivered'}")
        print(said, flush=True)
        failures += delivery.error is not None
    return int(failures > 0)
