"""A cache's files by descriptor: opened once, judged by what was opened, and never looked up by a path again.

Whoever may write a directory may put something else in the place of each of its files, between a look at the path and
what is done with it. So a file is opened without following a link and without waiting for anybody, then judged
(`sereno.cache.place`), and from then on named by its descriptor. Paths stand in messages alone.

One of the files has nothing but a number in it: the mark of a clean end, whose presence says that everything before it
is on the disk.
"""

from __future__ import annotations

import errno
import os
import stat

from sereno.cache import place
from sereno.context_manager import contextmanager
from sereno.errors import CacheError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "synced"

_OPENED = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Directory:
    """An open directory of a cache: the cache's own, or one in it.

    Args:
        path: of the cache's own, absolute; of one in it its name.
        above: the cache's own.

    Attributes:
        found: what fstat(2) says of it; owner: what it says of the cache's own.
        dir_mode, file_mode: of what is created in it.

    Raises:
        CacheError: it is not safe from strangers.
        OSError: it cannot be opened, or is none.
    """

    fd = -1

    def __init__(self, path: str, above: Directory | None = None) -> None:
        self.above = above
        self.path: str = os.path.join(above.path, path) if above else path
        self.fd = self._opened(path, os.O_RDONLY | os.O_DIRECTORY, above)
        self.found = os.fstat(self.fd)
        self.owner: os.stat_result = above.owner if above else self.found
        self.dir_mode, self.file_mode = place.modes(self.owner)
        try:
            self._judge(path, self.found, above)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, name: str) -> int:
        """Opens a file that is there, for reading and writing; raises as the class does."""
        fd = self._opened(name, os.O_RDWR, self)
        try:
            self._judge(name, os.fstat(fd), self)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def create(self, name: str) -> int:
        """Makes a file that is not there yet, with `file_mode` under any umask."""
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
        os.fchmod(fd, self.file_mode)
        return fd

    def open_or_create(self, name: str) -> int:
        """`open`, or `create` where there is none."""
        try:
            return self.create(name)
        except FileExistsError:
            return self.open(name)

    def rename(self, name: str, new_name: str) -> None:
        os.rename(name, new_name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def status(self, path: str) -> os.stat_result:
        return os.stat(path, dir_fd=self.fd, follow_symlinks=False)

    def sync(self) -> None:
        os.fsync(self.fd)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close

    def _judge(self, name: str, found: os.stat_result, inside: Directory | None) -> None:
        if inside is None:
            place.check_directory(name, found)
        else:
            top = inside.above or inside
            place.check_file(os.path.join(inside.path, name), found, inside.owner, top.path)

    def _opened(self, name: str, flags: int, inside: Directory | None) -> int:
        dir_fd = inside.fd if inside else None
        try:
            return os.open(name, flags | _OPENED, dir_fd=dir_fd)
        except OSError as error:
            error.filename = os.path.join(inside.path, name) if inside else name
            try:
                found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            except OSError:
                raise error from None
            # A link or a special file is refused in words of its own.
            if inside is None or not stat.S_ISDIR(found.st_mode):
                self._judge(name, found, inside)
            raise


def make_directory(path: str, mode: int, above: Directory | None = None) -> None:
    """Makes a directory with exactly this mode, whatever the umask; a setgid bit is inherited from the one above.

    It is changed afterwards only where that is needed: under `RestrictSUIDSGID=` a job may not set the bit itself.
    """
    dir_fd = above.fd if above else None
    os.mkdir(path, mode & 0o777, dir_fd=dir_fd)
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        here, found = f"/proc/self/fd/{fd}", stat.S_IMODE(os.fstat(fd).st_mode)
        if not found & stat.S_IRWXU:
            os.chmod(here, stat.S_IRWXU)
        # Another one that was put in its place is not empty, and stays as it is.
        if found != mode and not os.listdir(here):
            os.chmod(here, mode)
    finally:
        os.close(fd)


@contextmanager
def held(fd: int) -> Iterator[int]:
    """Closes it in the end."""
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def only_these(directory: Directory, data: int, lock: int) -> Iterator[str]:
    """A path under which LMDB, which opens by path and follows links, finds these two open files and nothing else.

    It has to be opened before this ends. `lock` must stay open for as long as LMDB has it: closing any descriptor of
    that file drops the locks of the process (fcntl(2)).
    """
    above = directory.above
    assert above is not None
    name = f"new-{os.getpid()}-{os.urandom(4).hex()}"
    make_directory(name, above.found.st_mode & stat.S_ISGID | stat.S_IRWXU, above)
    links = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _OPENED, dir_fd=above.fd)
    made = {"data.mdb": data, "lock.mdb": lock}
    try:
        for file, fd in made.items():
            os.symlink(f"/proc/self/fd/{fd}", file, dir_fd=links)
        found = os.fstat(links)
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CacheError(f"cache directory {above.path}: somebody replaced {name} in it")
        yield f"/proc/self/fd/{links}"
    finally:
        for file in made:
            try:
                os.unlink(file, dir_fd=links)
            except FileNotFoundError:
                pass
        os.close(links)
        os.rmdir(name, dir_fd=above.fd)


def prepare(path: str) -> None:
    """Creates what is missing of `path`; raises CacheError where it cannot be the directory of a cache."""
    with place.refusals(path):
        _create(path)
        with Directory(path) as made:
            if not os.access(".", os.R_OK | os.W_OK | os.X_OK, dir_fd=made.fd):
                # access(2) says EACCES of both.
                is_read_only = os.fstatvfs(made.fd).f_flag & os.ST_RDONLY
                number = errno.EROFS if is_read_only else errno.EACCES
                raise OSError(number, os.strerror(number), path)
            kind = place.filesystem_type(path, made.found.st_dev)
    if kind in place.NETWORK_FILESYSTEMS:
        raise CacheError(
            f"cache directory {path}: on {kind}, a file system of a network or a host, where locks and shared"
            " memory do not hold",
            hint=place.hint_for(errno.ENOLCK),
        )


def _create(path: str) -> None:
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and parent != path:
        _create(parent)
    dir_mode, _ = place.modes(os.stat(parent or "."))
    try:
        make_directory(path, dir_mode)
    except FileExistsError:
        return


def write_mark(directory: Directory, transaction: int) -> None:
    """Puts the mark of a clean end there, on the disk: `transaction` was the last one."""
    _unlink_mark(directory)
    with held(directory.create(MARK)) as fd:
        os.write(fd, b"%d\n" % transaction)
        os.fsync(fd)
    directory.sync()


def read_mark(directory: Directory) -> int | None:
    """The last transaction before the clean end; -1 when the mark does not say, None where there is none."""
    try:
        with held(directory.open(MARK)) as fd:
            return int(os.read(fd, 24))
    except FileNotFoundError:
        return None
    except ValueError:
        return -1


def remove_mark(directory: Directory) -> None:
    """Takes the mark away, on the disk, before anything is written that may not reach it."""
    _unlink_mark(directory)
    directory.sync()


def _unlink_mark(directory: Directory) -> None:
    try:
        os.unlink(MARK, dir_fd=directory.fd)
    except FileNotFoundError:
        pass
