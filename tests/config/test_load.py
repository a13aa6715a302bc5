"""From a file to a `Config`: what comes out, and a sentence at the right place for every mistake."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from l4lb.config import Address, Config, load_config
from l4lb.config.fields.series import Series
from l4lb.errors import PROBLEMS_MAX, ConfigError
from tests.config.conftest import Load, Problems, Write

LISTENERS = 'listeners: {web: {bind: "127.0.0.1:8080", pool: web}}\n'
POOLS = 'pools: {web: {backends: ["127.0.0.1:80"]}}\n'


def test_what_a_file_leaves_out_has_its_default(load: Load) -> None:
    config = load(LISTENERS + POOLS)
    web = config.pools["web"]
    assert (config.process.workers, config.process.drain_timeout) == ("auto", 600.0)
    assert (web.balance, web.retries, web.health, web.drain_timeout) == ("round_robin", 3, None, 600.0)
    assert (web.timeouts.connect, web.timeouts.idle, web.timeouts.half_close) == (5.0, 3600.0, 60.0)
    assert (web.timeouts.lifetime, web.timeouts.first_byte) == (None, None)
    (backend,) = web.backends
    assert (backend.name, backend.weight, backend.max_connections) == ("127.0.0.1:80", 1, 0)


def test_every_kind_of_value_is_read(load: Load) -> None:
    config = load(
        """
        listeners:
          web:
            bind: ["*:80", "[::1]:80", "unix:/run/web.sock"]
            pool: web
            allow: 10.0.0.0/8
            deny: [192.0.2.7, "2001:db8::/32"]
            proxy_protocol: {from: 10.0.0.1}
        pools:
          web:
            backends: ["app.example:80", {name: b, address: "unix:@b", weight: 0}]
            timeouts: {connect: 250ms, lifetime: off}
            health: {type: http, status: [200, 301-303]}
            drain_timeout: off
        """
    )
    web, served = config.pools["web"], config.listeners["web"]
    assert served.bind == (Address("0.0.0.0", 80), Address("::1", 80), Address(path="/run/web.sock"))
    assert served.allow == (ip_network("10.0.0.0/8"),)
    assert served.deny == (ip_network("192.0.2.7"), ip_network("2001:db8::/32"))
    assert served.proxy_protocol is not None
    assert (served.proxy_protocol.from_, served.proxy_protocol.mode) == ((ip_network("10.0.0.1"),), "require")
    assert [(backend.name, str(backend.address)) for backend in web.backends] == [
        ("app.example:80", "app.example:80"),
        ("b", "unix:@b"),
    ]
    assert (web.timeouts.connect, web.timeouts.lifetime, web.drain_timeout) == (0.25, None, None)
    assert web.health is not None
    assert web.health.status == (200, 301, 302, 303)


def test_defaults_stand_in_where_a_listener_or_pool_is_silent(load: Load) -> None:
    config = load(
        """
        defaults:
          timeouts: {connect: 1s, idle: 2s}
          health: {type: http, path: /up, interval: 9s}
          deny: [10.0.0.1]
          max_connections: 7
        listeners:
          silent: {bind: "127.0.0.1:1", pool: silent}
          own: {bind: "127.0.0.1:2", pool: own, deny: [], max_connections: 1}
        pools:
          silent: {backends: []}
          own: {backends: [], timeouts: {idle: 3s}, health: {type: tcp}}
        """
    )
    silent, own = config.pools["silent"], config.pools["own"]
    assert (silent.timeouts.connect, silent.timeouts.idle) == (1.0, 2.0)
    assert (own.timeouts.connect, own.timeouts.idle) == (1.0, 3.0)
    assert silent.health is not None
    assert own.health is not None
    assert (silent.health.path, silent.health.interval) == ("/up", 9.0)
    assert (own.health.path, own.health.interval) == ("/", 2.0)
    assert [len(config.listeners[name].deny) for name in ("silent", "own")] == [1, 0]
    assert [config.listeners[name].max_connections for name in ("silent", "own")] == [7, 1]


def test_options_of_tcp_come_down_to_both_sides_key_by_key(load: Load) -> None:
    config = load(
        """
        defaults:
          tcp: {keepalive: 60s, keepalive_interval: 5s, user_timeout: 2m}
        listeners:
          silent: {bind: "127.0.0.1:1", pool: silent}
          own: {bind: "127.0.0.1:2", pool: own, tcp: {keepalive: off}}
        pools:
          silent: {backends: []}
          own: {backends: [], tcp: {user_timeout: off, keepalive_probes: 3}}
        """
    )
    kept = (60.0, 5.0, 6, 120.0)
    found = {
        (section, name): (
            *(item.tcp.keepalive, item.tcp.keepalive_interval, item.tcp.keepalive_probes),
            item.tcp.user_timeout,
        )
        for section, items in (("listeners", config.listeners), ("pools", config.pools))
        for name, item in items.items()
    }
    assert found == {
        ("listeners", "silent"): kept,
        ("listeners", "own"): (None, 5.0, 6, 120.0),
        ("pools", "silent"): kept,
        ("pools", "own"): (60.0, 5.0, 3, None),
    }


def test_a_mistake_in_the_defaults_is_said_once_and_there(problems: Problems) -> None:
    text = "defaults:\n  retries: many\n" + LISTENERS + "pools: {web: {backends: []}, api: {backends: []}}\n"
    (problem,) = problems(text)
    assert problem.startswith("l4lb.yaml:2:12: error: defaults.retries: a whole number is expected")


def test_every_problem_is_reported_in_the_order_of_the_file(problems: Problems) -> None:
    found = problems("process: {workers: 0}\nlisteners:\n  a: {pool: b}\npools:\n  c: {balance: best, x: 1}\n")
    assert [line.split(": ")[0] + " " + line.split(": ")[2] for line in found] == [
        "l4lb.yaml:1:20 process.workers",
        "l4lb.yaml:3:3 listeners.a",
        "l4lb.yaml:3:13 listeners.a.pool",
        "l4lb.yaml:5:3 pools.c",
        "l4lb.yaml:5:16 pools.c.balance",
        "l4lb.yaml:5:22 pools.c.x",
    ]


@pytest.mark.parametrize(
    ("keys", "at", "problem"),
    [
        ("retry: 3", "retry", "retry: unknown key 'retry'; did you mean 'retries'?"),
        (
            "affinity: {}",
            "affinity",
            "affinity: unknown key 'affinity'; use one of abort_on_close, agent, backends, balance,",
        ),
        ("sticky: {key: cookie}", "cookie", "sticky.key: 'cookie' is not known here; use one of source_ip"),
        ("sticky: {ttl: off}", "off", "sticky.ttl: this timer cannot be off; write a duration such as 5s"),
        ("sticky: {entries: 0}", "0", "sticky.entries: 0 is too small; the least is 1"),
        ("sticky: {entries: 10000001}", "1000", "sticky.entries: 10000001 is too large; the most is 10000000"),
        ("balance: least_conn", "least", "balance: 'least_conn' is not known here; did you mean 'least_connections'?"),
        ("retries: 101", "101", "retries: 101 is too large; the most is 100"),
        ("retries: -1", "-1", "retries: -1 is too small; the least is 0"),
        ("retries: 1.5", "1.5", "retries: a whole number is expected, not '1.5'"),
        ("retries: true", "true", "retries: a whole number is expected, not 'true'"),
        ("retries: ~", "~", "retries: there is no value; give one, or remove the key"),
        ("drain_timeout: 30", "30", "drain_timeout: 30 has no unit; write 30s for seconds (units: ms, s, m, h, d)"),
        ("drain_spread: off", "off", "drain_spread: this timer cannot be off; write a duration such as 5s"),
        ("drain_spread: 11m", "11m", "drain_spread: sessions of a removed backend are closed sooner, after drain_tim"),
        ("timeouts: {idle: off}", "off", "timeouts.idle: this timer cannot be off; write a duration such as 5s"),
        ("timeouts: {connect: 0s}", "0s", "timeouts.connect: a duration from 1ms to 365d is expected"),
        ("tcp: {keepalive: 500ms}", "500ms", "tcp.keepalive: a duration from 1s to 32767s is expected"),
        ("tcp: {keepalive: 32768s}", "32768s", "tcp.keepalive: a duration from 1s to 32767s is expected"),
        ("tcp: {keepalive: 1500ms}", "1500ms", "tcp.keepalive: whole seconds are expected"),
        ("tcp: {keepalive: 60}", "60", "tcp.keepalive: 60 has no unit; write 60s for seconds"),
        (
            "tcp: {keepalive_interval: 5s}",
            "5s",
            "tcp.keepalive_interval: only keepalive uses it, and that is not given; write keepalive: 60s too",
        ),
        (
            "tcp: {keepalive: 1s, keepalive_probes: 128}",
            "128",
            "tcp.keepalive_probes: 128 is too large; the most is 127",
        ),
        ("tcp: {user_timeout: 25h}", "25h", "tcp.user_timeout: a duration from 100ms to 1d is expected"),
        ("timeouts: 5s", "5s", "timeouts: a section with keys is expected, not '5s'"),
        ("hash: {table_size: 65536}", "65536", "hash.table_size: 65536 is not a prime number; the next one is 65537"),
        ("health: {type: icmp}", "icmp", "health.type: 'icmp' is not known here; use one of exec, grpc, http,"),
        ("health: {path: /}", "/", "health.path: only http and https checks use it, and the type is tcp"),
        (
            "health: {type: http, tls: {}}",
            "tls",
            "health.tls: only tcp, https, grpc, redis, pgsql, smtp and send_expect checks use it, and",
        ),
        ("health: {type: exec}", "exec", "health.type: exec needs the key 'command'"),
        ("health: {type: exec, command: []}", "command", "health.command: the list is empty; give at least one entry"),
        ("health: {type: send_expect}", "send_expect", "health.type: send_expect needs the key 'script'"),
        ("health: {type: send_expect, script: [{}]}", "{}]", "health.script[0]: the step does nothing; give send,"),
        (
            "health: {type: send_expect, script: {send: 'hex:0'}}",
            "'hex",
            "health.script.send: 'hex:0' is not hex: pairs of the digits",
        ),
        ("health: {type: http, body: '('}", "'('", "health.body: '(' is not a regular expression: missing )"),
        ("health: {type: http, headers: {'a b': c}}", "headers", "health.headers: 'a b' is not the name of a header"),
        ("health: {type: http, headers: {HOST: c}}", "headers", "health.headers: the Host header has a key of its own"),
        (
            'health: {type: http, headers: {a: "b\\r\\nc: d"}}',
            "headers",
            "health.headers: the value of header 'a' is too",
        ),
        ("health: {tls: {key: a}}", "a}", "health.tls.key: a key needs its certificate; give tls.certificate too"),
        ("health: {address: web.example}", "web", "health.address: 'web.example' is not an IP address; write one such"),
        ("health: {jitter: 60%}", "60%", "health.jitter: a percentage from 0% to 50% is expected"),
        ("health: {jitter: 10}", "10", "health.jitter: a percentage is expected, such as 50%"),
        ("health: {progress: {counter: a}}", "progress", "health.progress: progress is read from what `load` scrapes;"),
        ("passive: {max_ejected: 101%}", "101%", "passive.max_ejected: a percentage from 0% to 100% is expected"),
        ("health: {type: http, status: 99}", "99", "health.status: '99' is not a status; write a code such as 200"),
        ("health: {type: http, path: up}", "up", "health.path: 'up' cannot be used here; a path begins with /"),
        ("slow_start: 30", "30", "slow_start: 30 has no unit; write 30s for seconds"),
        (
            "scale_to_zero: true",
            "true",
            "scale_to_zero: clients wait in the queue until a backend starts; give",
        ),
        ("source: 10.0.0.5:80", "10.", "source: '10.0.0.5:80' is not an IP address; write one such as 10.0.0.1"),
        ("source: web", "web", "source: 'web' is not an IP address; write one such as 10.0.0.1"),
        ('source: "::"', '"', "source: :: is every address; name one of this host, or leave source out"),
        ("source: [224.0.0.1]", "224", "source[0]: 224.0.0.1 is not an address of one host; name one of this host"),
        ('source: ["fe80::1%eth0"]', '"', "source[0]: fe80::1%eth0 is link-local; connections to link-local"),
        ("source: [10.0.0.1, 10.0.0.1]", "10.0.0.1]", "source[1]: 10.0.0.1 is there already; name it once"),
        (
            'backends: ["10.0.0.9:80"], source: "::1"',
            '"10.',
            "backends[0]: 10.0.0.9:80 is IPv4, and source has only IPv6 addresses; add one of IPv4",
        ),
        ("on_down: shut", "shut", "on_down: 'shut' is not known here; use one of close, keep"),
        (
            "failback: sometimes",
            "sometimes",
            "failback: 'sometimes' is not known here; write on, off, or a duration such as 5m",
        ),
        ("spill: never", "never", "spill: 'never' is not known here; use one of off, on"),
        ("scale_to_zero: maybe", "maybe", "scale_to_zero: true or false is expected, not 'maybe'"),
        ("preset: vlm", "vlm", "preset: 'vlm' is not known here; did you mean 'vllm'?"),
        ("agent: {}", "agent", "agent: the key 'port' is missing"),
        (
            'backends: [{address: "a:1", max_busy: auto}], queue: {}',
            "auto",
            "backends[0].max_busy: auto learns from running and waiting requests; give load.signals running and",
        ),
        (
            'backends: [{address: "a:1", max_busy: auto}], preset: vllm',
            "auto",
            "backends[0].max_busy: auto holds requests back, which wait in the queue; give the pool one: queue:",
        ),
        (
            "queue: {}, load: {signals: {queue: q}}, discover: {file: {path: x.json}, max_busy: auto}",
            "auto",
            "discover.max_busy: auto learns from running and waiting requests; give load.signals running and queue",
        ),
        (
            'backends: [{address: "a:1", max_busy: most}]',
            "most",
            "backends[0].max_busy: a whole number from 0 to 10000000, or auto, is expected",
        ),
        ("load: {}", "load", "load: there is nothing to read; give signals, or a preset that has some"),
        ("load: {signals: {queue: 1 a}}", "1 a", "load.signals.queue: '1 a' is not a series; write a metric name"),
        (
            "load: {signals: {queue: 'q{junk}'}}",
            "'q{junk}",
            "load.signals.queue: 'q{junk}' is not a series; write a metric name",
        ),
        (
            "load: {signals: {waiting: a}}",
            "waiting",
            "load.signals.waiting: unknown key 'waiting'; use one of cpu, gpu",
        ),
        (
            "load: {signals: {cpu: a}, limits: {cpu: no}}",
            "no",
            "load.limits.cpu: a number from 0.001 to 1000000, or off,",
        ),
        (
            "load: {signals: {cpu: a}, url: 'http://{host}:99999/'}",
            "'http",
            "load.url: 'http://{host}:99999/' cannot be used here: the port of a URL is 1 to 65535",
        ),
        ("load: {signals: {cpu: a}, url: 'http://[::1/'}", "'http", "load.url: 'http://[::1/' cannot be used here: "),
        (
            "discover: {http: {url: 'http://a:b/'}}",
            "'http",
            "discover.http.url: 'http://a:b/' cannot be used here: the port",
        ),
        ("load: {signals: {cpu: a}, url: 'ftp://x'}", "'ftp", "load.url: 'ftp://x' cannot be used here; a URL is"),
        (
            "load: {signals: {cpu: a}, url: 'http://{ip}/'}",
            "'http",
            "load.url: '{ip}' is not a placeholder; use {host}",
        ),
        ("backends: 10.0.0.1:80", "10.", "backends: a list is expected, not '10.0.0.1:80'"),
        ("backends: [10.0.0.1]", "10.", "backends[0]: '10.0.0.1' has no port; write 10.0.0.1:PORT"),
        ("backends: [8000]", "8000", "backends[0]: 8000 is not an address; write HOST:8000"),
        ("backends: [{name: a}]", "{", "backends[0]: the key 'address' is missing"),
        ('backends: ["*:80"]', '"', "backends[0]: '0.0.0.0:80' is every address; name the one to connect to"),
        ('backends: ["a:0"]', '"', "backends[0]: 'a:0' has a bad port; ports are 1 to 65535"),
        ('backends: ["a:1", "A:1"]', '"A', "backends[1]: the pool has a backend 'a:1' already; give this one another"),
        ('backends: [{address: "a:1", weight: 257}]', "257", "backends[0].weight: 257 is too large; the most is 256"),
    ],
)
def test_a_mistake_in_a_pool_is_told_at_its_place(problems: Problems, keys: str, at: str, problem: str) -> None:
    backends = "" if keys.startswith("backends") else ", backends: []"
    (found,) = problems(f"{LISTENERS}pools:\n  web: {{{keys}{backends}}}\n")
    assert found.startswith(f"l4lb.yaml:3:{9 + keys.index(at)}: error: pools.web.{problem}")


@pytest.mark.parametrize(
    ("keys", "at", "problem"),
    [
        ("pool: wbe", "wbe", "pool: there is no pool 'wbe'"),
        ("bind: []", "bind", "bind: the list is empty; give at least one entry"),
        ("bind: web.example:80", "web", "bind: 'web.example:80' is a name; give the IP address to listen on, or *:80"),
        (
            "bind: ['*:81', '*:81']",
            "'*:81']",
            "bind[1]: 0.0.0.0:81 is already taken by listener 'web' (l4lb.yaml:3:16)",
        ),
        ("allow: 10.0.0.1/8", "10.", "allow: '10.0.0.1/8' has bits set after its prefix; write 10.0.0.0/8"),
        ("allow: [10.0.0.0/255.0.0.0]", "10.", "allow[0]: '10.0.0.0/255.0.0.0' is not a network; write 10.0.0.0/8"),
        ("deny: [web.example]", "web", "deny[0]: 'web.example' is not a network"),
        ("proxy_protocol: {}", "proxy", "proxy_protocol: the key 'from' is missing"),
        ("proxy_protocol: {from: []}", "from", "proxy_protocol.from: the list is empty; give at least one entry"),
        ("backlog: 0", "0", "backlog: 0 is too small; the least is 1"),
        ("sni: {a.example: wbe}", "wbe", "sni.a.example: there is no pool 'wbe'"),
        ("sni: {'*': web}", "'*'", "sni.*: '*' cannot be used here; a server name is expected, such as"),
        ("sni: {'a.*.b': web}", "'a.*", "sni.a.*.b: 'a.*.b' cannot be used here; a server name is"),
        ("sni: {192.0.2.9: web}", "192", "sni.192.0.2.9: '192.0.2.9' cannot be used here; a server name is expected"),
        ("sni: {'*.192.0.2.9': web}", "'*", "sni.*.192.0.2.9: '*.192.0.2.9' cannot be used here; a server name is"),
        ("sni: {a..b: web}", "a..b", "sni.a..b: 'a..b' cannot be used here; a server name is expected"),
        ("sni: {a.b.: web}", "a.b.", "sni.a.b.: 'a.b.' cannot be used here; a server name is expected"),
        (f"sni: {{{'a.' * 127}bc: web}}", "a.", f"sni.'{'a.' * 30}…': the text has more than 255 characters"),
        ("sni: web", "web", "sni: a section with keys is expected, not 'web'"),
        (
            "sni: {a.b: web, A.B: web}",
            "A.B",
            "sni.A.B: 'A.B' is there already; names ignore case (l4lb.yaml:3:15)",
        ),
        ("sni: {a.b: web, a.b: web}", "a.b: web}", "sni.a.b: the key 'a.b' is given twice"),
    ],
)
def test_a_mistake_in_a_listener_is_told_at_its_place(problems: Problems, keys: str, at: str, problem: str) -> None:
    bind = "" if keys.startswith("bind") else ", bind: '127.0.0.1:81'"
    pool = "" if keys.startswith("pool") else ", pool: web"
    (found,) = problems(f"{POOLS}listeners:\n  web: {{{keys}{bind}{pool}}}\n")
    assert found.startswith(f"l4lb.yaml:3:{9 + keys.index(at)}: error: listeners.web.{problem}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1:1: error: the key 'listeners' is missing"),
        (
            f"listeners: {{}}\n{POOLS}",
            "1:1: error: listeners: there is no listener; add at least one",
        ),
        (f"pool: {{}}\n{LISTENERS}{POOLS}", "1:1: error: pool: unknown key 'pool'; did you mean 'pools'?"),
        (f"process: {{workers: 65}}\n{LISTENERS}{POOLS}", "1:20: error: process.workers: a whole number from 1 to 64"),
        (f"admin: {{socket: x}}\n{LISTENERS}{POOLS}", "1:17: error: admin.socket: 'unix:x' is not the absolute path"),
        (f"admin: {{listen: 'unix:/x'}}\n{LISTENERS}{POOLS}", "1:17: error: admin.listen: an IP address and port are"),
        (
            f"log: {{access: {{events: [close, request], format: tcplog}}}}\n{LISTENERS}{POOLS}",
            "1:32: error: log.access.events[1]: tcplog has no line for a request; write format: json",
        ),
        (f"log: {{access: {{events: [end]}}}}\n{LISTENERS}{POOLS}", "1:25: error: log.access.events[0]: 'end' is not"),
        ("- a\n", "1:1: error: a configuration is a mapping of sections, such as listeners and pools"),
        (f"{LISTENERS}pools: {{a b: {{backends: []}}}}\n", "2:9: error: pools.a b: 'a b' cannot be used here; a name"),
    ],
)
def test_a_mistake_elsewhere_is_told_at_its_place(problems: Problems, text: str, problem: str) -> None:
    assert any(found.startswith(f"l4lb.yaml:{problem}") for found in problems(text))


def test_two_listeners_cannot_have_the_same_address(problems: Problems) -> None:
    text = POOLS + "listeners:\n  a: {bind: 'unix:/x', pool: web}\n  b: {bind: 'unix:/x', pool: web}\n"
    assert problems(text) == [
        "l4lb.yaml:4:13: error: listeners.b.bind: unix:/x is already taken by listener 'a' (l4lb.yaml:3:13)"
    ]


def test_port_0_and_both_wildcards_are_no_clash(load: Load) -> None:
    binds = "['*:0', '*:0', '*:81', '[::]:81', '127.0.0.1:81']"
    assert len(load(f"{POOLS}listeners: {{web: {{bind: {binds}, pool: web}}}}").listeners["web"].bind) == 5


def test_a_problem_of_text_that_goes_on_and_on_stays_on_one_line(problems: Problems) -> None:
    text = f"{LISTENERS}pools: {{web: {{backends: [], balance: '{'x' * 100_000}', ? \"a\\nb{'y' * 1000}\" : 1}}}}\n"
    found = problems(text)
    assert len(found) == 2
    assert all(line.isprintable() and len(line) < 600 for line in found)


def test_a_config_of_plain_data_may_give_seconds_as_numbers() -> None:
    config = Config.model_validate(
        {
            "listeners": {"web": {"bind": "127.0.0.1:0", "pool": "web"}},
            "pools": {"web": {"backends": ["127.0.0.1:80"], "timeouts": {"connect": 0.5, "lifetime": None}}},
        }
    )
    assert config.pools["web"].timeouts.connect == 0.5


def test_str_of_the_error_is_every_problem_on_its_line(write: Write) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write("a: 1\nb: 2\n"))
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]


def test_what_load_reads_and_what_is_full_may_be_written_in_every_way(load: Load) -> None:
    config = load(
        LISTENERS
        + """
