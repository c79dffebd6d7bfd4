"""A part of a test in a process of its own, also in one without rights: root may do what no service's user may."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ID = 65534


def in_a_child(action: Callable[[], bool]) -> bool:
    """What `action` returns in a child, which leaves nothing behind in this process."""
    if not (child := os.fork()):
        status = 2
        try:
            status = 0 if action() else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def as_nobody(action: Callable[[], bool]) -> bool:
    """The same as the user nobody; of a caller that is not root, as that caller."""

    def without_rights() -> bool:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(ID)
            os.setuid(ID)
        return action()

    return in_a_child(without_rights)
