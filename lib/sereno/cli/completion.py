"""`sereno completion`: the script that makes a shell complete the command.

The scripts are shipped: a test makes them from the parser and says when they are no longer what it would make.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SHELLS = ("bash", "zsh", "fish")


def add_completion(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("shell", choices=SHELLS)
    sub.set_defaults(command=_completion)


def _completion(arguments: argparse.Namespace) -> None:
    script = Path(__file__).with_name("shells") / f"sereno.{arguments.shell}"
    print(script.read_text("utf-8"), end="")
