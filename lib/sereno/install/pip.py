"""Which of pip's settings an installation goes by."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path

from sereno.errors import SerenoError
from sereno.install.changes import ask, cause

# Where packages are, and how to get there. `user` or `target` would put them elsewhere.
_SETTINGS = re.compile(
    r"^(global|install|:env:)\.(index-url|extra-index-url|no-index|find-links|proxy|cert|client-cert|trusted-host"
    r"|timeout|default-timeout|retries)=(.*)$",
    re.MULTILINE,
)
_NO_OTHERS = {"PIP_QUIET": "0", "PIP_USER": "0", "PIP_GLOBAL": "0", "PIP_SITE": "0"}


def settings(pip: Path) -> list[str]:
    """`NAME=VALUE` for pip's environment, of pip.conf and of PIP_*; the later one holds.

    Args:
        pip: the directory in which pip was unpacked.
    """
    # These would choose what is listed; pip.conf may have them for other commands.
    environment = {**os.environ, **_NO_OTHERS}
    environment.pop("PIP_PYTHON", None)
    words = [sys.executable, "-I", f"{pip}/pip", "config", "list"]
    done = ask(*words, env=environment)
    if done.returncode:
        raise SerenoError(
            f"pip's settings cannot be read: {cause(done).removeprefix('ERROR: ')}",
            hint="See: python3 -m pip config debug",
        )
    found = sorted(
        _SETTINGS.findall(done.stdout),
        key=lambda setting: ("global", "install", ":env:").index(setting[0]),
    )
    return [
        f"PIP_{name.upper().replace('-', '_')}={' '.join(ast.literal_eval(value).split())}"
        for _, name, value in found
    ]
