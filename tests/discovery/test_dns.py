"""DNS against a server that is one: time to live, all answers, and every way not to answer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from l4lb.config.sections.discover import DnsDiscovery as Settings
from l4lb.discovery import dns as module
from l4lb.discovery.dns import DnsSource
from l4lb.discovery.lookups import EDNS_PAYLOAD
from l4lb.net import hosts
from tests.discovery.recorder import failure, watched
from tests.helpers.loops import eventually, run
from tests.helpers.name_server import NameServer

NAME = "llama.test"
SERVICE = "_llm._tcp.llama.test"


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer({(NAME, "A"): ["127.0.0.2", "127.0.0.1"]}) as server:
        yield server


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time to live of a second is one of 20 ms."""
    monkeypatch.setattr(module, "TTL_MIN", 0.02)
    monkeypatch.setattr(module, "pause", lambda ttl, most: 0.02)


def source(*servers: NameServer, name: str = NAME, **settings: Any) -> DnsSource:
    given = {"name": name, "port": 80, "servers": [server.address for server in servers], "timeout": 5.0} | settings
    return DnsSource(Settings.model_validate(given))


PAUSE = module.pause


def test_all_answers_count(server: NameServer) -> None:
    async def main() -> None:
        async with watched(source(server)) as recorder:
            await recorder.wait_names("127.0.0.1:80", "127.0.0.2:80")

    run(main())
    assert {transport for transport, _, _ in server.asked} == {"udp"}
    assert server.payloads == {EDNS_PAYLOAD}


def test_it_is_asked_again_when_the_time_to_live_is_over(server: NameServer) -> None:
    async def main() -> None:
        async with watched(source(server)) as recorder:
            await recorder.wait_names("127.0.0.1:80", "127.0.0.2:80")
            server.records[NAME, "A"] = ["127.0.0.3"]
            await recorder.wait_names("127.0.0.3:80")

    run(main())


