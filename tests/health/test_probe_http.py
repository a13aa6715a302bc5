"""HTTP checks against servers that respond well, badly, slowly or not at all."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from l4lb.config.model import Health
from l4lb.health.probes import Outcome, Subject, failure, http, success
from l4lb.net.connection import Connection, ReplyError, new_socket
from tests.applications.conftest import daemon, program
from tests.health.probing import SHORT, address_of, check, target
from tests.health.web_server import OK, Web, check_http
from tests.helpers.loops import eventually, run
from tests.helpers.peers import Address, End, Peer, Served, refused, spelled
from tests.helpers.waiting import wait_until


def test_http_ok(place: dict[str, Any]) -> None:
    with Web(OK, **place) as web:
        address = address_of(web)
        assert check_http(address) == success("HTTP 200")
        host = b"localhost" if isinstance(address, str) else spelled(address).encode()
        assert b"\r\nHost: " + host + b"\r\n" in web.requests[0]


@pytest.mark.parametrize(
    ("code", "statuses", "ok"),
    [
        (200, None, True),
        (204, None, True),
        (399, None, True),
        (404, None, False),
        (503, None, False),
        (503, [503], True),
        (200, [503], False),
        (204, ["200-203", 204], True),
    ],
)
def test_http_status(code: int, statuses: list[object] | None, ok: bool) -> None:
    with Web(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % code) as web:
        settings = {} if statuses is None else {"status": statuses}
        assert check_http(web.address, **settings) == (success if ok else failure)(f"HTTP {code}")


def test_http_asks_for_the_path_as_it_is_written() -> None:
    with Web(OK) as web:
        check_http(web.address, path="/v1/health?full=1&q=%2Fa")
        line, _, rest = web.requests[0].partition(b"\r\n")
        assert line == b"GET /v1/health?full=1&q=%2Fa HTTP/1.1"
        assert f"Host: 127.0.0.1:{web.address[1]}\r\n".encode() in rest


def test_http_host_header() -> None:
    with Web(OK) as web:
        check_http(web.address, host="model.example")
        assert b"\r\nHost: model.example\r\n" in web.requests[0]
        assert web.requests[0].count(b"Host:") == 1


def test_http_closes_its_connection() -> None:
    with Web(OK) as web:
        check_http(web.address)
        assert web.ended.wait(10)


def test_http_redirect_is_an_answer_and_not_followed() -> None:
    with Web(OK) as elsewhere:
        to = f"http://{elsewhere}/".encode()
        with Web(b"HTTP/1.1 302 Found\r\nLocation: " + to + b"\r\nContent-Length: 0\r\n\r\n") as web:
            assert check_http(web.address) == success("HTTP 302")
            assert check_http(web.address, status=[200]) == failure("HTTP 302")
        assert elsewhere.requests == []


def test_http_body_is_not_waited_for() -> None:
    with Web(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nand then nothing") as web:
        assert check_http(web.address, timeout=SHORT) == success("HTTP 200")


def test_http_endless_stream_is_not_read() -> None:
    with Web(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n") as web:
        assert check_http(web.address, timeout=SHORT) == success("HTTP 200")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_http_status_that_does_not_come_in_time(answer: bytes) -> None:
    with Web(answer) as web:
        result = check_http(web.address, path="/up", timeout=SHORT)
        assert result.outcome is Outcome.TIMEOUT
        what = (
            f"no complete response to GET /up: expected a status, but '{answer.decode()[:8]}"
            if answer
            else "no answer to GET /up"
        )
        assert result.message.startswith(what)


@pytest.mark.parametrize("more", [{"body": "ok"}, {"answer_headers": {"X": "y"}}])
def test_http_what_is_missing_of_an_answer_is_said(more: dict[str, Any]) -> None:
    with Web(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + (b"\r\nok" if "body" in more else b"")) as web:
        result = check_http(web.address, timeout=SHORT, **more)
        what = "body" if "body" in more else "head"
        assert f"expected the end of the {what} behind 200, but 'HTTP/1.1 200 OK" in result.message


def test_http_answer_that_came_before_the_request_is_none() -> None:
    async def main(address: Address) -> str:
        with new_socket(target(address)) as sock:
            connection = Connection(sock)
            await connection.open(address, "off")
            await eventually(lambda: select.select([sock], [], [], 0)[0])
            with pytest.raises(ReplyError) as error:
                await http.ask(connection, target(address), Health(type="http"), Subject())
            return str(error.value)

    def early(peer: Peer) -> None:
        peer.send(OK)
        peer.finish()
        peer.drain()

    with Served(early) as served:
        assert run(main(served.address)) == "the connection ended without a response"


def test_http_status_is_taken_as_soon_as_it_is_there() -> None:
    with Web(b"HTTP/1.1 200 OK\r\nX: not the end of the head\r\n") as web:
        assert check_http(web.address) == success("HTTP 200")
    with Web(b"HTTP/1.1 503 No\r\nX: not the end of the head\r\n") as web:
        assert check_http(web.address, body="x") == failure("HTTP 503")


LENIENT = [
    b"HTTP/1.0 200 OK\nContent-Type: text/plain\n\nok\n",
    b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1  200  OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/0.9 200 OK\r\n\r\nok",
    b"HTTP/2.0 200 OK\r\n\r\nok",
    b"\r\n\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-Thing : 1\r\nno colon\r\n: no name\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX: folded\r\n  line\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 Schön\r\nX-Name: Zürich\r\nContent-Length: 2\r\n\r\nok".encode(),
    b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\nnonsense",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\n\nHTTP/1.1 200 OK\r\n\r\nok",
]


@pytest.mark.parametrize("end", [Peer.close, Peer.reset], ids=["fin", "reset"])
@pytest.mark.parametrize("answer", LENIENT, ids=range(len(LENIENT)))
def test_http_answers_that_a_person_would_accept(answer: bytes, end: Callable[[Peer], None]) -> None:
    """In one piece and byte by byte, and whatever becomes of the connection behind them."""

    def serve(peer: Peer, size: int) -> None:
        while peer.receive(1) != b"\n" or peer.receive(2) != b"\r\n":
            pass
        for at in range(0, len(answer), size):
            peer.send(answer[at : at + size])
        peer.wait_acknowledged()
        end(peer)

    for size in (1, len(answer)):
        with Served(lambda peer, size=size: serve(peer, size)) as served:  # type: ignore[misc]
            assert check_http(served.address) == success("HTTP 200")
            assert check_http(served.address, body="ok") == success("HTTP 200")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x01\x02\x03" * 100,
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"\r\n" * 100_000,
        b"-ERR unknown command\r\n",
    ],
)
def test_http_garbage_is_a_failure_with_a_message(answer: bytes) -> None:
    with Web(answer) as web:
        result = check_http(web.address)
        assert not result.ok
        assert result.message
        assert not result.message.startswith("no ")


@pytest.mark.parametrize(("method", "sent"), [("HEAD", None), ("OPTIONS", None), ("POST", "grün"), ("GET", "hex:00ff")])
def test_http_method_and_body_of_the_request(method: str, sent: str | None) -> None:
    body = b"" if sent is None else b"\0\xff" if sent.startswith("hex:") else sent.encode()
    received: list[bytes] = []

    def handle(peer: Peer) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += peer.receive(1)
        received.extend((head, peer.receive(len(body))))
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        peer.drain()

    more = {} if sent is None else {"send": sent}
    with Served(handle) as served:
        assert check_http(served.address, method=method, path="/x", **more) == success("HTTP 200")
    assert received[0].startswith(f"{method} /x HTTP/1.1\r\n".encode())
    assert received[1] == body
    assert (b"\r\nContent-Length: %d\r\n" % len(body) in received[0]) is (bool(body) or method == "POST")


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"answer_headers": {"x-role": "^leader$"}}, None),
        ({"answer_headers": {"X-Role": "!follower", "X-Absent": "!."}}, None),
        ({"answer_headers": {"X-Role": "!lead"}}, "the header 'X-Role' matches '!lead': 'leader'"),
        ({"answer_headers": {"X-Absent": "."}}, "there is no header 'X-Absent'"),
        ({"body": ["^ok", "!maintenance", "!down"]}, None),
        ({"body": "!ok"}, "the body matches '!ok': 'ok'"),
        ({"body": ["ok", "ready"]}, "the body does not match 'ready': 'ok'"),
        ({"status": ["200-399", "!302"]}, None),
        ({"status": "!500-599"}, None),
    ],
)
def test_http_what_is_expected_and_what_must_not_be(patterns: dict[str, Any], message: str | None) -> None:
    with Web(b"HTTP/1.1 200 OK\r\nX-Role: leader\r\nContent-Length: 2\r\n\r\nok") as web:
        expected = success("HTTP 200") if message is None else failure(f"HTTP 200, but {message}")
        assert check_http(web.address, **patterns) == expected


@pytest.mark.parametrize("status", ["!200", ["200-299", "!200-204"], ["!100-199", "!200"]])
def test_http_status_that_is_excluded(status: object) -> None:
    with Web(OK) as web:
        assert check_http(web.address, status=status) == failure("HTTP 200")


def test_http_server_gets_its_whole_answer_out() -> None:
    """One that is reset while it writes logs that."""
    written = threading.Event()

    def handle(peer: Peer) -> None:
        while peer.receive(1) != b"\n" or peer.receive(2) != b"\r\n":
            pass
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.wait_acknowledged()
        peer.send(b"x" * 50_000)
        peer.finish()
        assert peer.ended() is End.FIN
        written.set()

    with Served(handle) as served:
        assert check_http(served.address).ok
        assert written.wait(10)


def test_http_more_headers() -> None:
    with Web(OK) as web:
        check_http(web.address, headers={"Authorization": "Bearer x", "X-Number": 7, "user-agent": "mine"})
        head = web.requests[0]
        assert b"\r\nAuthorization: Bearer x\r\n" in head
        assert b"\r\nX-Number: 7\r\n" in head
        assert head.lower().count(b"user-agent:") == 1


def chunked(*pieces: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


@pytest.mark.parametrize(
    ("answer", "ok"),
    [
        (b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"status": "UP" }', True),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"status":"DOWN"}', False),
        (chunked(b'{"sta', b'tus":"', b'UP"}'), True),
        (b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"status":"UP"', True),
        (b'HTTP/1.1 503 No\r\nContent-Length: 15\r\n\r\n{"status":"UP"}', False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False),
    ],
)
def test_http_body(answer: bytes, ok: bool) -> None:
    with Web(answer) as web:
        result = check_http(web.address, body=r'"status":\s*"UP"')
        assert result.ok is ok
        assert ok or "HTTP" in result.message


def test_http_body_that_does_not_match_is_quoted() -> None:
    with Web(OK) as web:
        assert check_http(web.address, body="^ready$") == failure(
            "HTTP 200, but the body does not match '^ready$': 'ok'"
        )


def test_http_body_is_looked_at_so_far_and_no_further() -> None:
    length = 10_000_000
    with Web(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%bneedle" % (length, b"x" * 100_000)) as web:
        assert not check_http(web.address, body="needle").ok
        assert check_http(web.address, body="x{1000}").ok


def test_http_pattern_that_would_take_for_ever_is_given_up() -> None:
    with Web(b"HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n" + b"a" * 40 + b"!") as web:
        result = check_http(web.address, body="^(a|a)*$")
        assert "took longer than 50 ms" in result.message


def test_http_message_is_one_short_line() -> None:
    with Web(b"\x00\x01\r\n" * 1000) as web:
        message = check_http(web.address).message
        assert "\n" not in message
        assert len(message) <= 200


@pytest.mark.parametrize("how", [Peer.close, Peer.reset])
def test_http_connection_that_ends_without_an_answer(how: Callable[[Peer], None]) -> None:
    with Served(how) as served:
        result = check_http(served.address)
        assert not result.ok
        assert result.message


def test_http_nginx(tmp_path: Path) -> None:
    path = tmp_path / "nginx.sock"
    (tmp_path / "nginx.conf").write_text(f"""
        daemon off; pid {tmp_path}/pid; error_log stderr;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {tmp_path}/a; proxy_temp_path {tmp_path}/b; fastcgi_temp_path {tmp_path}/c;
            uwsgi_temp_path {tmp_path}/d; scgi_temp_path {tmp_path}/e;
            server {{
                listen unix:{path} proxy_protocol;
                location /ready {{ return 200 "ready for $http_x_check\\n"; }}
                location / {{ return 503; }}
            }}
        }}
    """)
    command = [program("nginx"), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    with daemon(*command, log=tmp_path / "log"):
        wait_until(lambda: check(str(path)).ok)
        subject = Subject(send_proxy="v2")
        ready = {"path": "/ready", "headers": {"X-Check": "me"}, "subject": subject}
        assert check_http(str(path), body="^ready for me$", **ready) == success("HTTP 200")
        assert not check_http(str(path), body="^ready for you$", **ready).ok
        assert check_http(str(path), subject=subject) == failure("HTTP 503")
        assert not check_http(str(path), path="/ready").ok


def test_http_refused() -> None:
    with refused() as address:
        assert check_http(address) == failure("Connection refused")
