"""Whether this machine lets users make namespaces, which a user's manager builds a sandbox of."""

from __future__ import annotations

from pathlib import Path

# Setting of the kernel, and its value that refuses them: Debian's old patch, the number of them, Ubuntu from 24.04 on.
_REFUSALS = {
    "kernel/unprivileged_userns_clone": "0",
    "user/max_user_namespaces": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",
}


def namespaces_refused(settings: Path = Path("/proc/sys")) -> str | None:
    """The setting that refuses them, such as "user.max_user_namespaces=0"; None: they may be made."""
    for name, refusing in _REFUSALS.items():
        try:
            value = (settings / name).read_text("ascii").strip()
        except OSError:
            continue
        if value == refusing:
            return f"{name.replace('/', '.')}={value}"
    return None
