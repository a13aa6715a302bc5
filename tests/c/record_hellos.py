"""Writes hellos.h: what real TLS clients send first, so that the parser is tested on it where they are not installed.

Run it with openssl, curl and curl_cffi (which speaks as browsers do) there, and look at the difference:
`python tests/c/record_hellos.py > tests/c/hellos.h`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable

HOST = "model.llama.example"
DEADLINE = 10.0

Client = Callable[[int], object]


def python(name: str, version: ssl.TLSVersion) -> Client:
    def speak(port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.minimum_version = context.maximum_version = version
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), DEADLINE) as sock:
            context.wrap_socket(sock, server_hostname=name or None)

    return speak


def command(*words: str) -> Client:
    def speak(port: int) -> None:
        filled = [word.format(host=HOST, port=port) for word in words]
        subprocess.run(filled, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, check=False)

    return speak


def openssl(*options: str) -> Client:
    return command("openssl", "s_client", "-connect", "127.0.0.1:{port}", *options)


def browser(kind: str) -> Client:
    code = (
        "import sys, curl_cffi as c; url, kind, address = sys.argv[1:]; "
        "c.get(url, impersonate=kind, curl_options=dict([(c.CurlOpt.RESOLVE, [address])]))"
    )
    return command(sys.executable, "-c", code, "https://{host}:{port}/", kind, "{host}:{port}:127.0.0.1")


CLIENTS: dict[str, tuple[str, Client]] = {
    "python, TLS 1.3": (HOST, python(HOST, ssl.TLSVersion.TLSv1_3)),
    "python, TLS 1.2": (HOST, python(HOST, ssl.TLSVersion.TLSv1_2)),
    "python, no name": ("", python("", ssl.TLSVersion.TLSv1_3)),
    "openssl, TLS 1.0": (HOST, openssl("-servername", HOST, "-tls1", "-cipher", "ALL:@SECLEVEL=0")),
    "openssl, upper case": (HOST, openssl("-servername", HOST.upper())),
    "openssl, no name": ("", openssl("-noservername")),
    "curl": (HOST, command("curl", "-sk", "https://{host}:{port}/", "--resolve", "{host}:{port}:127.0.0.1")),
    "chrome": (HOST, browser("chrome")),
    "firefox": (HOST, browser("firefox")),
    "safari": (HOST, browser("safari")),
}
"""Each with the name that it asks for."""


def receive(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        assert piece, "the client left within its first record"
        data += piece
    return data


def record(client: Client) -> bytes:
    """The first record of the client, whose handshake then fails."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE)
        speaking = threading.Thread(target=client, args=(server.getsockname()[1],))
        speaking.start()
        with server.accept()[0] as sock:
            sock.settimeout(DEADLINE)
            head = receive(sock, 5)
            data = head + receive(sock, int.from_bytes(head[3:]))
        speaking.join()
    return data


def main() -> None:
    out = ["/* SPDX-License-Identifier: Apache-2.0 */", "/* Written by record_hellos.py. */", "/* clang-format off */"]
    out += ["static const struct {", "    const char *client;", "    const char *name;", "    const char *hex;"]
    out += ["} recorded[] = {"]
    for title, (name, client) in CLIENTS.items():
        lines = textwrap.wrap(record(client).hex(), 110)
        out += [f'    {{"{title}", "{name}",', *(f'     "{line}"' for line in lines)]
        out[-1] += "},"
    out += ["};", "/* clang-format on */"]
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
