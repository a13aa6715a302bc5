"""Access to the API of a Kubernetes cluster: its address, the trusted authority and the credentials.

kubernetes-asyncio finds these out. It is imported only if a pool uses Kubernetes, and it makes no requests, because its
client does not bound what it reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l4lb.base.text import reason
from l4lb.base.threads import SerialThread
from l4lb.bounded.url import Url
from l4lb.config.sections import discover
from l4lb.discovery.source import DiscoveryError
from l4lb.net.tls import load_identity

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

REQUEST_TIMEOUT = 10.0
"""Seconds for signing in, for a page of a list, and for a watch to begin."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """`authorization` returns the headers that authenticate a request; old tokens are read again."""

    url: Url
    namespace: str
    tls: ssl.SSLContext
    server_name: str | None
    authorization: Callable[[], Awaitable[Mapping[str, str]]]


async def sign_in(settings: discover.KubernetesDiscovery, files: SerialThread) -> Cluster:
    """Read the credentials. DiscoveryError if that fails."""
    client, config = await files.call(_library)
    configuration = client.Configuration()
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            if settings.kubeconfig is None:
                namespace = await files.call(_as_service_account, config, configuration)
            else:
                await config.load_kube_config(
                    settings.kubeconfig, client_configuration=configuration, persist_config=False
                )
                _, context = await files.call(config.list_kube_config_contexts, settings.kubeconfig)
                namespace = ((context or {}).get("context") or {}).get("namespace")
            tls = await files.call(_tls, configuration)
            url = Url.parse(configuration.host)
    except config.ConfigException as error:
        raise DiscoveryError(f"the cluster cannot be reached: {error}") from error
    except (OSError, ValueError) as error:
        raise DiscoveryError(f"the cluster cannot be reached: {reason(error)}") from error
    if configuration.proxy:
        raise DiscoveryError("the kubeconfig has a proxy-url, which l4lb cannot use; give it one without")

    async def authorization() -> Mapping[str, str]:
        found = await configuration.auth_settings()
        return {one["key"]: one["value"] for one in found.values() if one["in"] == "header" and one["value"]}

    name = settings.namespace or namespace or "default"
    return Cluster(url, name, tls, configuration.tls_server_name, authorization)


def _tls(configuration: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        load_identity(context, configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if getattr(configuration, "disable_strict_ssl_verification", False):
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _library() -> tuple[Any, Any]:
    try:
        from kubernetes_asyncio import client, config
    except ImportError as error:
        raise DiscoveryError(f"it needs more packages ({error.name}); install l4lb[kubernetes]") from error
    return client, config


def _as_service_account(config: Any, configuration: Any) -> str | None:
    """Sign in as the pod that this process runs in. Returns its namespace."""
    account = Path(SERVICE_ACCOUNT)
    config.load_incluster_config(
        configuration, token_filename=str(account / "token"), cert_filename=str(account / "ca.crt")
    )
    with contextlib.suppress(OSError):
        return (account / "namespace").read_text().strip()
    return None
