"""TLS clients and backends on top of `peers`, and ClientHellos as bytes."""

from __future__ import annotations

import contextlib
import functools
import ssl

import trustme

from tests.helpers.peers import Handler, Peer

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


def client_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """Trusts the test authority. A client that gives no name still checks the certificate, but not whose it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    authority().configure_trust(context)
    return context


def over_tls(handler: Handler, *names: str) -> Handler:
    """`handler` behind a TLS handshake with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*names).configure_cert(context)

    def handle(peer: Peer) -> None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True, suppress_ragged_eofs=False)
        handler(peer)

    return handle


def secure(peer: Peer, name: str | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Peer:
    """Shake hands as a client that asks for `name`; the certificate has to be for it."""
    context = client_context(version)
    context.check_hostname = name is not None
    peer.sock = context.wrap_socket(peer.sock, server_hostname=name)
    return peer


def client_hello(name: str | None, *, protocols: int = 0) -> bytes:
    """The bytes a client begins with. Each of `protocols` makes them 256 bytes longer."""
    context = client_context()
    if protocols:
        context.set_alpn_protocols([f"{number:0255}" for number in range(protocols)])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()
