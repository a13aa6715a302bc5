"""From the settings of a pool to its source."""

from __future__ import annotations

from l4lb.config.discover import Discover
from l4lb.discovery.dns import DnsSource
from l4lb.discovery.etcd import EtcdSource
from l4lb.discovery.file import FileSource
from l4lb.discovery.http import HttpSource
from l4lb.discovery.kubernetes import KubernetesSource
from l4lb.discovery.source import Source


def new_source(settings: Discover) -> Source:
    """The source that `settings` names. It does nothing until it is watched."""
    if settings.dns is not None:
        return DnsSource(settings.dns)
    if settings.file is not None:
        return FileSource(settings.file)
    if settings.http is not None:
        return HttpSource(settings.http)
    if settings.kubernetes is not None:
        return KubernetesSource(settings.kubernetes)
    if settings.etcd is not None:
        return EtcdSource(settings.etcd)
    raise ValueError("there is no source")
