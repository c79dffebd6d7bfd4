"""`sereno completion`: the script that makes a shell complete the command."""

from __future__ import annotations

import argparse

from sereno.cli.arguments import Commands

SHELLS = ("bash", "zsh", "fish")


def add_to(commands: Commands) -> None:
    def completion(arguments: argparse.Namespace) -> None:
        from sereno.cli.completion import script

        print(script(commands.parser, arguments.shell), end="")

    sub = commands.add("completion", completion, "print the completion script of a shell")
    sub.add_argument("shell", choices=SHELLS)
