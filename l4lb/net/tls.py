"""TLS contexts of outgoing connections."""

from __future__ import annotations

import ssl


def load_identity(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    """Have the client show this certificate. An encrypted key is an error: OpenSSL would ask the terminal for its
    password."""
    context.load_cert_chain(certificate, key, password=lambda: b"")
