"""A scrape is bounded in time and size, and says what went wrong."""

from __future__ import annotations

import pytest

from l4lb.config.fields.series import Series
from l4lb.load import scraper
from l4lb.load.exposition import Signal
from l4lb.load.scraper import fill, new_client, scrape
from tests.helpers.loops import run
from tests.helpers.peers import refused
from tests.load.servers import answering, http

WANTED = {"queue": (Series("q"),)}


async def scraped(url: str, timeout: float = 5.0) -> dict[Signal, float]:
    client = new_client()
    try:
        return await scrape(client, url, WANTED, timeout)  # type: ignore[arg-type]
    finally:
        await client.close()


def test_a_server_is_asked_for_its_metrics_on_one_connection() -> None:
    heads: list[bytes] = []

    def answer(head: bytes) -> bytes:
        heads.append(head)
        return http(f"q {len(heads)}\n")

    async def main() -> None:
        async with answering(answer) as (host, port):
            client = new_client()
            for number in (1, 2):
                assert await scrape(client, f"http://{host}:{port}/metrics?a=%2F", WANTED, 5.0) == {"queue": number}  # type: ignore[arg-type]
            await client.close()

    run(main())
    assert heads[0].startswith(b"GET /metrics?a=%2F HTTP/1.1\r\n")
    assert b"Accept: text/plain;version=0.0.4" in heads[0]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (http("q 1\n", "503 Service Unavailable"), "HTTP 503"),
        (http("", "302 Found"), "HTTP 302$"),
        (http("", "307 Temporary Redirect", "Location: /metrics/\r\n"), "HTTP 307 more than 3 times"),
        (
            http("", "301 Moved", "Location: http://127.9.9.9/metrics\r\n"),
            "HTTP 301, to another host: 'http://127.9.9.9",
        ),
        (http("", "301 Moved", "Location: //127.9.9.9/metrics\r\n"), "HTTP 301, to another host"),
        (http("", "301 Moved", "Location: ftp://127.0.0.1/\r\n"), "a URL begins with http"),
        (http("<!doctype html><p>q 1</p>"), "HTML"),
        (http("q 1\n" + "#" * (scraper.BODY_MAX + 1)), "larger than"),
        (b"nonsense\r\n\r\n", "nonsense"),
    ],
    ids=["503", "302", "loop", "other", "slashes", "ftp", "html", "large", "nonsense"],
)
def test_an_answer_without_metrics_is_a_failure(answer: bytes, message: str) -> None:
    async def main() -> None:
        async with answering(lambda _: answer) as (host, port):
            with pytest.raises((ValueError, OSError), match=message):
                await scraped(f"http://{host}:{port}/metrics")

    run(main())


@pytest.mark.parametrize(
    "location", ["/metrics/", "metrics/", "http://{host}:{port}/metrics/", "//{host}:{port}/metrics/", "?x=1"]
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_host_is_followed(location: str, status: int) -> None:
    heads: list[bytes] = []

    async def main() -> None:
        def answer(head: bytes) -> bytes:
            heads.append(head)
            if len(heads) == 1:
                to = location.format(host=host, port=port)
                return http("moved", f"{status} Elsewhere", f"Location: {to}\r\n")
            return http("q 4\n")

        async with answering(answer) as (host, port):
            assert await scraped(f"http://{host}:{port}/metrics") == {"queue": 4}

    run(main())
    assert heads[1].split()[1] == (b"/metrics?x=1" if location == "?x=1" else b"/metrics/")


def test_bytes_that_are_no_text_spoil_only_their_line() -> None:
    async def main() -> None:
        async with answering(lambda _: http(b'x{a="\xff"} 1\nq 4\n')) as (host, port):
            assert await scraped(f"http://{host}:{port}/") == {"queue": 4}

    run(main())


def test_a_server_that_hangs_is_given_up() -> None:
    async def main() -> None:
        async with answering(lambda _: None) as (host, port):
            with pytest.raises(TimeoutError, match=r"no answer within 0\.05s"):
                await scraped(f"http://{host}:{port}/", 0.05)

    run(main())


def test_a_server_that_is_not_there_is_a_failure() -> None:
    async def main() -> None:
        with refused() as address:
            assert isinstance(address, tuple)
            with pytest.raises(OSError, match=r".+"):
                await scraped(f"http://{address[0]}:{address[1]}/")

    run(main())


@pytest.mark.parametrize(
    ("template", "host", "url"),
    [
        ("http://{host}:{port}/metrics", "10.0.0.1", "http://10.0.0.1:80/metrics"),
        ("http://{host}:9400/m", "::1", "http://[::1]:9400/m"),
        ("https://metrics.example/{host}", "10.0.0.1", "https://metrics.example/10.0.0.1"),
    ],
)
def test_the_url_has_the_address_of_the_backend(template: str, host: str, url: str) -> None:
    assert fill(template, host, 80) == url