def test_the_shortest_time_to_live_counts(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def pause(ttl: float, _most: float) -> float:
        seen.append(ttl)
        return 60.0

    monkeypatch.setattr(module, "pause", pause)
    server.ttl = 1234
    server.records[SERVICE, "SRV"] = [f"0 0 80 {NAME}."]

    async def main() -> None:
        for asked in (source(server), source(server, name=SERVICE, port=None, record="SRV")):
            async with watched(asked) as recorder:
                await eventually(lambda: len(recorder.answers) == 1)

    run(main())
    assert seen == [1234, 1234]


def test_look_ups_are_bounded_and_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TTL_MIN", 1.0)
    for ttl, least in ((0, 1.0), (1, 1.0), (30, 30.0), (10**6, 100.0)):
        drawn = {PAUSE(ttl, 100.0) for _ in range(50)}
        assert least <= min(drawn) < max(drawn) <= least * (1 + module.JITTER)


def test_both_families(server: NameServer) -> None:
    server.records[NAME, "AAAA"] = ["::1"]

    async def main() -> None:
        async with watched(source(server, record=["A", "AAAA"])) as recorder:
            await recorder.wait_names("127.0.0.1:80", "127.0.0.2:80", "[::1]:80")
        del server.records[NAME, "AAAA"]
        async with watched(source(server, record=["A", "AAAA"])) as recorder:
            await recorder.wait_names("127.0.0.1:80", "127.0.0.2:80")
        assert "has no AAAA records" in await failure(source(server, record="AAAA"))

    run(main())


def test_a_truncated_answer_is_asked_for_over_tcp(server: NameServer) -> None:
    server.truncating = True
    server.records[NAME, "A"] = [f"127.0.{number // 250}.{number % 250 + 1}" for number in range(1000)]

    async def main() -> None:
        async with watched(source(server)) as recorder:
            await recorder.wait_names(*(f"{address}:80" for address in server.records[NAME, "A"]))

    run(main())
    assert [transport for transport, _, _ in server.asked[:2]] == ["udp", "tcp"]


@pytest.mark.parametrize(
    ("rcode", "message"),
    [(dns.rcode.SERVFAIL, "SERVFAIL"), (dns.rcode.REFUSED, "REFUSED"), (dns.rcode.NXDOMAIN, "has no A records")],
)
def test_a_negative_answer_is_a_failure(server: NameServer, rcode: dns.rcode.Rcode, message: str) -> None:
    async def main() -> None:
        async with watched(source(server)) as recorder:
            await recorder.wait_names("127.0.0.1:80", "127.0.0.2:80")
            server.rcode = rcode
            assert message in await recorder.wait_error()
            assert recorder.names == ["127.0.0.1:80", "127.0.0.2:80"]

    run(main())


def test_a_name_without_such_records_is_a_failure(server: NameServer) -> None:
    server.records = {(NAME, "TXT"): ["x"]}

    async def main() -> None:
        assert await failure(source(server)) == f"{NAME} has no A records"

    run(main())


@pytest.mark.slow
def test_a_silent_server_is_a_failure_in_time(server: NameServer) -> None:
    server.silent = True

    async def main() -> None:
        assert "in time" in await failure(source(server, timeout=0.2)) or "within" in await failure(source(server))

    run(main())


def test_the_next_server_is_asked_when_one_fails(server: NameServer) -> None:
    with NameServer(rcode=dns.rcode.SERVFAIL) as broken:

        async def main() -> None:
            async with watched(source(broken, server)) as recorder:
                await recorder.wait_names("127.0.0.1:80", "127.0.0.2:80")

        run(main())
        assert broken.asked


def test_a_spoofed_response_is_not_believed(server: NameServer) -> None:
    server.wrong_id = True

    async def main() -> None:
        async with watched(source(server)) as recorder:
            await recorder.wait_names("127.0.0.1:80", "127.0.0.2:80")

    run(main())


def services(server: NameServer, *records: str, **addresses: list[str]) -> None:
    server.records = {(SERVICE, "SRV"): list(records)} | {
        (f"{host}.test", "AAAA" if ":" in texts[0] else "A"): texts for host, texts in addresses.items()
    }


def test_services_have_ports_weights_and_tiers(server: NameServer) -> None:
    records = ("10 50 8000 a.test.", "10 100 8001 b.test.", "20 0 8000 c.test.")
    services(server, *records, a=["127.0.0.1"], b=["::1"], c=["127.0.0.3", "127.0.0.2"])

    async def main() -> None:
        async with watched(source(server, name=SERVICE, port=None, record="SRV")) as recorder:
            await recorder.wait_names("a.test:8000", "b.test:8001", "c.test:8000", "c.test:8000@127.0.0.3")
            found = {one.name: (str(one.address), one.weight, one.tier) for one in recorder.last}
            assert found == {
                "a.test:8000": ("127.0.0.1:8000", 1, 0),
                "b.test:8001": ("[::1]:8001", 2, 0),
                "c.test:8000": ("127.0.0.2:8000", 1, 1),
                "c.test:8000@127.0.0.3": ("127.0.0.3:8000", 1, 1),
            }

    run(main())


def test_addresses_that_come_along_are_not_asked_for(server: NameServer) -> None:
    services(server, "0 0 8000 a.test.")
    server.additional = {("a.test", "A"): ["127.0.0.7"]}

    async def main() -> None:
        async with watched(source(server, name=SERVICE, port=None, record="SRV")) as recorder:
            await recorder.wait_names("a.test:8000")
            assert str(recorder.last[0].address) == "127.0.0.7:8000"

    run(main())
    assert server.count("a.test") == 0


def test_services_whose_targets_are_gone_are_left_out_unless_all_are(server: NameServer) -> None:
    services(server, "0 0 8000 a.test.", "0 0 8000 gone.test.", a=["127.0.0.1"])
    asked = source(server, name=SERVICE, port=None, record="SRV")

    async def main() -> None:
        async with watched(asked) as recorder:
            await recorder.wait_names("a.test:8000")
        services(server, "0 0 8000 gone.test.")
        assert "no target of the SRV records" in await failure(asked)
        for nothing in ("0 0 0 .", "0 0 8000 ."):
            services(server, nothing)
            assert "no target of the SRV records" in await failure(asked)

    run(main())


def test_a_record_that_says_there_is_no_such_service_spoils_no_other(server: NameServer) -> None:
    services(server, "0 0 8000 a.test.", "1 0 8000 .", "0 0 0 b.test.", a=["127.0.0.1"], b=["127.0.0.2"])

    async def main() -> None:
        async with watched(source(server, name=SERVICE, port=None, record="SRV")) as recorder:
            await recorder.wait_names("a.test:8000")

    run(main())


def test_part_of_an_answer_is_none(server: NameServer) -> None:
    """A target whose address cannot be had at the moment says nothing against its backend."""
    services(server, "0 0 8000 a.test.", "0 0 8000 b.test.", a=["127.0.0.1"])
    answers = server.answers

    def half_broken(data: bytes, transport: str) -> list[bytes]:
        return [] if b"\x01b\x04test" in data else answers(data, transport)

    server.answers = half_broken  # type: ignore[method-assign]

    async def main() -> None:
        async with watched(source(server, name=SERVICE, port=None, record="SRV", timeout=0.3)) as recorder:
            await recorder.wait_error()
            assert recorder.answers == []

    run(main())


def test_nothing_is_left_open(server: NameServer) -> None:
    async def main() -> None:
        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd"))

        async def round_trip() -> None:
            async with watched(source(server)) as recorder:
                await recorder.wait_names("127.0.0.1:80", "127.0.0.2:80")
            server.silent = True
            with contextlib.suppress(TimeoutError):
                await failure(source(server, timeout=0.05))
            server.silent = False

        await round_trip()
        before = descriptors()
        for _ in range(3):
            await round_trip()
        assert descriptors() <= before

    run(main())


def misbehaving(server: NameServer, change: Callable[[dns.message.Message, dns.message.Message], object]) -> None:
    """Let the server change each answer before it is sent; no answer if the change says False."""
    answers = server.answers

    def changed(data: bytes, transport: str) -> list[bytes]:
        query = dns.message.from_wire(data)
        sent = []
        for wire in answers(data, transport):
            response = dns.message.from_wire(wire)
            if change(query, response) is not False:
                sent.append(response.to_wire(max_size=65535))
        return sent

    server.answers = changed  # type: ignore[method-assign]


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED, dns.rcode.FORMERR])
def test_a_type_that_fails_does_not_void_the_addresses_of_another(server: NameServer, rcode: dns.rcode.Rcode) -> None:
    def refuse(query: dns.message.Message, response: dns.message.Message) -> None:
        if query.question[0].rdtype == dns.rdatatype.AAAA:
            response.answer.clear()
            response.set_rcode(rcode)

    misbehaving(server, refuse)

    async def main() -> None:
        async with watched(source(server, record=["A", "AAAA"])) as recorder:
            await recorder.wait_names("127.0.0.1:80", "127.0.0.2:80")
        del server.records[NAME, "A"]
        server.records[NAME, "TXT"] = ["x"]
        assert dns.rcode.to_text(rcode) in await failure(source(server, record=["A", "AAAA"]))

    run(main())


