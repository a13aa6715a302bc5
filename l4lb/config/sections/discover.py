"""`discover`: where a pool finds its backends, a section for each kind of source, and what is believed of an answer."""

from __future__ import annotations

from pydantic import Field

from l4lb.config.fields.durations import Interval, Patience, Timeout
from l4lb.config.fields.numbers import Connections, Percentage, Port
from l4lb.config.fields.sources import KubernetesPort, Origins, Records, Servers
from l4lb.config.fields.words import DnsName, FilePath, KeyPrefix, KubernetesName, PlainUrl
from l4lb.config.sections import Section


class DnsSource(Section):
    """Records of a name, asked for again when their time to live is over."""

    name: DnsName
    """What to look up. Search domains of the system apply."""

    port: Port | None = None
    """Where the backends listen; SRV records have ports of their own."""

    record: Records = ("A",)
    """What to ask for: `A`, `AAAA`, both, or `SRV`."""

    servers: Servers = ()
    """Name servers to ask, with their ports; those of the system when not given."""

    timeout: Timeout = 5.0
    """For a whole look-up, all servers and attempts together."""

    max_ttl: Interval = 3600.0
    """The longest time to live that is heeded: look-ups come at least so often."""


class FileSource(Section):
    """A file of targets as Prometheus reads it (file_sd), followed as it changes."""

    path: FilePath
    """A `.json`, `.yaml` or `.yml` file; the last part may be a pattern such as `*.json`."""


class HttpSource(Section):
    """A URL that answers with targets as Prometheus reads them (http_sd)."""

    url: PlainUrl
    """What to ask for."""

    interval: Interval = 60.0
    """From the start of one request to the start of the next."""

    timeout: Timeout = 10.0
    """For a whole request."""

    token_file: FilePath | None = None
    """A file with a bearer token, read before each request."""

    ca: FilePath | None = None
    """Certificates (PEM) that the server's must lead to; those of the system when not given."""


class KubernetesSource(Section):
    """The EndpointSlices of a Service, watched. Needs the extra `l4lb[kubernetes]`."""

    service: KubernetesName
    """Name of the Service."""

    namespace: KubernetesName | None = None
    """Its namespace; that of the pod l4lb runs in, or of the kubeconfig, when not given."""

    port: KubernetesPort | None = None
    """Name or number of the port, as the EndpointSlices have it; not needed where there is one."""

    kubeconfig: FilePath | None = None
    """How to reach the cluster; as the service account of the pod l4lb runs in when not given."""


class EtcdSource(Section):
    """Keys below a prefix in etcd, version 3, watched."""

    endpoints: Origins
    """URLs of the members. Where one fails, the next is asked."""

    prefix: KeyPrefix
    """How the keys begin. Each has an address, or JSON with `address` and perhaps `weight`, `zone` and `tier`."""

    timeout: Timeout = 5.0
    """For each request, and for a watch to begin."""

    ca: FilePath | None = None
    """Certificates (PEM) that the members' must lead to; those of the system when not given."""

    certificate: FilePath | None = None
    """A client certificate (PEM), together with `key`."""

    key: FilePath | None = None
    """The key of the certificate."""


class Discover(Section):
    """Exactly one source of backends, and how far it is trusted."""

    dns: DnsSource | None = None
    """Names."""

    file: FileSource | None = None
    """A file that another program writes."""

    http: HttpSource | None = None
    """A server that is asked."""

    kubernetes: KubernetesSource | None = None
    """A Service in Kubernetes."""

    etcd: EtcdSource | None = None
    """Keys in etcd."""

    max_connections: Connections = 0
    """Sessions at once of each backend that is found; 0 is no limit."""

    max_busy: Connections = 0
    """Turns in flight beyond which it gets no new session; 0 is no limit."""

    max_removed: Percentage = Field(default=0.5, json_schema_extra={"default": "50%"})
    """An answer that shrinks what is known by more than this, or to nothing, is taken for a fault at first."""

    hold: Patience = 30.0
    """How long backends that such an answer lacks are kept. Afterwards it is believed if the source still works."""

    @property
    def kind(self) -> str:
        """The name of the source that is given."""
        return next(name for name in SOURCES if getattr(self, name) is not None)


SOURCES = ("dns", "file", "http", "kubernetes", "etcd")
