"""The completion scripts: current, and asked as each shell asks them.

`SERENO_TEST_GOLDEN=write` makes them anew; read the diff before you commit it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import completion_scripts
from sereno import cli
from sereno.cli import completion
from sereno.cli.completion import SHELLS

COMMAND = Path(cli.__file__).parents[3] / "bin/sereno"
UNIT_FILES = (
    "sereno@sync_prices.timer enabled -\nsereno@.timer static -\nsereno@sync.old.timer disabled -\n"
)
ASK = {
    "bash": 'source {script}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _shtab_sereno sereno'
    ' "${{COMP_WORDS[COMP_CWORD]}}"; printf "%s\\n" "${{COMPREPLY[@]}}"',
    "fish": "source {script}; complete --do-complete '{words}'",
    # zsh completes only in a terminal; its function is called with the builtin that takes the words put aside.
    "zsh": "compdef() {{ }}; compadd() {{ print -l $ids }}; _arguments() {{ }}; source {script} >/dev/null;"
    " _sereno_job_ids",
}  # fmt: skip


def ask(tmp_path: Path, shell: str, words: str) -> list[str]:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} (package {shell})")
    systemctl = tmp_path / "bin/systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f"#!/bin/sh\n[ $1 = --user ] || printf '{UNIT_FILES}'\n")
    systemctl.chmod(0o755)
    script = tmp_path / "script"
    printed = subprocess.run(
        [sys.executable, COMMAND, "completion", shell], capture_output=True, text=True, check=True
    )
    script.write_text(printed.stdout)
    code = ASK[shell].format(script=script, words=words)
    done = subprocess.run(
        [shell, *(("-f",) if shell == "zsh" else ()), "-c", code],
        env={"PATH": f"{systemctl.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shipped_script_is_what_the_command_is_now(
    shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # argparse breaks its texts where the terminal ends.
    monkeypatch.setenv("COLUMNS", "80")
    shipped = Path(completion.__file__).with_name("shells") / f"sereno.{shell}"
    expected = completion_scripts.script(cli._parser(), shell)
    if os.environ.get("SERENO_TEST_GOLDEN") == "write":
        shipped.write_text(expected)
    assert shipped.read_text() == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_job_ids_are_completed(tmp_path: Path, shell: str) -> None:
    assert {"sync_prices", "sync.old"} <= set(ask(tmp_path, shell, "sereno run sy"))


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_commands_and_options_are_completed(tmp_path: Path, shell: str) -> None:
    assert "doctor" in ask(tmp_path, shell, "sereno do")
    shutil.rmtree(tmp_path / "bin")
    assert "--jobs" in ask(tmp_path, shell, "sereno apply --j")
