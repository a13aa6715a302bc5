"""Messages of HTTP/1 as servers send them that record_http1.py does not run."""

from __future__ import annotations

from dataclasses import dataclass

HOST = b"Host: model.llama.example:8000\r\n"
DATE = b"date: Sat, 29 Nov 2025 10:00:00 GMT\r\n"
PROMPT = b'{"model":"llama","prompt":"Hi","stream":true}'
EVENTS = (b'data: {"choices":[{"text":"He"}]}\n\n', b'data: {"choices":[{"text":"llo"}]}\n\n', b"data: [DONE]\n\n")


@dataclass(frozen=True, slots=True)
class Shape:
    """Turns of a connection: each request with its response, and the interim responses before that."""

    turns: tuple[tuple[bytes, tuple[bytes, ...]], ...]
    closes: bool = False
    """The server closes after the last one."""


def get(path: bytes, fields: bytes = b"", method: bytes = b"GET") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\n" + HOST + fields + b"\r\n"


def post(path: bytes, body: bytes = PROMPT, fields: bytes = b"") -> bytes:
    length = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + fields + length + b"\r\n" + body


def head(status: bytes, fields: bytes) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n"


def sized(status: bytes, fields: bytes, body: bytes) -> bytes:
    return head(status, fields + b"content-length: %d\r\n" % len(body)) + body


def chunked(status: bytes, fields: bytes, pieces: tuple[bytes, ...], trailers: bytes = b"") -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head(status, fields + b"transfer-encoding: chunked\r\n") + chunks + b"0\r\n" + trailers + b"\r\n"


UVICORN = DATE + b"server: uvicorn\r\n"
JSON = b"content-type: application/json\r\n"
STREAM = b"content-type: text/event-stream; charset=utf-8\r\n"

VLLM = [
    Shape(
        (
            (get(b"/health"), (head(b"200 OK", UVICORN + b"content-length: 0\r\n"),)),
            (get(b"/v1/models"), (sized(b"200 OK", UVICORN + JSON, b'{"object":"list","data":[{"id":"llama"}]}'),)),
            (post(b"/v1/completions"), (chunked(b"200 OK", UVICORN + STREAM, EVENTS),)),
            (post(b"/v1/completions", b"{}"), (sized(b"400 Bad Request", UVICORN + JSON, b'{"error":{"code":400}}'),)),
            (get(b"/v2"), (sized(b"404 Not Found", UVICORN + JSON, b'{"detail":"Not Found"}'),)),
            (
                get(b"/metrics"),
                (sized(b"200 OK", UVICORN + b"content-type: text/plain\r\n", b"vllm:num_requests 1\n"),),
            ),
            (get(b"/metrics", method=b"HEAD"), (head(b"405 Method Not Allowed", UVICORN + b"content-length: 31\r\n"),)),
            (
                post(b"/v1/completions"),
                (
                    sized(
                        b"500 Internal Server Error",
                        UVICORN + b"content-type: text/plain\r\n",
                        b"Internal Server Error",
                    ),
                ),
            ),
        )
    )
]

SGLANG = [
    Shape(
        (
            (get(b"/health_generate"), (head(b"200 OK", UVICORN + b"content-length: 0\r\n"),)),
            (
                post(b"/generate"),
                (chunked(b"200 OK", UVICORN + STREAM, (b'data: {"text":"Hi","meta_info":{}}\n\n', EVENTS[2])),),
            ),
            (post(b"/v1/chat/completions"), (sized(b"200 OK", UVICORN + JSON, b'{"choices":[{"index":0}]}'),)),
            (get(b"/flush_cache"), (sized(b"200 OK", UVICORN, b"Cache flushed.\n"),)),
        )
    )
]

TGI_FIELDS = b"x-compute-type: gpu\r\naccess-control-allow-origin: *\r\nvary: origin\r\n"
TGI = [
    Shape(
        (
            (
                post(b"/generate_stream"),
                (
                    chunked(
                        b"200 OK",
                        b"content-type: text/event-stream\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
                        + TGI_FIELDS,
                        (
                            b'data:{"index":1,"token":{"id":1},"generated_text":null}\n\n',
                            b":\n\n",
                            b'data:{"index":2}\n\n',
                        ),
                    ),
                ),
            ),
            (
                post(b"/generate"),
                (sized(b"200 OK", JSON + b"x-total-tokens: 3\r\n" + TGI_FIELDS, b'{"generated_text":"Hi"}'),),
            ),
            (
                post(b"/generate"),
                (sized(b"429 Too Many Requests", JSON, b'{"error":"Model is overloaded","error_type":"overloaded"}'),),
            ),
            (get(b"/health"), (head(b"200 OK", TGI_FIELDS + b"content-length: 0\r\n" + DATE),)),
        )
    )
]

