"""Lists of networks are compiled once for all listeners that have them, and again only when they change."""

from __future__ import annotations

import threading

from l4lb.config import Config
from l4lb.config.fields.networks import NetworkFile, read_network
from l4lb.engine.packing import pack_networks
from l4lb.state.access import NO_ACCESS, Access, compile_access
from tests.helpers.build import config
from tests.helpers.fake_engine import FakeTable
from tests.helpers.loops import run
from tests.helpers.stage import A, staged


def packed(*networks: str) -> bytes:
    return pack_networks(map(read_network, networks))


def listening(*listeners: dict[str, object]) -> Config:
    entries = {f"l{number}": {"bind": "127.0.0.1:0", "pool": "app"} | one for number, one in enumerate(listeners)}
    return config(A, listeners=entries)


def compiled(wanted: Config, known: dict[str, Access] | None = None) -> tuple[dict[str, Access], int]:
    """What comes of it, and how many tables were compiled."""
    tables: list[FakeTable] = []

    def compile_table(networks: bytes) -> FakeTable:
        tables.append(FakeTable(networks))
        return tables[-1]

    return compile_access(wanted, known or {}, compile_table), len(tables)


def test_each_list_has_a_table_and_no_list_none() -> None:
    wanted = listening({"allow": ["10.0.0.0/8"], "deny": ["::1"], "proxy_protocol": {"from": ["127.0.0.1"]}}, {})
    found, number = compiled(wanted)
    assert [found["l0"].allow, found["l0"].deny, found["l0"].proxy_from] == [
        FakeTable(packed("10.0.0.0/8")),
        FakeTable(packed("::1")),
        FakeTable(packed("127.0.0.1")),
    ]
    assert (found["l1"], number) == (NO_ACCESS, 3)


def test_listeners_share_the_table_of_the_same_list() -> None:
    file = NetworkFile("a.lst", packed("10.1.0.0/16", "10.2.0.0/16"))
    found, number = compiled(listening({"deny": file}, {"deny": [file]}, {"allow": file}))
    assert number == 1
    assert found["l0"].deny is found["l1"].deny is found["l2"].allow


def test_what_did_not_change_is_not_compiled_again() -> None:
    first, _ = compiled(listening({"deny": ["10.0.0.0/8"]}, {"deny": NetworkFile("a.lst", packed("::1"))}))
    second, number = compiled(listening({"deny": ["10.0.0.0/8"]}, {"deny": NetworkFile("a.lst", packed("::2"))}), first)
    assert number == 1
    assert second["l0"] is first["l0"]


def test_an_empty_file_is_an_empty_list_and_not_a_missing_one() -> None:
    found, _ = compiled(listening({"allow": NetworkFile("a.lst")}, {"allow": []}))
    assert (found["l0"].allow, found["l1"].allow) == (FakeTable(b""), None)


def test_networks_are_compiled_away_from_the_loop_and_once() -> None:
    async def body() -> None:
        async with staged() as stage:
            compile_networks, threads = stage.engine.compile_networks, set()

            def compile_noting(networks: bytes) -> FakeTable:
                threads.add(threading.get_ident())
                return compile_networks(networks)

            stage.engine.compile_networks = compile_noting  # type: ignore[method-assign, assignment]
            wanted = config(A, listener={"deny": ["10.0.0.0/8"]})
            await stage.apply(wanted)
            assert stage.engine.compiled == 1
            assert threading.get_ident() not in threads
            await stage.balancer.add_backend("app", {"address": "127.0.0.1:9009"})
            stage.balancer.set_backend("app", A, weight=3)
            await stage.apply(config(A, listener={"deny": ["10.0.0.0/8"]}, pool={"retries": 1}))
            assert stage.engine.compiled == 1
            assert stage.engine.snapshot.listeners[0].deny == FakeTable(packed("10.0.0.0/8"))

    run(body())