@pytest.mark.parametrize("how", ["FORMERR", "FORMERR without a question", "NOTIMP", "BADVERS", "dropped"])
def test_a_server_that_does_not_know_edns_is_asked_without_it(server: NameServer, how: str) -> None:
    def refuse(query: dns.message.Message, response: dns.message.Message) -> object:
        response.use_edns(-1)
        if query.edns < 0:
            return None
        response.answer.clear()
        if how == "dropped":
            return False
        if how == "BADVERS":
            response.use_edns(0)
        if how.endswith("question"):
            response.question.clear()
        response.set_rcode(dns.rcode.from_text(how.partition(" ")[0]))
        return None

    misbehaving(server, refuse)

    async def main() -> None:
        async with watched(source(server, timeout=1.0 if how == "dropped" else 5.0)) as recorder:
            await recorder.wait_names("127.0.0.1:80", "127.0.0.2:80")
            await eventually(lambda: len(recorder.answers) > 3)

    run(main())
    # Once it is known, it is not tried each time.
    assert len(server.asked) < 8


def test_a_type_that_did_not_come_along_is_asked_for(server: NameServer) -> None:
    services(server, "0 0 8000 a.test.", a=["127.0.0.1"])
    server.additional = {("a.test", "AAAA"): ["2001:db8::7"]}

    async def main() -> None:
        async with watched(source(server, name=SERVICE, port=None, record="SRV")) as recorder:
            await recorder.wait_names("a.test:8000")
            assert str(recorder.last[0].address) == "127.0.0.1:8000"
        del server.records["a.test", "A"]
        async with watched(source(server, name=SERVICE, port=None, record="SRV")) as recorder:
            await recorder.wait_names("a.test:8000")
            assert str(recorder.last[0].address) == "[2001:db8::7]:8000"

    run(main())


