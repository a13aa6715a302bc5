"""Listeners and the sockets opened for them, in few words."""

from __future__ import annotations

import os
import socket

from l4lb.config import Address
from l4lb.config.model import Listener
from l4lb.sockets.bind import Bind, bind_key
from l4lb.sockets.listeners import Sockets

ANY_PORT = "127.0.0.1:0"


def listener(*bind: str, **values: object) -> Listener:
    return Listener.model_validate({"bind": list(bind), "pool": "app"} | values)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def the_bind(sockets: Sockets, address: str, name: str = "web") -> Bind:
    return sockets.binds[bind_key(name, Address.parse(address))]


def shown_port(bind: Bind) -> int:
    return int(bind.shown.rpartition(":")[2])


def listening_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(Address(path=path).unix_name)
    sock.listen()
    return sock
