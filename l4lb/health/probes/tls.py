"""TLS of checks: contexts are made once, and anew when a file of theirs has changed."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from l4lb.config.model import Health, HealthTls
from l4lb.health.probes.base import Subject, Target
from l4lb.interfaces import known_to_peers

CONTEXTS_MAX = 1024
"""Contexts that are kept; pools that share their settings share one."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

_Changed = tuple[int, ...]


class TlsFileError(Exception):
    """A file of the settings cannot be used. `str()` says which, and why."""


@dataclass(frozen=True, slots=True)
class _Kept:
    changed: _Changed
    context: ssl.SSLContext


_contexts: dict[tuple[HealthTls, str], _Kept] = {}


def settings_of(health: Health) -> HealthTls | None:
    """The TLS settings of a check; None for one in the clear."""
    return health.tls or (HealthTls() if health.type == "https" else None)


def context_of(health: Health) -> ssl.SSLContext | None:
    """The context of a check; None for one in the clear. TlsFileError when a file cannot be used."""
    tls = settings_of(health)
    if tls is None:
        return None
    key, changed = (tls, health.type), _changed(tls)
    kept = _contexts.get(key)
    if kept is None or kept.changed != changed:
        if len(_contexts) >= CONTEXTS_MAX:
            _contexts.clear()
        kept = _contexts[key] = _Kept(changed, _make(tls, "h2" if health.type == "grpc" else None))
    return kept.context


def server_name(health: Health, subject: Subject, target: Target) -> str:
    """The name that the certificate has to have."""
    if health.tls is not None and health.tls.server_name is not None:
        return health.tls.server_name
    if health.host is not None:
        # A Host header may have a port, and has IPv6 addresses in brackets.
        host = health.host
        return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if subject.host is not None:
        return known_to_peers(subject.host)
    return "localhost" if isinstance(target.address, str) else target.address[0]


def _changed(tls: HealthTls) -> _Changed:
    paths = (path for path in (tls.ca, tls.certificate, tls.key) if path is not None)
    return tuple(_modified(path) for path in paths)


def _modified(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError as error:
        raise TlsFileError(f"{path}: {error.strerror}") from None


def _make(tls: HealthTls, protocol: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.check_hostname = tls.verify
    context.verify_mode = ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE
    if tls.ca is not None:
        _load(tls.ca, "no certificate in PEM", lambda: context.load_verify_locations(tls.ca))
    elif tls.verify:
        context.load_default_certs()
    if tls.certificate is not None:
        certificate, key = tls.certificate, tls.key
        # A key behind a password would ask for it on the terminal.
        load = lambda: context.load_cert_chain(certificate, key, password=lambda: b"")  # noqa: E731
        _load(certificate, "no certificate in PEM with the key that belongs to it", load)
    if protocol is not None:
        context.set_alpn_protocols([protocol])
    return context


def _load(path: str, wrong: str, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError:
        raise TlsFileError(f"{path}: {wrong}") from None
    except OSError as error:
        raise TlsFileError(f"{path}: {error.strerror}") from None