def test_a_target_keeps_its_address_while_it_has_it(server: NameServer) -> None:
    services(server, "0 0 8000 a.test.", a=["127.0.0.5"])

    async def main() -> None:
        async with watched(source(server, name=SERVICE, port=None, record="SRV")) as recorder:
            await recorder.wait_names("a.test:8000")
            services(server, "0 0 8000 a.test.", a=["127.0.0.3", "127.0.0.5"])
            await recorder.wait_names("a.test:8000", "a.test:8000@127.0.0.3")
            assert {one.name: one.address.host for one in recorder.last}["a.test:8000"] == "127.0.0.5"

    run(main())


@pytest.fixture
def system(server: NameServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NameServer:
    """The servers and names of the system: one server, a search list, and a file of hosts."""
    (tmp_path / "hosts").write_text("127.0.0.9 listed.lan\n127.0.0.10 listed.lan\n::1 listed.lan six.lan\n")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\nsearch one.test two.test\n")
    monkeypatch.setattr(hosts, "PATH", str(tmp_path / "hosts"))
    read = dns.asyncresolver.Resolver.read_resolv_conf

    def redirected(self: dns.asyncresolver.Resolver, _path: str) -> None:
        read(self, str(tmp_path / "resolv.conf"))
        self.port = server.port

    monkeypatch.setattr(dns.asyncresolver.Resolver, "read_resolv_conf", redirected)
    return server


def test_names_of_the_hosts_file_need_no_server(system: NameServer) -> None:
    async def main() -> None:
        async with watched(source(name="Listed.lan")) as recorder:
            await recorder.wait_names("127.0.0.9:80", "127.0.0.10:80")
        async with watched(source(name="listed.lan.", record=["A", "AAAA"])) as recorder:
            await recorder.wait_names("127.0.0.9:80", "127.0.0.10:80", "[::1]:80")

    run(main())
    assert system.asked == []


def test_a_target_in_the_hosts_file_is_one(system: NameServer) -> None:
    system.records = {(SERVICE, "SRV"): ["0 0 80 six.lan."]}

    async def main() -> None:
        async with watched(source(name=SERVICE, port=None, record="SRV")) as recorder:
            await recorder.wait_names("six.lan:80")

    run(main())


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("app", ["app.one.test", "app.two.test"]),
        ("app.x", ["app.x", "app.x.one.test", "app.x.two.test"]),
    ],
)
def test_search_domains_go_on_behind_one_that_fails(system: NameServer, name: str, asked: list[str]) -> None:
    system.records = {(asked[-1], "A"): ["127.0.0.7"]}

    def fail(query: dns.message.Message, response: dns.message.Message) -> None:
        if ".one." in query.question[0].name.to_text():
            response.set_rcode(dns.rcode.SERVFAIL)

    misbehaving(system, fail)

    async def main() -> None:
        async with watched(source(name=name)) as recorder:
            await recorder.wait_names("127.0.0.7:80")

    run(main())
    assert [one for _, one, _ in system.asked][: len(asked)] == asked
