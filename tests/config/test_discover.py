"""Sources of backends in the file: one a pool, each with what it needs."""

from __future__ import annotations

import pytest

from tests.config.conftest import Load, Problems

HEAD = "listeners: {web: {bind: '127.0.0.1:1', pool: web}}\npools:\n  web: "


def test_backends_may_be_left_out_beside_a_source(load: Load) -> None:
    pool = load(HEAD + "{discover: {dns: {name: llama.ml.svc, port: 8000, record: A}}}").pools["web"]
    assert pool.backends == ()
    assert pool.discover is not None
    assert pool.discover.dns is not None
    assert (pool.discover.dns.record, pool.discover.max_removed, pool.discover.hold) == (("A",), 0.5, 30.0)
    both = load(HEAD + "{backends: ['10.0.0.1:80'], discover: {file: {path: a.json}, hold: 0s, max_removed: 100%}}")
    assert len(both.pools["web"].backends) == 1
    assert both.pools["web"].discover is not None
    assert (both.pools["web"].discover.max_removed, both.pools["web"].discover.hold) == (1.0, 0.0)


def test_a_pool_with_neither_backends_nor_a_source_is_refused(problems: Problems) -> None:
    assert problems(HEAD + "{retries: 1}") == ["l4lb.yaml:3:3: error: pools.web: the key 'backends' is missing"]


def test_a_source_may_stand_in_the_defaults(load: Load) -> None:
    config = load("defaults: {discover: {file: {path: a.json}}}\n" + HEAD + "{retries: 1}")
    assert config.pools["web"].discover is not None


@pytest.mark.parametrize(
    ("discover", "problem"),
    [
        ("{}", "discover: there is no source; give one of dns, file, http, kubernetes, etcd"),
        ("{hold: 1s}", "discover: there is no source"),
        ("{consul: {}}", "discover.consul: unknown key 'consul'; use one of"),
        (
            "{file: {path: a.json}, http: {url: 'http://a'}}",
            "discover.http: there is a source already, file; a pool has one, so give this one a pool of its own",
        ),
        ("{dns: {name: a}}", "discover.dns: the key 'port' is missing; only SRV records have ports"),
        ("{dns: {port: 80}}", "discover.dns: the key 'name' is missing"),
        ("{dns: {name: a, record: SRV, port: 80}}", "discover.dns.port: SRV records have ports of their own"),
        ("{dns: {name: a, record: [SRV, A]}}", "discover.dns.record: SRV stands alone"),
        ("{dns: {name: a, port: 80, record: TXT}}", "discover.dns.record: 'TXT' is not known here"),
        ("{dns: {name: 'a b', port: 80}}", "discover.dns.name: 'a b' cannot be used here; a name is expected"),
        (
            "{dns: {name: a, port: 80, servers: 'ns.test:53'}}",
            "'ns.test:53' is not a name server; write its IP address",
        ),
        ("{dns: {name: a, port: 80, servers: 10.0.0.1}}", "'10.0.0.1' has no port"),
        ("{file: {}}", "discover.file: the key 'path' is missing"),
        ("{http: {url: 'ftp://a'}}", "discover.http.url: 'ftp://a' cannot be used here; a URL is expected"),
        ("{http: {url: 'http://{host}/'}}", "a URL is expected, such as http://registry.example/targets"),
        ("{kubernetes: {service: Llama}}", "a name in Kubernetes has lower-case letters"),
        ("{kubernetes: {service: a, port: 0}}", "discover.kubernetes.port: '0' is not a port; write its number"),
        ("{etcd: {endpoints: [], prefix: /a}}", "discover.etcd.endpoints: the list is empty"),
        ("{etcd: {endpoints: 'http://a:1/x', prefix: /a}}", "a URL without a path is expected"),
        ("{etcd: {endpoints: 'http://a:1', prefix: ''}}", "the beginning of keys is expected"),
        (
            "{etcd: {endpoints: 'http://a:1', prefix: /a, key: x}}",
            "discover.etcd.key: it needs certificate; give both or neither",
        ),
        ("{file: {path: a.json}, max_removed: 101%}", "discover.max_removed: a percentage from 0% to 100% is expected"),
        ("{file: {path: a.json}, max_removed: 50}", "discover.max_removed: a percentage is expected"),
        ("{file: {path: a.json}, hold: 30}", "discover.hold: 30 has no unit"),
    ],
)
def test_mistakes_are_said_in_one_sentence(problems: Problems, discover: str, problem: str) -> None:
    (found,) = problems(f"{HEAD}{{discover: {discover}}}")
    assert problem in found
    assert found.startswith("l4lb.yaml:3:")
