"""Every error that sereno raises on purpose, with the exit status it means; and the exit statuses of runs.

The tree::

    SerenoError                      1
    ├── UsageError                   2   wrong argument; also a ValueError
    │   ├── InvalidJob                   id, function or limit of a job
    │   ├── InvalidTrigger               cron text, interval, time zone
    │   └── InvalidConfig                notify.toml
    ├── NoSuchJob                    3   also a LookupError
    ├── NotAllowed                   4   rights are missing; also a PermissionError
    ├── NotAvailable                 5   systemd, python-systemd or sereno's own units are missing
    │   └── MissingPackage               a package that sereno needs; also an ImportError
    ├── Conflict                     6   a file or a job id belongs to somebody else
    ├── SystemdError                 1   systemctl refused or failed
    │   └── NoAnswer                     systemd did not answer in time
    ├── CacheError                   1   the cache cannot be opened or written; also an OSError
    │   ├── CacheFormatError             the cache file is of another version
    │   └── CacheUnavailable             a cache's server does not answer: whether it did what was asked is not known
    ├── FleetError                   1   the store of a fleet's claims cannot be asked
    └── JobFailed                    1   a run that was waited for did not succeed

`RunInterrupted` is apart: SIGTERM raises it in the plain function of a run. It is no `Exception`, as KeyboardInterrupt
is none, so that an `except Exception` of the job does not take the end of its run for one more failed request.

The statuses from 2 to 6 follow the LSB's for init scripts where it has one (2 arguments, 4 privileges,
5 not installed, 6 not configured), which systemctl(1) uses as well. Only `sereno.cli` and `sereno.runner` print
these errors and turn them into a process's status.
"""

from __future__ import annotations

import os

# Exit statuses of a run: what its process tells systemd, and what is read from `ExecMainStatus` again.
SUCCESS, FAILURE, WRONG_USE = 0, 1, 2
# The template's SuccessExitStatus= names these two, so that they are no failure for systemd either. 77: left out on
# purpose; automake's status of a skipped test. 143: stopped by the administrator or by a shutdown; 128 + SIGTERM, as a
# shell shows it.
SKIPPED, INTERRUPTED = 77, 143
# What the error of a run says that its limit ended: of the field, which has no language of the log's.
OVER_LIMIT = "over its time limit"


class SerenoError(Exception):
    """Base of all: `str()` names the field, the value and what would be right; `hint` is the way out."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class UsageError(SerenoError, ValueError):
    """An argument that cannot be right."""

    exit_code = 2


class InvalidJob(UsageError):
    """A job's id, function or limit that systemd or another process could not hold."""


class InvalidTrigger(UsageError):
    """A schedule that has no exact meaning as a systemd timer."""


class InvalidConfig(UsageError):
    """A file of settings with a key or value that cannot be right; the message has file, key, value and what is."""


class NoSuchJob(SerenoError, LookupError):
    """No installed or registered job has that id, no run the id that was given, no entry of the cache the key."""

    exit_code = 3


class NotAllowed(SerenoError, PermissionError):
    """The caller lacks the rights; the hint says which, or how to do without."""

    exit_code = 4


class NotAvailable(SerenoError):
    """Something that must be installed or running is not."""

    exit_code = 5


class MissingPackage(NotAvailable, ImportError):
    """The interpreter has not all of lib/requirements.txt."""


class Conflict(SerenoError):
    """A unit file or a job id is somebody else's; nothing was changed."""

    exit_code = 6


class SystemdError(SerenoError):
    """systemctl failed; the message has its words."""


class NoAnswer(SystemdError):
    """systemd did not answer in time. What was asked of it may have been done or not."""


class CacheError(SerenoError, OSError):
    """The cache directory or file cannot be used; the message has the path."""


class CacheFormatError(CacheError):
    """A cache written by a version of sereno with another file format."""


class CacheUnavailable(CacheError):
    """The server of a cache of many hosts does not answer. What was asked of it may have been done or not."""


class FleetError(SerenoError):
    """The place where the hosts of a fleet claim their runs cannot be asked, or refuses; the message has its words."""


class JobFailed(SerenoError):
    """A run that was waited for ended without success."""


class RunInterrupted(BaseException):
    """The run was asked to end (SIGTERM). Clean up in `finally`; to catch it without raising it again gains ten seconds
    and no more."""

    def __init__(self) -> None:
        super().__init__("SIGTERM")


def in_scope(words: str, *, user: bool) -> str:
    """A command as messages name it: what begins with sereno, systemctl, journalctl or ./install.sh, for its scope."""
    if not user:
        return words
    program, _, rest = words.partition(" ")
    before = program in ("systemctl", "journalctl")
    return f"{program} --user {rest}".rstrip() if before else f"{words} --user"


def did_you_mean(word: str, known: list[str]) -> str | None:
    """A hint that names what was probably meant by a word that is not known; None: nothing is near it."""
    from difflib import get_close_matches

    is_long = len(word) > 2
    near = (
        [one for one in known if is_long and one.startswith(word)]
        or get_close_matches(word, known, n=1, cutoff=0.7)
        or [one for one in known if is_long and (word in one or one in word)]
    )
    return f"did you mean {near[0]!r}?" if near else None


def rights_hint(*, user: bool) -> str:
    """The way out for a caller who lacks rights in a scope."""
    if user:
        return "it must belong to you: see `id` and `ls -ld`"
    if os.geteuid() == 0:
        return (
            "root itself is refused: by a read-only mount, an immutable file (lsattr) or a sandbox"
        )
    return "run as root, or use the user scope: --user, get_scheduler(scope='user')"
