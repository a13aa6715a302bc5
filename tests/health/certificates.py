"""Certificates for tests, made anew each time, and a server that speaks TLS."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.helpers.peers import Handler, Peer, Served


@dataclass(frozen=True, slots=True)
class Authority:
    """`file` is its certificate."""

    ca: trustme.CA
    file: str
    directory: Path

    def issue(self, *names: str) -> tuple[trustme.LeafCert, str]:
        """A certificate for these names, and a file with it and its key."""
        certificate = self.ca.issue_cert(*names)
        path = self.directory / f"{names[0]}.pem"
        certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
        return certificate, str(path)

    def server_context(self, *names: str, asks_for_client: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.issue(*names)[0].configure_cert(context)
        if asks_for_client:
            self.ca.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def authority(directory: Path, name: str = "ca.pem") -> Authority:
    ca, path = trustme.CA(), directory / name
    ca.cert_pem.write_to_path(str(path))
    return Authority(ca, str(path), directory)


class SecureServer(Served):
    """Serves every connection by `handler`, through TLS. `names` are what clients asked for."""

    def __init__(self, context: ssl.SSLContext, handler: Handler) -> None:
        self.names: list[str | None] = []
        context.sni_callback = lambda _sock, name, _context: self.names.append(name)

        def handle(peer: Peer) -> None:
            with contextlib.suppress(OSError), context.wrap_socket(peer.sock, server_side=True) as secure:
                handler(Peer(secure, deadline=60))

        super().__init__(handle)
