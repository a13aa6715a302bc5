"""Creates the source for the settings of a pool. The packages that a kind of source needs are imported only if it is
used."""

from __future__ import annotations

from l4lb.config.sections.discover import Discover
from l4lb.discovery.source import Source


def new_source(settings: Discover) -> Source:
    """The source for `settings`. It does nothing until it is watched."""
    if settings.dns is not None:
        from l4lb.discovery.dns import DnsSource

        return DnsSource(settings.dns)
    if settings.file is not None:
        from l4lb.discovery.file import FileSource

        return FileSource(settings.file)
    if settings.http is not None:
        from l4lb.discovery.http import HttpSource

        return HttpSource(settings.http)
    if settings.kubernetes is not None:
        from l4lb.discovery.kubernetes import KubernetesSource

        return KubernetesSource(settings.kubernetes)
    if settings.etcd is not None:
        from l4lb.discovery.etcd import EtcdSource

        return EtcdSource(settings.etcd)
    raise ValueError("there is no source")
