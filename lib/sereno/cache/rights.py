"""Who may own and write a cache's directory and files. Checked at each opening; strangers' files are not touched.

LMDB trusts what it maps, so whoever can write a cache can crash or mislead every process that opens it. Trusted are
root, the user of this process and, in a shared directory (setgid, writable for its group), the members of that group.
Nobody can give a directory to a group that he is not in, so this process being a member is what tells the group's
directory from a stranger's. Root is a member of none: for root a shared directory is root's, or lies in one that is.

The group bits of a private directory count as the owner's where they are those of his own group, which is what a umask
of 002 and a group for each user make of them.
"""

from __future__ import annotations

import os
import stat

from sereno.errors import CacheError

ROOT = 0


def is_shared(found: os.stat_result) -> bool:
    """Is that the directory of a group, and what is created in it the group's?"""
    return bool(found.st_mode & stat.S_ISGID and found.st_mode & stat.S_IWGRP)


def modes(directory: os.stat_result) -> tuple[int, int]:
    """The modes of directories and files created in that directory."""
    return (0o2770, 0o660) if is_shared(directory) else (0o700, 0o600)


def resolved(path: str) -> str:
    """`path` without symbolic links; but a link that a stranger put there is not followed, and so refused later."""
    try:
        found = os.lstat(path)
    except OSError:
        return os.path.realpath(path)
    if stat.S_ISLNK(found.st_mode) and found.st_uid not in _trusted_users():
        return os.path.abspath(path)
    return os.path.realpath(path)


def check_directory(path: str, found: os.stat_result) -> None:
    """
    Raises:
        CacheError: the directory `path` is a stranger's, or strangers may write to it. The hint says what would help.
    """
    mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
    if stat.S_ISLNK(found.st_mode):
        why = f"a symbolic link of {user_name(found.st_uid)}, which is not followed"
        hint = f"rm {_quoted(path)}"
    elif found.st_mode & stat.S_IWOTH:
        why = f"every user of the machine may write to it ({mode})"
        hint = f"chmod o-w {_quoted(path)}"
    elif found.st_uid not in _trusted_users() and not (is_shared(found) and _is_ours(path, found)):
        owner = user_name(found.st_uid)
        why = f"it belongs to {owner}, and this process is {user_name(os.geteuid())}"
        hint = (
            f"run as {owner}, or set SERENO_CACHE_DIR to a directory of your own; where users"
            f" shall share it: chown root {_quoted(path)}, chgrp their common group, chmod 2770"
        )
    elif found.st_mode & stat.S_IWGRP and not is_shared(found) and found.st_gid != os.getegid():
        why = f"the group {group_name(found.st_gid)} may write to it, without sharing it ({mode})"
        hint = (
            f"chmod g-w {_quoted(path)}; or, to share it with the group: chmod 2770 {_quoted(path)}"
        )
    else:
        return
    raise CacheError(f"cache directory {path}: {why}", hint=hint)


def check_file(path: str, found: os.stat_result, owner: os.stat_result, directory: str) -> None:
    """
    Args:
        found: of `path`, not following links; a directory or a file.
        owner: of the cache's directory, which is called `directory`.

    Raises:
        CacheError: it is neither a plain file with one name nor a directory; it is a stranger's; strangers may write to
            it or, in a shared directory, read it. The hint names the cache's directory alone: whoever may write there
            can put something else in the place of all that is in it, before somebody does what he is advised to.
    """
    why = None
    others = stat.S_IWOTH
    if not (stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)):
        # These could make a process write where somebody else wants it to.
        why = "not a plain file with one name"
    elif is_shared(owner):
        others |= stat.S_IROTH
        if found.st_gid != owner.st_gid:
            why = f"of the group {group_name(found.st_gid)}, and the directory is of {group_name(owner.st_gid)}"
    elif found.st_uid not in _trusted_users():
        why = f"it belongs to {user_name(found.st_uid)}, and the directory to {user_name(owner.st_uid)}"
    elif found.st_gid != os.getegid():
        others |= stat.S_IWGRP
    if why is None and found.st_mode & others:
        why = f"strangers have rights on it (mode {stat.S_IMODE(found.st_mode):04o})"
    if why is not None:
        raise CacheError(f"cache file {path}: {why}", hint=way_out(directory))


def way_out(directory: str) -> str:
    """What helps against whatever is in a cache's directory."""
    return f"rm -r {_quoted(directory)}: a cache can be filled again"


def _quoted(path: str) -> str:
    # With regular expressions, which only a refusal pays for.
    from shlex import quote

    return quote(path)


def _trusted_users() -> tuple[int, int]:
    return ROOT, os.geteuid()


def _is_ours(path: str, found: os.stat_result) -> bool:
    if os.geteuid() != ROOT:
        return found.st_gid == os.getegid() or found.st_gid in os.getgroups()
    above = os.stat(os.path.dirname(path))
    return above.st_uid == ROOT and is_shared(above) and above.st_gid == found.st_gid


def user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
