"""One record to the journal, by systemd's native protocol, or another datagram, by a socket that lives for it alone.

The process is the job's: it may close every descriptor, give their numbers to connections of its own, fork, or use up
all that it may open. A socket that is kept would then be gone, or lead elsewhere. libsystemd keeps one, waits without a
limit where journald does not read, and takes longer to load than a run takes for all of its records.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_DGRAM, SOL_SOCKET, socket
from errno import EMFILE, EMSGSIZE, ENOBUFS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

SOCKET = "/run/systemd/journal/socket"
WAIT_S = 5.0
"""For a journald that does not read what has come."""
_F_ADD_SEALS, _ALL_SEALS = 1033, 0xF


def send(fields: Mapping[str, Any], wait_s: float = WAIT_S) -> OSError | None:
    """Send a record, without the fields that journald would drop; return why it could not be sent, or None."""
    data = encoded(fields)
    try:
        try:
            datagram(data, SOCKET, wait_s)
        except OSError as error:
            if error.errno != EMFILE:
                raise
            make_room()
            datagram(data, SOCKET, wait_s)
    except OSError as error:
        return error
    return None


def datagram(data: bytes, address: str, wait_s: float = WAIT_S) -> None:
    """Send one datagram to a socket of unix(7); "@" is the beginning of an abstract address. Raises OSError."""
    sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        sender.settimeout(wait_s)
        try:
            sender.sendto(data, "\0" + address[1:] if address[:1] == "@" else address)
        except OSError as error:
            if address != SOCKET or error.errno not in (EMSGSIZE, ENOBUFS):
                raise
            _send_in_memory(sender, data)
    finally:
        sender.close()


def _send_in_memory(sender: socket, data: bytes) -> None:
    """Too large for a datagram: journald takes the descriptor of a memory file that nobody can change any more."""
    from fcntl import fcntl
    from sys import byteorder

    memory = os.memfd_create("sereno", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(memory, view) :]
        fcntl(memory, _F_ADD_SEALS, _ALL_SEALS)
        rights = (SOL_SOCKET, SCM_RIGHTS, memory.to_bytes(4, byteorder))
        sender.sendmsg([], [rights], 0, SOCKET)
    finally:
        os.close(memory)


def make_room() -> None:
    """Where the job has used up what it may open: what is said of that needs a socket, and modules, which are files."""
    try:
        os.close(os.dup(2))
    except OSError as error:
        if error.errno == EMFILE:
            _give_up_input()


def _give_up_input() -> None:
    try:
        # What systemd gives a service to read is /dev/null, and nobody misses that.
        if os.fstat(0).st_rdev == os.stat(os.devnull).st_rdev:
            os.close(0)
            from resource import RLIMIT_NOFILE, getrlimit, setrlimit

            least, most = getrlimit(RLIMIT_NOFILE)
            if least != most:
                setrlimit(RLIMIT_NOFILE, (most, most))
                os.open(os.devnull, os.O_RDONLY)
    except (ImportError, OSError):
        pass


def encoded(fields: Mapping[str, Any]) -> bytes:
    """The datagram: `NAME=value` and a line feed each; a value with a line feed by its length."""
    parts: list[bytes] = []
    for name, value in kept(fields):
        if b"\n" in value:
            parts += (name.encode(), b"\n", len(value).to_bytes(8, "little"), value, b"\n")
        else:
            parts += (name.encode(), b"=", value, b"\n")
    return b"".join(parts)


def kept(fields: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The fields of a record, without those that journald would drop."""
    for name, value in fields.items():
        if value is None or not is_field(name):
            continue
        if not isinstance(value, bytes):
            value = str(value).encode("utf-8", "backslashreplace")
        # A uuid.UUID is good too, as python-systemd's own handler has it.
        yield name, value.replace(b"-", b"") if name == "MESSAGE_ID" else value


def is_field(name: str) -> bool:
    """Whether journald keeps a field of that name (journal_field_valid()): it drops others without a word."""
    is_word = name.isascii() and name.isidentifier() and name == name.upper()
    return is_word and name[0] != "_" and len(name) <= 64
