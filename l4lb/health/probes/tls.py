"""TLS contexts of checks: created once, and again when one of their files has changed.

Files are looked at on threads, because a file system can hang: one thread for each set of files. Meanwhile checks use
the known context.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from l4lb.base.threads import in_thread
from l4lb.config.model import Health, HealthTls
from l4lb.health.probes.base import Subject
from l4lb.net.interfaces import known_to_peers
from l4lb.net.target import Target
from l4lb.net.tls import load_identity

CONTEXTS_MAX = 1024
"""Contexts that are cached; pools with the same settings share one."""

PATIENCE = 1.0
"""Seconds that looking at files may take before checks go on with the known context."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

_Changed = tuple[int, ...]


class TlsFileError(Exception):
    """A file of the settings cannot be used. `str()` says which, and why."""


@dataclass(frozen=True, slots=True)
class _Kept:
    changed: _Changed
    context: ssl.SSLContext


_Key = tuple[HealthTls, str]


@dataclass(frozen=True, slots=True)
class _Look:
    begun: float
    context: asyncio.Future[ssl.SSLContext]


_contexts: dict[_Key, _Kept] = {}
_looks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, _Look]] = WeakKeyDictionary()
"""Looks at files that are in progress."""


def settings_of(health: Health) -> HealthTls | None:
    """The TLS settings of a check; None for a plain connection."""
    return health.tls or (HealthTls() if health.type == "https" else None)


async def context_of(health: Health) -> ssl.SSLContext | None:
    """The context of a check; None for a plain connection. TlsFileError if a file cannot be used."""
    tls = settings_of(health)
    if tls is None:
        return None
    key = (tls, health.type)
    kept = _contexts.get(key)
    if kept is not None and not _paths(tls):
        return kept.context
    loop, look = asyncio.get_running_loop(), _look(key)
    try:
        async with asyncio.timeout_at(max(look.begun + PATIENCE, loop.time())):
            return await asyncio.shield(look.context)
    except TimeoutError:
        if kept is None:
            named = ", ".join(_paths(tls)) or "what the system trusts"
            raise TlsFileError(f"reading {named} takes longer than {PATIENCE:g}s") from None
        return kept.context


def load_context(health: Health) -> None:
    """Create the context of a check in advance. Reads files synchronously; TlsFileError if one cannot be used."""
    if (tls := settings_of(health)) is not None:
        _current((tls, health.type))


def _look(key: _Key) -> _Look:
    """The look at the files that is in progress, or a new one."""
    loop = asyncio.get_running_loop()
    looks = _looks.setdefault(loop, {})
    if key not in looks:
        looks[key] = _Look(loop.time(), in_thread("l4lb-tls", _current, key))
        looks[key].context.add_done_callback(lambda _: looks.pop(key))
    return looks[key]


def _current(key: _Key) -> ssl.SSLContext:
    tls, kind = key
    changed, kept = _changed(tls), _contexts.get(key)
    if kept is None or kept.changed != changed:
        if len(_contexts) >= CONTEXTS_MAX:
            _contexts.clear()
        kept = _contexts[key] = _Kept(changed, _make(tls, "h2" if kind == "grpc" else None))
    return kept.context


def server_name(health: Health, subject: Subject, target: Target) -> str:
    """The name that the certificate must have."""
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
    return tuple(_modified(path) for path in _paths(tls))


def _paths(tls: HealthTls) -> list[str]:
    return [path for path in (tls.ca, tls.certificate, tls.key) if path is not None]


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
        wrong = "no certificate in PEM with the key that belongs to it"
        _load(certificate, wrong, lambda: load_identity(context, certificate, key))
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
