"""Where a cache lives on disk, and the rights of what is created there.

The directory decides who shares the cache. One that is setgid and writable for its group (mode 2770, as tmpfiles.d
lays it for the machine's shared cache) makes every file 0660 and every directory 2770, whatever the caller's umask:
left to the umask, the first process to come would create files that the others cannot write. Any other directory is
private: 0600 and 0700.
"""

from __future__ import annotations

import os

from sereno.cache import rights
from sereno.cache.files import Directory, make_directory
from sereno.context_manager import contextmanager
from sereno.errors import CacheError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINE_DIRECTORY = "/var/cache/sereno"

# Neither flock(2) nor the coherence of shared mappings, on which LMDB and the board rest, holds between the
# clients of these. FUSE file systems that serve a local disk are not listed.
# fmt: off
NETWORK_FILESYSTEMS = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.glusterfs",
    "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "virtiofs",
))
# fmt: on


def default_path(name: str) -> str:
    """The directory of the cache called `name` when the caller names none.

    `SERENO_CACHE_DIR`; else the machine's shared directory, where it exists and the caller may use it; else the
    user's own (XDG Base Directory Specification: a relative `XDG_CACHE_HOME` is ignored).
    """
    chosen = os.environ.get("SERENO_CACHE_DIR")
    if chosen:
        return os.path.join(os.path.abspath(chosen), name)
    if os.path.isdir(MACHINE_DIRECTORY) and os.access(
        MACHINE_DIRECTORY, os.R_OK | os.W_OK | os.X_OK
    ):
        return os.path.join(MACHINE_DIRECTORY, name)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "sereno", name)


def prepare(path: str) -> None:
    """Creates what is missing of `path`.

    Raises:
        CacheError: the directory cannot be created or used, is not safe from strangers (`sereno.cache.rights`), or is
            on a network file system. The hint says what would help.
    """
    with refusals(path):
        _create(path)
        with Directory(path) as made:
            if not os.access(".", os.R_OK | os.W_OK | os.X_OK, dir_fd=made.fd):
                raise PermissionError(13, os.strerror(13), path)
            kind = filesystem_type(path, made.found.st_dev)
    if kind in NETWORK_FILESYSTEMS:
        raise CacheError(
            f"cache directory {path}: on a network file system ({kind}), where locks and shared memory do not hold",
            hint="set SERENO_CACHE_DIR to a directory on a local disk",
        )


@contextmanager
def refusals(path: str) -> Iterator[None]:
    """Raises what is `refused` in the place of an OSError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, CacheError):
            raise
        raise refused(path, error) from error


def refused(path: str, error: OSError) -> CacheError:
    """`error` as the CacheError that an administrator can act on; it keeps errno and path."""
    where = error.filename if isinstance(error.filename, str) else path
    missing, hint = "", None
    if isinstance(error, PermissionError):
        missing = "read, write and search permission are needed: "
        hint = "set SERENO_CACHE_DIR to a directory that this user may read and write"
        if os.path.abspath(path).startswith(MACHINE_DIRECTORY + os.sep):
            user = rights.user_name(os.geteuid())
            hint = f"join the group sereno (usermod -aG sereno {user}) and log in again; or {hint}"
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


def _create(path: str) -> None:
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and parent != path:
        _create(parent)
    dir_mode, _ = rights.modes(os.stat(parent or "."))
    try:
        make_directory(path, dir_mode)
    except FileExistsError:
        return
