"""Names, paths and URLs. Each pattern has the sentence that is shown when it does not match."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from l4lb.base.text import quoted
from l4lb.bounded.url import Url as ParsedUrl
from l4lb.config.fields.shape import Written

ROUTES_MAX = 16_384
"""Server names of one listener; the data plane has the same limit."""

SERVER_NAME_MAX = 255


def _whole(pattern: str) -> str:
    """The pattern for a whole string. `$` alone would allow a trailing newline; editors check with the same pattern."""
    return rf"^{pattern}$(?!\n)"


_NAME = _whole(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
_BACKEND_NAME = _whole(r"[^\s\x00-\x1f\x7f-\x9f]{1,255}")
_USER = _whole(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_FILE_PATH = _whole(r"[^\x00-\x1f\x7f]{1,4095}")
_URL_PATH = _whole(r"/[!-~]{0,2047}")
_HOST = _whole(r"[!-~]{1,255}")
_SERVER_NAME = _whole(r"(?!(\*\.)?([0-9]+\.){3}[0-9]+$)(\*\.)?([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}")
_URL = _whole(r"https?://[!-~]{1,2047}")
_CERTIFICATE_NAME = _whole(r"[A-Za-z0-9_.:-]{1,253}")
_SERVICE = _whole(r"[!-~]{0,255}")
_PLAIN_URL = _whole(r"https?://[A-Za-z0-9\[][!-z|~]{0,2046}")
ORIGIN = _whole(r"https?://[A-Za-z0-9\[][A-Za-z0-9.:\]_-]{0,300}")
_DNS_NAME = _whole(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_KUBERNETES_NAME = _whole(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_KEY_PREFIX = _whole(r"[!-~]{1,1024}")

PATTERN_HELP = {
    _NAME: "a name is up to 128 letters, digits and _ . : - and begins with a letter, a digit or _",
    _BACKEND_NAME: "a backend name is up to 255 characters without spaces",
    _USER: "a user name is expected, such as l4lb",
    _FILE_PATH: "a file name is expected, or - for standard output",
    _URL_PATH: "a path begins with / and has no spaces, such as /health",
    _URL: "a URL is expected, such as http://{host}:{port}/metrics",
    _CERTIFICATE_NAME: "the name in a certificate is expected, such as model.example or an IP address",
    _SERVICE: "the name of a service has no spaces, such as inference.GRPCInferenceService",
    _HOST: "a host name without spaces is expected, such as model.example",
    _SERVER_NAME: "a server name is expected, such as model.example or *.model.example, not an address",
    _PLAIN_URL: "a URL is expected, such as http://registry.example/targets",
    ORIGIN: "a URL without a path is expected, such as http://10.0.0.5:2379",
    _DNS_NAME: "a name is expected, such as llama.ml.svc",
    _KUBERNETES_NAME: "a name in Kubernetes has lower-case letters, digits, - and .",
    _KEY_PREFIX: "the beginning of keys is expected, without spaces, such as /l4lb/llama/",
}


def _parsed(text: str) -> str:
    """A URL that can be parsed in the same way as for a request."""
    try:
        ParsedUrl.parse(text.replace("{host}", "host").replace("{port}", "1"))
    except ValueError as error:
        raise ValueError(f"{quoted(text)} cannot be used here: {error}") from None
    return text


Name = Annotated[str, StringConstraints(strict=True, pattern=_NAME), Written("a name")]
"""Listeners and pools have names that need no quoting in a shell, a URL or a metric."""

BackendName = Annotated[
    str, StringConstraints(strict=True, pattern=_BACKEND_NAME), Written("up to 255 characters without spaces")
]
"""A backend may be called by its address, so everything but spaces is allowed."""

User = Annotated[str, StringConstraints(strict=True, pattern=_USER), Written("a user name")]
FilePath = Annotated[str, StringConstraints(strict=True, pattern=_FILE_PATH), Written("a path")]
UrlPath = Annotated[str, StringConstraints(strict=True, pattern=_URL_PATH), Written("begins with `/`")]
Url = Annotated[str, StringConstraints(strict=True, pattern=_URL), AfterValidator(_parsed), Written("a URL")]
ServerName = Annotated[str, StringConstraints(strict=True, pattern=_SERVER_NAME, max_length=SERVER_NAME_MAX)]
"""A name in a TLS handshake, in any case, or `*.` and the end of such names."""

Routes = Annotated[dict[ServerName, Name], Field(max_length=ROUTES_MAX), Written("server names to pools")]
"""Which pool serves which server name."""

PlainUrl = Annotated[str, StringConstraints(strict=True, pattern=_PLAIN_URL), AfterValidator(_parsed), Written("a URL")]
Origin = Annotated[str, StringConstraints(strict=True, pattern=ORIGIN), AfterValidator(_parsed), Written("a URL")]
DnsName = Annotated[str, StringConstraints(strict=True, pattern=_DNS_NAME), Written("a name")]
KubernetesName = Annotated[str, StringConstraints(strict=True, pattern=_KUBERNETES_NAME), Written("a name")]
KeyPrefix = Annotated[str, StringConstraints(strict=True, pattern=_KEY_PREFIX), Written("text")]
HostHeader = Annotated[str, StringConstraints(strict=True, pattern=_HOST), Written("a host name")]
CertificateName = Annotated[str, StringConstraints(strict=True, pattern=_CERTIFICATE_NAME), Written("a name")]
ServiceName = Annotated[str, StringConstraints(strict=True, pattern=_SERVICE), Written("a name")]
