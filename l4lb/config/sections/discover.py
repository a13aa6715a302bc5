"""`discover`: where a pool finds its backends, a section for each kind of source, and what is believed of an answer."""

from __future__ import annotations

from pydantic import Field

from l4lb.config.fields.durations import Interval, Patience, Timeout
from l4lb.config.fields.numbers import Connections, MaxBusy, Percentage, Port
from l4lb.config.fields.sources import KubernetesPort, Origins, Records, Servers
from l4lb.config.fields.strings import DnsName, FilePath, KeyPrefix, KubernetesName, PlainUrl
from l4lb.config.sections import Section


class DnsDiscovery(Section):
    """Records of a name, asked for again when their time to live is over."""

    name: DnsName
    """What to look up. The search domains of the system apply unless it ends with a dot."""

    port: Port | None = None
    """Where the backends listen. Needed for addresses; SRV records have ports."""

    record: Records = ("A",)
    """What to look up: `[A, AAAA]` looks up both."""

    servers: Servers = ()
    """Name servers to use, such as `10.0.0.10:53`, in this order. Default: those of the system: `/etc/hosts` and
    `/etc/resolv.conf`."""

    timeout: Timeout = 5.0
    """For a whole look-up, all servers and attempts together."""

    max_ttl: Interval = 3600.0
    """The longest time to live that is honoured: look-ups happen at least this often, and at most once a second."""


class FileDiscovery(Section):
    """A file of targets as Prometheus reads it (file_sd), followed as it changes."""

    path: FilePath
    """A `.json`, `.yaml` or `.yml` file. The last part may be a pattern such as `*.json`: then all matching files are
    one answer."""


class HttpDiscovery(Section):
    """A URL that answers with targets as Prometheus reads them (http_sd)."""

    url: PlainUrl
    """Where the targets are. Must answer 200 and `application/json`; redirects are not followed."""

    interval: Interval = 60.0
    """From the start of one request to the start of the next, give or take 10%."""

    timeout: Timeout = 10.0
    """For a whole request."""

    token_file: FilePath | None = None
    """A file with a bearer token. Read before each request, so it may be replaced."""

    ca: FilePath | None = None
    """Certificates (PEM) that the server's must lead to. Default: those of the system."""


class KubernetesDiscovery(Section):
    """The EndpointSlices of a Service, watched. Needs the extra `l4lb[kubernetes]`."""

    service: KubernetesName
    """The Service."""

    namespace: KubernetesName | None = None
    """Its namespace. Default: that of the pod that l4lb runs in, or of the kubeconfig."""

    port: KubernetesPort | None = None
    """The port of the pods, by its number or by its name in the Service. Needed if there are several."""

    kubeconfig: FilePath | None = None
    """How to reach the cluster. Default: the service account of the pod."""


class EtcdDiscovery(Section):
    """Keys below a prefix in etcd, version 3, watched."""

    endpoints: Origins
    """The members, such as `http://10.0.0.5:2379`. If one fails, the next is tried."""

    prefix: KeyPrefix
    """How the keys begin. Each value is an address, or JSON with `address` and, if needed, `weight`, `zone` and
    `tier`."""

    timeout: Timeout = 5.0
    """For each request, and for a watch to begin."""

    ca: FilePath | None = None
    """Certificates (PEM) that the members' must lead to. Default: those of the system."""

    certificate: FilePath | None = None
    """A client certificate (PEM), together with `key`."""

    key: FilePath | None = None
    """Its key."""


class Discover(Section):
    """Exactly one source of backends, and how far it is trusted."""

    dns: DnsDiscovery | None = None
    """A, AAAA or SRV records."""

    file: FileDiscovery | None = None
    """A file of targets in Prometheus' format (file_sd)."""

    http: HttpDiscovery | None = None
    """A URL with targets in Prometheus' format (http_sd)."""

    kubernetes: KubernetesDiscovery | None = None
    """The EndpointSlices of a Service."""

    etcd: EtcdDiscovery | None = None
    """Keys below a prefix."""

    max_connections: Connections = 0
    """Sessions at once of each backend that is found; 0 is no limit."""

    max_busy: MaxBusy = 0
    """Turns in flight of each backend that is found, as `max_busy` in `backends`."""

    max_removed: Percentage = Field(default=0.5, json_schema_extra={"default": "50%"})
    """An answer that removes more than this share of the known backends, or all of them, is held back at first."""

    hold: Patience = 30.0
    """How long backends missing from such an answer are kept. After that the answer is accepted, provided the source is
    still healthy. `0s` accepts every answer at once, from DNS also an empty one. With DNS, every backend missing from
    an answer is kept this long, and until three answers in a row lack it."""

    @property
    def kind(self) -> str:
        """The name of the source that is given."""
        return next(name for name in SOURCES if getattr(self, name) is not None)


SOURCES = ("dns", "file", "http", "kubernetes", "etcd")
