"""Clients and backends on real sockets, scripted step by step.

`Peer` is one end of a connection; every step has a deadline. `Backend` is a listening socket whose connections a test
takes one by one. `Served` answers every connection by a handler on a thread of its own.
"""

from __future__ import annotations

import array
import contextlib
import enum
import fcntl
import select
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.helpers.patterns import Checker, pattern
from tests.helpers.waiting import DEADLINE, wait_until

Address = tuple[str, int] | str
"""(host, port), or the path of a unix socket."""

CHUNK = 1 << 18
QUIET = 0.25


class End(enum.Enum):
    """How a peer said that no more will come."""

    FIN = "FIN"
    RESET = "RST"


@dataclass(frozen=True, slots=True)
class Ended:
    """What came before the end, and which end it was."""

    count: int
    end: End


class Peer:
    """One end of a TCP or unix connection."""

    def __init__(self, sock: socket.socket, deadline: float = DEADLINE) -> None:
        self.sock = sock
        self.sock.settimeout(deadline)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def local(self) -> Address:
        name: Address = self.sock.getsockname()
        return name[:2] if isinstance(name, tuple) else name

    @property
    def remote(self) -> Address:
        name: Address = self.sock.getpeername()
        return name[:2] if isinstance(name, tuple) else name

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_pattern(self, key: int, length: int, offset: int = 0) -> None:
        """Send `length` bytes of the pattern, waiting for the other side as long as it takes bytes."""
        end = offset + length
        while offset < end:
            size = min(CHUNK, end - offset)
            self.sock.sendall(pattern(key, offset, size))
            offset += size

    def fill(self, key: int, limit: int = 1 << 30, *, offset: int = 0, chunk: int = CHUNK, quiet: float = QUIET) -> int:
        """Send the pattern until the peer takes no more for `quiet` seconds, or up to `limit`; the offset reached."""
        sent = offset
        poller = select.poll()
        poller.register(self.sock, select.POLLOUT)
        while sent < limit and poller.poll(quiet * 1000):
            try:
                sent += self.sock.send(pattern(key, sent, min(chunk, limit - sent)), socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
        return sent

    def receive(self, length: int) -> bytes:
        """Exactly `length` bytes; AssertionError when the stream ends first."""
        parts = bytearray()
        while len(parts) < length:
            data = self.sock.recv(length - len(parts))
            assert data, f"the stream ended after {len(parts)} of {length} bytes"
            parts += data
        return bytes(parts)

    def receive_pattern(self, key: int, length: int, offset: int = 0) -> None:
        """Exactly `length` bytes, each the expected one."""
        checker = Checker(key)
        checker.count = offset
        while checker.count < offset + length:
            data = self.sock.recv(min(CHUNK, offset + length - checker.count))
            assert data, f"the stream ended after {checker.count} of {offset + length} bytes"
            checker.feed(data)

    def drain(self, key: int | None = None, offset: int = 0) -> Ended:
        """Everything until the end, checked against the pattern of `key` when there is one."""
        checker = Checker(key or 0)
        checker.count = offset
        while True:
            try:
                data = self.sock.recv(CHUNK)
            except ConnectionResetError:
                return Ended(checker.count, End.RESET)
            if not data:
                return Ended(checker.count, End.FIN)
            if key is None:
                checker.count += len(data)
            else:
                checker.feed(data)

    def read_first(self) -> bytes:
        """What comes first; nothing when the stream ends, whichever end it is."""
        try:
            return self.sock.recv(CHUNK)
        except ConnectionResetError:
            return b""

    def read_all(self) -> bytes:
        """Everything until the end, whichever end it is."""
        parts = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while data := self.sock.recv(CHUNK):
                parts += data
        return bytes(parts)

    def ended(self) -> End:
        """The end that comes next; AssertionError when bytes come first."""
        result = self.drain()
        assert result.count == 0, f"{result.count} unexpected bytes before the end"
        return result.end

    def broken(self) -> bool:
        """The connection is closed or reset, found without taking bytes."""
        try:
            return self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def readable(self) -> bool:
        return bool(select.select([self.sock], [], [], 0)[0])

    def unsent(self) -> int:
        """Bytes the other side's kernel has not acknowledged."""
        left = array.array("i", [0])
        fcntl.ioctl(self.sock, termios.TIOCOUTQ, left)
        return left[0]

    def wait_acknowledged(self) -> None:
        wait_until(lambda: self.unsent() == 0, what="bytes in the send queue")

    def finish(self) -> None:
        """Send a FIN; the other direction stays open."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


def connect(
    address: Address, *, source: str | None = None, receive_buffer: int | None = None, deadline: float = DEADLINE
) -> Peer:
    """A connected client; `source` is the local address, `receive_buffer` is set before connecting."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    sock.settimeout(deadline)
    try:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            sock.bind((source, 0))
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return Peer(sock, deadline)


def listen(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    path: str | None = None,
    backlog: int = 1024,
    receive_buffer: int | None = None,
) -> socket.socket:
    if path is not None:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.bind((host, port))
    sock.listen(backlog)
    return sock


def address_of(sock: socket.socket) -> Address:
    name = sock.getsockname()
    return name if isinstance(name, str) else (name[0], name[1])


def spelled(address: Address) -> str:
    """An address as the configuration writes it."""
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Backend:
    """A listening socket; the test accepts its connections itself."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, **options: object) -> None:
        self.sock = listen(host, port, **options)  # type: ignore[arg-type]
        self.address = address_of(self.sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __str__(self) -> str:
        return spelled(self.address)

    def accept(self, deadline: float = DEADLINE) -> Peer:
        self.sock.settimeout(deadline)
        sock, _ = self.sock.accept()
        return Peer(sock)

    def pending(self) -> bool:
        """A connection waits to be accepted."""
        return bool(select.select([self.sock], [], [], 0)[0])

    def close(self) -> None:
        self.sock.close()


Handler = Callable[[Peer], None]


class Served(Backend):
    """A backend that serves every connection by `handler`, each on its own thread."""

    def __init__(self, handler: Handler, host: str = "127.0.0.1", port: int = 0, **options: object) -> None:
        super().__init__(host, port, **options)
        self.handler = handler
        self.served = 0
        self.live: set[Peer] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        while True:
            poller.poll()
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(Peer(sock, deadline=60),), daemon=True).start()

    def _serve(self, peer: Peer) -> None:
        with self._lock:
            self.served += 1
            self.live.add(peer)
        try:
            # A peer that leaves in the middle is what many tests do on purpose.
            with contextlib.suppress(OSError, AssertionError):
                self.handler(peer)
        finally:
            with self._lock:
                self.live.discard(peer)
            with contextlib.suppress(OSError):
                peer.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE)
        self.sock.close()
        with self._lock:
            for peer in self.live:
                with contextlib.suppress(OSError):
                    peer.sock.shutdown(socket.SHUT_RDWR)


def echo(peer: Peer) -> None:
    """Send back what comes, then the FIN."""
    while data := peer.sock.recv(CHUNK):
        peer.send(data)
    peer.finish()


def named(name: str) -> Handler:
    """Say `name`, then echo: the client learns which backend serves it."""

    def handler(peer: Peer) -> None:
        peer.send(name.encode() + b"\n")
        echo(peer)

    return handler


def sink(peer: Peer) -> None:
    """Read everything, answer the number of bytes."""
    peer.send(str(peer.drain().count).encode())


def source(key: int, length: int) -> Handler:
    """Send `length` bytes of the pattern of `key`, then a FIN, and wait for the client's."""

    def handler(peer: Peer) -> None:
        peer.send_pattern(key, length)
        peer.finish()
        peer.drain()

    return handler


def slow_drain(peer: Peer, key: int, step: int, pause: Callable[[], None]) -> Ended:
    """Read `step` bytes at a time with a pause between, checking the pattern."""
    checker = Checker(key)
    while True:
        try:
            data = peer.sock.recv(step)
        except ConnectionResetError:
            return Ended(checker.count, End.RESET)
        if not data:
            return Ended(checker.count, End.FIN)
        checker.feed(data)
        pause()


def ask(address: Address, *, source: str | None = None) -> str:
    """The name of the `named` backend that serves one new connection."""
    with connect(address, source=source) as peer:
        return read_name(peer)


def read_name(peer: Peer) -> str:
    name = bytearray()
    while not name.endswith(b"\n"):
        name += peer.receive(1)
    return name[:-1].decode()


@contextlib.contextmanager
def blackhole() -> Iterator[Address]:
    """An address whose SYNs get no answer: its accept queue is full and never emptied."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(listen(backlog=0))
        address = address_of(sock)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(address)
        # The queue is full once a connection no longer completes.
        probe = stack.enter_context(socket.socket())
        probe.settimeout(QUIET)
        with contextlib.suppress(TimeoutError):
            probe.connect(address)
            raise AssertionError("the accept queue of the black hole took another connection")
        yield address


@contextlib.contextmanager
def refused() -> Iterator[Address]:
    """An address that refuses connections, reserved so that no other socket gets it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield address_of(sock)


class Background:
    """A function on a thread whose result, or error, the test takes later."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._result: object = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error

    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self, deadline: float = 30.0) -> object:
        self._thread.join(deadline)
        assert not self._thread.is_alive(), f"still running after {deadline:g} s"
        if self._error is not None:
            raise self._error
        return self._result
