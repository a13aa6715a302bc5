"""A DNS server over UDP and TCP that answers what a test says, and misbehaves as told."""

from __future__ import annotations

import socketserver
import struct
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass
class NameServer:
    """Answers on one port of 127.0.0.1. `records` are texts by name and type, such as `("a.test", "A")`.

    `rcode` is the answer to everything unless it is NOERROR; a `silent` server answers nothing, a `truncating` one
    answers over UDP that TCP has to be used. `asked` has the transport, name and type of each question, `payloads` the
    sizes that clients said they take over UDP.
    """

    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    ttl: int = 1
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    silent: bool = False
    truncating: bool = False
    wrong_id: bool = False
    additional: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    payloads: set[int] = field(default_factory=set)
    port: int = 0

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        server = self

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, sock = self.request
                for answer in server.answers(data, "udp"):
                    sock.sendto(answer, self.client_address)

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while head := self.rfile.read(2):
                    (length,) = struct.unpack("!H", head)
                    for answer in server.answers(self.rfile.read(length), "tcp"):
                        self.wfile.write(struct.pack("!H", len(answer)) + answer)

        tcp = _Tcp(("127.0.0.1", 0), Stream)
        while (udp := _udp(tcp.server_address[1], Datagram)) is None:
            tcp.server_close()
            tcp = _Tcp(("127.0.0.1", 0), Stream)
        self.port = tcp.server_address[1]
        self._serve(udp)
        self._serve(tcp)
        return self

    def _serve(self, server: socketserver.BaseServer) -> None:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self._stack.callback(server.server_close)
        self._stack.callback(thread.join)
        self._stack.callback(server.shutdown)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def count(self, name: str) -> int:
        return sum(asked == name for _, asked, _ in self.asked)

    def answers(self, data: bytes, transport: str) -> list[bytes]:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((transport, name, kind))
        self.payloads.add(query.payload)
        if self.silent:
            return []
        response = dns.message.make_response(query)
        response.set_rcode(self.rcode)
        if self.rcode == dns.rcode.NOERROR:
            texts = self.records.get((name, kind), [])
            if texts:
                response.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", kind, *texts))
            elif not any(known == name for known, _ in self.records):
                response.set_rcode(dns.rcode.NXDOMAIN)
            for (other, other_kind), more in self.additional.items():
                response.additional.append(dns.rrset.from_text(f"{other}.", self.ttl, "IN", other_kind, *more))
        if self.truncating and transport == "udp":
            response.answer.clear()
            response.flags |= dns.flags.TC
        wire = response.to_wire(max_size=65535)
        if self.wrong_id and transport == "udp":
            # What an attacker sends that can only guess: another id, and the attacker's address.
            spoofed = dns.message.make_response(query)
            spoofed.id ^= 1
            spoofed.answer.append(dns.rrset.from_text(question.name, 3600, "IN", "A", "192.0.2.66"))
            return [spoofed.to_wire(), wire]
        return [wire]


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True


def _udp(port: int, handler: Any) -> _Udp | None:
    try:
        return _Udp(("127.0.0.1", port), handler)
    except OSError:
        return None


class _Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