TRITON = [
    Shape(
        (
            (get(b"/v2/health/ready"), (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: text/plain\r\n\r\n",)),
            (
                post(
                    b"/v2/models/m/infer",
                    b'{"inputs":[]}' + b"\x00\x01\r\n\xff",
                    b"Inference-Header-Content-Length: 13\r\n",
                ),
                (
                    sized(
                        b"200 OK",
                        b"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: 2\r\n",
                        b"{}\r\n\0",
                    ),
                ),
            ),
            (
                post(b"/v2/models/m/generate_stream"),
                (
                    chunked(
                        b"200 OK",
                        b"Content-Type: text/event-stream; charset=utf-8\r\n",
                        (b'data: {"text_output":"Hi"}\n\n',),
                    ),
                ),
            ),
            (
                post(b"/v2/models/x/infer"),
                (sized(b"400 Bad Request", b"Content-Type: application/json\r\n", b'{"error":"unknown model"}'),),
            ),
        )
    )
]

LLAMA_CPP = [
    Shape(
        (
            (
                post(b"/completion"),
                (
                    chunked(
                        b"200 OK",
                        b"Keep-Alive: timeout=5, max=100\r\nContent-Type: text/event-stream\r\nServer: llama.cpp\r\n"
                        b"Access-Control-Allow-Origin: \r\n",
                        EVENTS,
                    ),
                ),
            ),
            (
                get(b"/health", b"Connection: close\r\n"),
                (sized(b"200 OK", b"Connection: close\r\n" + JSON, b'{"status":"ok"}'),),
            ),
        ),
        closes=True,
    )
]

PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n"
GO = [
    Shape(
        (
            (get(b"/"), (b"HTTP/1.1 200 OK\r\nDate: Sat, 29 Nov 2025 10:00:00 GMT\r\nContent-Length: 3\r\n\r\nok\n",)),
            (get(b"/none"), (b"HTTP/1.1 204 No Content\r\nDate: Sat, 29 Nov 2025 10:00:00 GMT\r\n\r\n",)),
            (
                get(b"/page"),
                (sized(b"404 Not Found", PLAIN + b"X-Content-Type-Options: nosniff\r\n", b"404 page not found\n"),),
            ),
            (
                post(b"/upload", b"abc", b"Expect: 100-continue\r\n"),
                (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            ),
            (
                get(b"/trailers", b"TE: trailers\r\n"),
                (chunked(b"200 OK", b"Trailer: X-Sum\r\n", (b"abc",), b"X-Sum: 1\r\n"),),
            ),
            (
                get(b"/bad", b"Content-Type: a\r\n"),
                (head(b"400 Bad Request", PLAIN + b"Connection: close\r\n") + b"400 Bad Request",),
            ),
        ),
        closes=True,
    ),
    Shape(
        (
            (
                get(b"/", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
                (sized(b"200 OK", b"", b"ok"),),
            ),
        ),
    ),
]

PROXIES = [
    Shape(
        (
            (get(b"/"), (sized(b"200 OK", b"", b"ok"),)),
            (
                get(b"/slow"),
                (
                    head(
                        b"408 Request Time-out",
                        b"Content-length: 0\r\nCache-Control: no-cache\r\nConnection: close\r\n",
                    ),
                ),
            ),
        ),
        closes=True,
    ),
    Shape(
        (
            (
                get(b"/"),
                (b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/html\r\n\r\n<html>no\n",),
            ),
        ),
        closes=True,
    ),
]

SHAPES = {
    "vllm": VLLM,
    "sglang": SGLANG,
    "tgi": TGI,
    "triton": TRITON,
    "llama.cpp": LLAMA_CPP,
    "go": GO,
    "proxies": PROXIES,
}
