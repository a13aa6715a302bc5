"""Turns: what is in flight, told from bytes alone, and balancing by it."""

from __future__ import annotations

from click.testing import CliRunner

from l4lb.cli import main
from tests.conftest import MakeScene
from tests.helpers.peers import (
    Address,
    Backend,
    Background,
    End,
    Handler,
    Peer,
    Served,
    connect,
    echo,
    named,
    read_name,
)
from tests.helpers.scene import Scene
from tests.helpers.waiting import observe, wait_until

QUESTION = b"q" * 100
ANSWER = b"a" * 100


def busy(scene: Scene, name: str = "b0") -> int:
    return int(scene.backend_status(name)["busy"])


def phases(scene: Scene) -> list[str]:
    return sorted(session["phase"] for session in scene.lb.sessions())


def ask_over(client: Peer, server: Peer) -> None:
    client.send(QUESTION)
    assert server.receive(len(QUESTION)) == QUESTION


def answer_over(client: Peer, server: Peer) -> None:
    server.send(ANSWER)
    assert client.receive(len(ANSWER)) == ANSWER


def test_turns_are_counted_and_connections_are_not(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    pairs = [scene.pair(backend) for _ in range(10)]
    assert busy(scene) == 0
    assert phases(scene) == ["new"] * 10
    for client, server in pairs[:3]:
        ask_over(client, server)
    wait_until(lambda: busy(scene) == 3)
    assert phases(scene) == ["new"] * 7 + ["wait"] * 3
    for client, server in pairs[:3]:
        answer_over(client, server)
    wait_until(lambda: busy(scene) == 0)
    assert phases(scene) == ["new"] * 7 + ["quiet"] * 3
    assert scene.backend_status()["turns_total"] == 3


def test_stream_is_in_flight_until_it_falls_silent(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    ask_over(client, server)
    for _ in range(20):
        answer_over(client, server)
        assert busy(scene) == 1
        observe(0.02)
    wait_until(lambda: busy(scene) == 0)
    assert phases(scene) == ["quiet"]
    assert scene.backend_status()["turns_total"] == 1
    assert scene.lb.metric("l4lb_backend_stream_gap_seconds_count", pool=scene.pool) == 19
    assert scene.lb.metric("l4lb_backend_turn_seconds_count", pool=scene.pool) == 1


def test_client_that_leaves_while_it_waits_is_in_flight_no_more(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    ask_over(client, server)
    wait_until(lambda: busy(scene) == 1)
    client.reset()
    server.close()
    wait_until(lambda: busy(scene) == 0)


def test_new_session_goes_where_fewest_turns_are_whatever_the_sockets(balance: MakeScene) -> None:
    """A pool of idle connections is no load; one request is."""
    with Backend() as pooled, Backend() as working:
        scene = balance(pooled, {"address": working.address, "weight": 0}, pool={"balance": "least_busy"})
        idle = [scene.pair(pooled) for _ in range(20)]
        observe(0.5)  # until no first request is expected of them any more
        scene.reload(backends=[{"address": pooled.address, "weight": 0}, working])
        client, server = scene.pair(working)
        ask_over(client, server)
        wait_until(lambda: busy(scene, "b1") == 1)
        scene.reload(backends=[pooled, working])
        scene.pair(pooled)
        assert (scene.backend_status("b0")["connections"], scene.backend_status("b1")["connections"]) == (
            len(idle) + 1,
            1,
        )


def test_new_clients_that_come_together_are_spread_before_they_ask(balance: MakeScene) -> None:
    with Served(named("b0")) as one, Served(named("b1")) as other:
        scene = balance(one, other, pool={"balance": "least_busy"})
        clients = [scene.connect() for _ in range(10)]
        assert sorted(read_name(client) for client in clients) == ["b0"] * 5 + ["b1"] * 5


def test_drained_backend_keeps_turns_and_closes_what_is_quiet(balance: MakeScene) -> None:
    with Backend() as leaving, Backend() as staying:
        scene = balance(leaving, {"address": staying.address, "weight": 0})
        quiet = [scene.pair(leaving) for _ in range(3)]
        for client, server in quiet:
            ask_over(client, server)
            answer_over(client, server)
        streaming, server = scene.pair(leaving)
        ask_over(streaming, server)
        wait_until(lambda: busy(scene) == 1)
        scene.lb.request("PATCH", f"/api/v1/pools/{scene.pool}/backends/b0", {"state": "drain"})
        for client, _ in quiet:
            assert client.ended() is End.FIN
        for _ in range(10):
            answer_over(streaming, server)
            observe(0.02)
        assert not streaming.readable()
        assert streaming.ended() is End.FIN
        scene.wait_closed(*["DD drained"] * 4)


def l4lb(scene: Scene, *arguments: str) -> tuple[int, str]:
    """What a command does to the running balancer: its exit status, and what it says."""
    env = {"L4LB_SOCKET": str(scene.lb.socket_path)}
    result = CliRunner(env=env).invoke(main, arguments)
    return result.exit_code, result.stdout


def test_drain_command_waits_for_turns_only(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    quiet, working = scene.pair(backend), scene.pair(backend)
    for client, server in (quiet, working):
        ask_over(client, server)
    answer_over(*quiet)
    waiting = Background(lambda: l4lb(scene, "drain", f"{scene.pool}/b0", "--wait", "--timeout", "1h"))
    assert quiet[0].ended() is End.FIN
    assert busy(scene) == 1
    assert waiting.running()
    answer_over(*working)
    assert waiting.result() == (0, f"{scene.pool}/b0: drained, no connections left\n")
    scene.wait_closed(*["DD drained"] * 2)


def test_drain_command_closes_what_is_left_where_that_is_wanted(balance: MakeScene, backend: Backend) -> None:
    with Backend() as staying:
        scene = balance(backend, {"address": staying.address, "weight": 0})
        client, server = scene.pair(backend)
        ask_over(client, server)
        scene.reload(backends=[{"address": backend.address, "weight": 0}, staying])
        bystander = scene.pair(staying)
        target = f"{scene.pool}/b0"
        assert l4lb(scene, "drain", target, "--wait", "--timeout", "0s")[0] == 1
        answer_over(client, server)
        ask_over(client, server)
        said = (0, f"{target}: drained, no connections left\n")
        assert l4lb(scene, "drain", target, "--wait", "--timeout", "0s", "--kill") == said
        assert client.broken()
        scene.wait_closed("KD killed")
        ask_over(*bystander)


def test_backend_made_ready_again_keeps_its_quiet_sessions(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    path = f"/api/v1/pools/{scene.pool}/backends/b0"
    client, server = scene.pair(backend)
    ask_over(client, server)
    scene.lb.request("PATCH", path, {"state": "drain"})
    scene.lb.request("PATCH", path, {"state": "ready"})
    answer_over(client, server)
    observe(1.5)
    ask_over(client, server)


def test_backend_that_joins_gets_its_share_of_a_keep_alive_pool(balance: MakeScene) -> None:
    """Only quiet connections are closed; the one with a request in flight stays where it is."""
    with Served(echo) as first, Served(echo) as second, Backend() as slow:
        pool = {"balance": "least_connections", "rebalance": {"rate": "200/s", "quiet": "100ms"}}
        scene = balance(slow, pool=pool)
        waiting, server = scene.pair(slow)
        ask_over(waiting, server)
        scene.reload(backends=[slow, first])
        clients = [scene.connect() for _ in range(20)]
        scene.reload(backends=[slow, first, second])

        def shares() -> list[int]:
            for client in [peer for peer in clients if peer.readable()]:
                clients.remove(client)
                assert client.ended() is End.FIN
                clients.append(scene.connect())
            return [scene.backend_status(name)["connections"] for name in ("b0", "b1", "b2")]

        wait_until(lambda: max(shares()) - min(shares()) <= 2, what=shares)
        answer_over(waiting, server)
        assert "DD rebalanced" in scene.closed()


def test_lifetime_lets_a_turn_come_to_its_end(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, pool={"timeouts": {"lifetime": "700ms"}})
    client, server = scene.pair(backend)
    ask_over(client, server)
    observe(1.0)
    answer_over(client, server)
    assert client.ended() is End.FIN
    scene.wait_closed("LD lifetime")


def test_lifetime_ends_even_an_endless_turn(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, pool={"timeouts": {"lifetime": "300ms"}})
    client, server = scene.pair(backend)
    ask_over(client, server)
    assert client.ended() is End.FIN
    scene.wait_closed("LD lifetime")


# ---- HTTP/2 in the clear ---------------------------------------------------------------------------------------------

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


SETTINGS, SETTINGS_HEARD = frame(4, bytes(6)), frame(4, flags=1)
PING, PING_HEARD = frame(6, b"are you?"), frame(6, b"are you?", flags=1)
WINDOW_UPDATE = frame(8, b"\0\0\1\0")


def over(sender: Peer, receiver: Peer, *frames: bytes) -> None:
    """What one says and the other hears."""
    data = b"".join(frames)
    sender.send(data)
    assert receiver.receive(len(data)) == data


def greet(client: Peer, server: Peer) -> None:
    over(client, server, PREFACE, SETTINGS)
    over(server, client, SETTINGS, SETTINGS_HEARD)
    over(client, server, SETTINGS_HEARD)


def ask_in(stream: int, client: Peer, server: Peer) -> None:
    over(client, server, frame(1, bytes(40), 4, stream), frame(0, bytes(200), 1, stream))


def answer_in(stream: int, client: Peer, server: Peer) -> None:
    over(server, client, frame(1, bytes(80), 4, stream), frame(0, bytes(200), 1, stream))


def wait_quiet(scene: Scene, turns: int) -> None:
    """Wait until no question is in flight and there were so many."""

    def seen() -> object:
        return busy(scene), phases(scene), scene.backend_status()["turns_total"]

    wait_until(lambda: seen() == (0, ["quiet"], turns), what=seen)


def heard_by_balancer(scene: Scene, client: Peer, server: Peer, *frames: bytes) -> None:
    """What the client says has come through, and l4lb has settled what it means."""
    before = scene.lb.sessions()[0]["bytes_in"]
    over(client, server, *frames)
    wait_until(lambda: scene.lb.sessions()[0]["bytes_in"] == before + sum(map(len, frames)))


def test_frames_of_http2_that_get_no_answer_are_no_question(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    greet(client, server)
    wait_quiet(scene, 1)
    for number in range(3):
        ask_in(2 * number + 1, client, server)
        wait_until(lambda: (busy(scene), phases(scene)) == (1, ["wait"]))
        answer_in(2 * number + 1, client, server)
        wait_quiet(scene, 2 + number)
        over(server, client, PING)
        heard_by_balancer(scene, client, server, PING_HEARD)
        wait_quiet(scene, 2 + number)
        heard_by_balancer(scene, client, server, WINDOW_UPDATE * 20)  # as long as a question
        wait_quiet(scene, 2 + number)


def test_backend_that_never_says_its_settings_owes_them(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    over(client, server, PREFACE, SETTINGS)
    wait_until(lambda: (busy(scene), phases(scene)) == (1, ["wait"]))


def test_drained_backend_lets_go_of_quiet_connections_of_http2(balance: MakeScene) -> None:
    with Backend() as leaving, Backend() as staying:
        scene = balance(leaving, {"address": staying.address, "weight": 0})
        client, server = scene.pair(leaving)
        greet(client, server)
        ask_in(1, client, server)
        answer_in(1, client, server)
        wait_quiet(scene, 2)
        over(server, client, PING)
        over(client, server, PING_HEARD, WINDOW_UPDATE)
        scene.lb.request("PATCH", f"/api/v1/pools/{scene.pool}/backends/b0", {"state": "drain"})
        assert client.ended() is End.FIN
        scene.wait_closed("DD drained")


# ---- least_latency ---------------------------------------------------------------------------------------------------


def delayed(name: str, seconds: float) -> Handler:
    def serve(peer: Peer) -> None:
        peer.receive(len(QUESTION))
        observe(seconds)
        peer.send(name.encode() + b"\n")
        peer.read_all()

    return serve


def question(address: Address) -> str:
    with connect(address) as client:
        client.send(QUESTION)
        return read_name(client)


def test_least_latency_prefers_the_faster_backend_and_comes_back(balance: MakeScene) -> None:
    with Served(delayed("quick", 0.0)) as quick, Served(delayed("slow", 0.3)) as slow:
        scene = balance(quick, slow, pool={"balance": "least_latency"})
        answers = [question(scene.address) for _ in range(12)]
        assert answers.count("slow") <= 2
        assert answers[-8:] == ["quick"] * 8
        assert scene.backend_status("b1")["latency_s"] is None or scene.backend_status("b1")["latency_s"] > 0.05
