"""One open connection to a cache server: commands out, replies in, each within a bounded time.

The parser is libvalkey's. The socket is our own: a client library's limit holds for each `recv`, so that a server which
sends a byte now and then holds its caller for ever; and what the server pushes has to be met at the right moment.
"""

from __future__ import annotations

import select
import socket
import time
from _thread import allocate_lock, start_new_thread

from sereno.errors import NotAvailable
from sereno.setting_names import CACHE_URL

try:
    from libvalkey import LibvalkeyError, Reader
    from libvalkey import ReplyError as ReplyError
except ModuleNotFoundError:
    raise NotAvailable(
        f"{CACHE_URL}: the package libvalkey is missing here",
        hint="pip install 'sereno[valkey]', in the environment of this interpreter",
    ) from None

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sereno.cache.fleet.url import Address

    Command = Sequence[bytes | int]

LEAST_BYTES_PER_S = 10e6
"""What is large may take longer than the limit, as long as it comes at least so fast."""
_BUFFER_BYTES = 1 << 16
_NOT_YET = object()


class Garbled(ConnectionError):
    """What came is not the protocol of a cache server."""


class Wire:
    """Raises OSError where the server cannot be reached or does not answer in time; then it is of no use any more.

    Args:
        pushed: called with the keys that the server says were changed; None: all.
    """

    # A push that came behind a reply is in the parser and not in the socket: nothing would look for it. Tests switch it
    # off, to see that they find what happens then.
    empties = True

    def __init__(
        self, address: Address, pushed: Callable[[list[bytes] | None], object], deadline_s: float
    ) -> None:
        self._timeout_s = address.timeout_s
        self._pushed = pushed
        self._socket = _connected(address, deadline_s)
        self._socket.settimeout(self._timeout_s)
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._reader = Reader(notEnoughData=_NOT_YET)
        self._buffer = bytearray(_BUFFER_BYTES)

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        packed = b"".join(map(_packed, commands))
        large_s = len(packed) / LEAST_BYTES_PER_S
        if large_s > self._timeout_s:
            self._socket.settimeout(self._timeout_s + large_s)
        self._socket.sendall(packed)
        if large_s > self._timeout_s:
            self._socket.settimeout(self._timeout_s)
        deadline_s = time.monotonic() + self._timeout_s
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._next()
            if reply is not _NOT_YET:
                replies.append(reply)
                continue
            deadline_s += self._receive() / LEAST_BYTES_PER_S
            if time.monotonic() > deadline_s:
                raise TimeoutError("it answers too slowly")
        if self.empties and self._next() is not _NOT_YET:
            raise Garbled("more replies than commands")
        return replies

    def look(self) -> None:
        """Takes in what the server sent without being asked; notices that it closed the connection."""
        while self._readable.poll(0):
            self._receive()
            if self._next() is not _NOT_YET:
                raise Garbled("a reply without a command")

    def close(self) -> None:
        self._socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self.close()

    def _receive(self) -> int:
        count = self._socket.recv_into(self._buffer)
        if not count:
            raise ConnectionResetError("it closed the connection")
        self._reader.feed(self._buffer, 0, count)  # type: ignore[arg-type]  # any buffer
        return count

    def _next(self) -> Any:
        """A reply, or `_NOT_YET`; pushes on the way are met."""
        while True:
            try:
                reply = self._reader.gets()
            except LibvalkeyError as error:
                raise Garbled(f"what it answers is not the protocol of Valkey: {error}") from None
            # The parser gives a push as a list; no reply that is asked for here begins so.
            if type(reply) is not list or len(reply) != 2 or reply[0] != b"invalidate":
                return reply
            self._pushed(reply[1])


def _packed(command: Command) -> bytes:
    # Not libvalkey's pack_command, in which a process of our tests crashed.
    parts = [b"*%d\r\n" % len(command)]
    for word in command:
        raw = b"%d" % word if isinstance(word, int) else word
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


def _connected(address: Address, deadline_s: float) -> socket.socket:
    failure: OSError = TimeoutError("no answer in time")
    for family, target in _targets(address, deadline_s):
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            break
        opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            opened.settimeout(left_s)
            opened.connect(target)
            if family != socket.AF_UNIX:
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _secured(opened, address) if address.tls else opened
        except OSError as error:
            opened.close()
            failure = error
        except BaseException:
            opened.close()
            raise
    raise failure


def _secured(opened: socket.socket, address: Address) -> socket.socket:
    import ssl

    files = address.files
    for path in files.values():
        open(path, "rb").close()  # ssl's own errors name no file
    context = ssl.create_default_context(cafile=files.get("ca"))
    if "cert" in files:
        context.load_cert_chain(files["cert"], files.get("key"))
    return context.wrap_socket(opened, server_hostname=address.host)


_known: dict[tuple[str, int], list[Any]] = {}
"""What names were resolved to last."""


def _targets(address: Address, deadline_s: float) -> list[tuple[int, Any]]:
    """Families and addresses. Nothing bounds the time of a look-up, so a thread of its own makes it."""
    if address.path:
        return [(socket.AF_UNIX, address.path)]
    at = (address.host, address.port)
    try:
        found: Any = socket.getaddrinfo(*at, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = _looked_up(at, deadline_s - time.monotonic())
    return [(each[0], each[4]) for each in found]


def _looked_up(at: tuple[str, int], within_s: float) -> list[Any]:
    done = allocate_lock()
    done.acquire()
    failures: list[OSError] = []

    def look_up() -> None:
        try:
            _known[at] = socket.getaddrinfo(*at, type=socket.SOCK_STREAM)
        except OSError as error:
            failures.append(error)
        finally:
            done.release()

    start_new_thread(look_up, ())
    done.acquire(timeout=max(0.0, within_s))
    if at in _known:
        return _known[at]
    raise failures[0] if failures else TimeoutError(f"the name {at[0]} was not resolved in time")
