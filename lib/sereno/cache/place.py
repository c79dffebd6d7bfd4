"""Where a cache lives on disk, who may own and write it, and the rights of what is created there.

The directory decides who shares the cache. One that is setgid and writable for its group (mode 2770, as tmpfiles.d
lays it for the machine's shared cache) makes every file 0660 and every directory 2770, whatever the caller's umask:
left to the umask, the first process to come would create files that the others cannot write. Any other directory is
private: 0600 and 0700.

LMDB trusts what it maps, so whoever can write a cache can crash or mislead every process that opens it. Owners and
rights are checked at each opening, and strangers' files not touched. Trusted are
root, the user of this process and, in a shared directory (setgid, writable for its group), the members of that group.
Nobody can give a directory to a group that he is not in, so this process being a member is what tells the group's
directory from a stranger's. Root is a member of none: for root a shared directory is root's, or lies in one that is.

The group bits of a private directory count as the owner's where they are those of his own group, which is what a umask
of 002 and a group for each user make of them.
"""

from __future__ import annotations

import errno
import os
import stat

from sereno.context_manager import contextmanager
from sereno.errors import CacheError, UsageError
from sereno.setting_names import CACHE_URL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = 0
MACHINE_DIRECTORY = "/var/cache/sereno"
GROUP = "sereno"
SETTING = "SERENO_CACHE_DIR"
URL_CREDENTIAL = "sereno_cache_url"

_ELSEWHERE = f"set {SETTING} to a directory on a local disk"
_HINTS = {
    errno.EROFS: "it is mounted read-only, perhaps for this service alone (ProtectSystem=): a job lists it in"
    f" write_paths=, a unit in ReadWritePaths=; or {_ELSEWHERE}",
    errno.ENOMEM: "it needs 16 GiB of address space, not of memory: lift `ulimit -v`, LimitAS= of the unit",
    errno.EMFILE: "this process has all the files open that it may: raise `ulimit -n`, LimitNOFILE= of the unit",
    errno.ENFILE: "the machine has all the files open that it may: raise the sysctl fs.file-max",
    errno.EFBIG: "files of this process may not be that large: lift `ulimit -f`, LimitFSIZE= of the unit",
    errno.ENOSPC: f"free some of the file system, see `df -h` and `df -i`; or {_ELSEWHERE}",
    errno.EDQUOT: f"this user's quota is used up, see `quota`; or {_ELSEWHERE}",
    errno.ENODEV: f"its file system lets no file be mapped; {_ELSEWHERE}",
    errno.EOPNOTSUPP: f"its file system does not do what a cache needs; {_ELSEWHERE}",
    errno.ENOLCK: f"its file system locks no files; {_ELSEWHERE}",
}

# Neither flock(2) nor the coherence of shared mappings, on which LMDB and the board rest, holds between the
# clients of these. FUSE file systems that serve a local disk are not listed.
# fmt: off
NETWORK_FILESYSTEMS = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.glusterfs",
    "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "virtiofs",
    # Of a machine's host, or of buckets: the same, and some of them cannot even map a file.
    "fuse.gcsfuse", "fuse.goofys", "fuse.juicefs", "fuse.mount-s3", "fuse.rclone", "fuse.vmhgfs-fuse", "prl_fs",
    "vboxsf", "vmhgfs",
))
# fmt: on


def default_path(name: str) -> str:
    """The directory of the cache called `name` when the caller names none.

    `SERENO_CACHE_DIR`; else the machine's shared directory, where it exists and the caller may use it; else the
    user's own (XDG Base Directory Specification: a relative `XDG_CACHE_HOME` is ignored).
    """
    chosen = os.environ.get(SETTING)
    if chosen:
        return os.path.join(os.path.abspath(os.path.expanduser(chosen)), name)
    if os.path.isdir(MACHINE_DIRECTORY) and os.access(
        MACHINE_DIRECTORY, os.R_OK | os.W_OK | os.X_OK
    ):
        return os.path.join(MACHINE_DIRECTORY, name)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "sereno", name)


def server_url() -> str | None:
    """The URL of the server that has the cache of many hosts; None: the cache is this machine's.

    Raises:
        UsageError: there is a credential for it that cannot be read.
    """
    url = os.environ.get(CACHE_URL)
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if url or not credentials:
        return url or None
    path = os.path.join(credentials, URL_CREDENTIAL)
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip() or None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or 'no UTF-8 text'}") from None


def join_hint(group: str = GROUP) -> str:
    """How this process comes to share a cache with a group."""
    user = user_name(os.geteuid())
    if is_member(user, group):
        return f"{user} is in the group {group}, but this process is older than that: restart it or log in again"
    return f"join the group {group} (usermod -aG {group} {user}), then restart the service or log in again"


def _group_of(path: str) -> str | None:
    """The group that shares a directory, or where it cannot be looked at the one that it is in."""
    if path.startswith(MACHINE_DIRECTORY + os.sep):
        return GROUP
    while path != os.sep:
        try:
            found = os.stat(path)
        except OSError:
            path = os.path.dirname(path)
        else:
            return group_name(found.st_gid) if is_shared(found) else None
    return None


@contextmanager
def refusals(path: str) -> Iterator[None]:
    """Raises what is `refused` in the place of an OSError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, CacheError):
            raise
        raise refused(path, error) from error


def hint_for(number: int | None) -> str | None:
    return _HINTS.get(number or 0)


def refused(path: str, error: OSError) -> CacheError:
    """`error` as the CacheError that an administrator can act on; it keeps errno and path."""
    where = error.filename if isinstance(error.filename, str) else path
    missing, hint = "", hint_for(error.errno)
    if isinstance(error, PermissionError):
        missing = "read, write and search permission are needed: "
        hint = f"set {SETTING} to a directory that this user may read and write"
        group = _group_of(os.path.abspath(path))
        if group is not None:
            hint = f"{join_hint(group)}; or {hint}"
    result = CacheError(
        f"cache directory {path}: {missing}{error.strerror or error} ({where})", hint=hint
    )
    result.errno, result.filename = error.errno, where
    return result


def filesystem_type(path: str, device: int, mountinfo: str | None = None) -> str:
    """The type of the file system that holds `path`, after proc_pid_mountinfo(5); "" when it cannot be told.

    The device number finds it, but btrfs subvolumes and overlays show another one there than stat(2) does: then the
    longest mount point above `path` does.
    """
    if mountinfo is None:
        try:
            with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
                mountinfo = file.read()
        except OSError:
            return ""
    wanted = f" {os.major(device)}:{os.minor(device)} "
    real = os.path.realpath(path) + "/"
    longest, kind = -1, ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if wanted in before:
            return after.split(" ", 1)[0]
        point = before.split(" ")[4].replace("\\040", " ").rstrip("/") + "/"
        if real.startswith(point) and len(point) > longest:
            longest, kind = len(point), after.split(" ", 1)[0]
    return kind


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
        if found.st_uid != os.geteuid():  # a volume of Kubernetes, for instance
            hint += (
                f"; or use a directory of your own in it: {_quoted(os.path.join(path, 'metadata'))}"
            )
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
        if stat.S_ISREG(found.st_mode):
            why += f", but with {found.st_nlink}: a copy by hard links (cp -l, some backups) writes to both"
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


def _quoted(path: str) -> str:
    from shlex import quote

    return quote(path)


def is_member(user: str, group: str) -> bool:
    """Does the machine count that user to the group, whatever this process may do?"""
    import grp

    try:
        return user in grp.getgrnam(group).gr_mem
    except KeyError:
        return False