pools:
  web:
    backends: []
    slow_start: off
    agent: {port: 9401}
    load:
      signals: {queue: a:b, kv: ['c{d="e"}', "f %"]}
      limits: {queue: 2.5, running: 10, kv: "0.7", gpu: off}
"""
    )
    found = config.pools["web"].load
    assert found is not None
    assert (found.url, found.interval, found.expire) == ("http://{host}:{port}/metrics", 1.0, 180.0)
    assert found.signals.queue == (Series("a:b"),)
    assert found.signals.kv == (Series("c", (("d", "e"),)), Series("f", percent=True))
    assert (found.limits.queue, found.limits.running, found.limits.kv, found.limits.gpu) == (2.5, 10.0, 0.7, None)
    assert config.pools["web"].slow_start.duration is None


@pytest.mark.parametrize(
    "pool",
    [
        r'{backends: [{name: "a\n", address: 10.0.0.1:80}]}',
        r'{backends: [10.0.0.1:80], health: {type: http, path: "/health\n"}}',
        r'{backends: [10.0.0.1:80], health: {type: https, host: "model.example\n"}}',
        r'{discover: {dns: {name: "llama.ml.svc\n", port: 80}}}',
    ],
)
def test_a_line_end_behind_a_word_is_no_part_of_it(problems: Problems, pool: str) -> None:
    (problem,) = problems(f"listeners: {{web: {{bind: 127.0.0.1:80, pool: web}}}}\npools:\n  web: {pool}\n")
    assert r"\n" in problem


def test_so_many_problems_are_said_and_the_rest_are_a_number(tmp_path: Path) -> None:
    path = tmp_path / "l4lb.yaml"
    path.write_text("listeners:\n" + "".join(f"  n{number}: {number}\n" for number in range(3000)))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    error = caught.value
    assert (len(error.problems), error.total) == (PROBLEMS_MAX, 3001)
    assert [problem.line for problem in error.problems[:3]] == [1, 2, 3]
    assert str(error).splitlines()[-1] == "error: 2001 more problems like these; mend these first"


def test_a_problem_is_one_line_that_a_terminal_bears(tmp_path: Path) -> None:
    path = tmp_path / "l4lb.yaml"
    path.write_text(
        'listeners: {"' + "\\x1b[2J" * 5000 + '": {bind: "' + "\\u202e" * 5000 + '", pool: "' + "x" * 5000 + '"}}'
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    for sentence in caught.value.sentences:
        assert sentence.isprintable()
        assert len(sentence) <= 1024
