"""Configurations that change all the time: everything that holds something comes and goes, each in its own rhythm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.balancer import Json


def storm_config(turn: int, *backends: object) -> Json:
    """Every turn differs from the last: in backends, weights and balancing, and in a listener that comes and goes."""
    first, second, third = map(str, backends)
    entries: list[Json] = [
        {"name": "first", "address": first, "weight": 1 + turn % 3},
        {"name": "second", "address": second},
    ]
    if turn % 2:
        entries.insert(turn % 3, {"name": "third", "address": third})
    config: Json = {
        "process": {"drain_timeout": "10s"},
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
        "pools": {
            "main": {
                "backends": entries,
                "balance": ("round_robin", "least_connections", "maglev", "power_of_two")[turn % 4],
                "hash": {"table_size": 1021},
            }
        },
    }
    if turn % 4 == 3:
        config["listeners"]["extra"] = {"bind": "127.0.0.1:0", "pool": "extra"}
        config["pools"]["extra"] = {"backends": [third], "health": {"type": "tcp", "interval": "100ms"}}
    return config


@dataclass(frozen=True, slots=True)
class Weather:
    """`secure` speaks TLS, with a certificate for b.test of `authority`. `answering` is behind the listener `answers`,
    with a weight that changes all the time."""

    directory: Path
    backends: Sequence[str]
    secure: str
    authority: str
    answering: str

    def config(self, turn: int) -> Json:
        config = storm_config(turn, *self.backends)
        pools, listeners, main = config["pools"], config["listeners"], config["pools"]["main"]
        config["log"] = {
            "level": ("info", "debug")[turn % 2],
            "format": ("text", "json")[turn % 3 == 2],
            # Another setting is another writer on the same file.
            "access": {"interval": f"{60 + turn % 5}s"},
        }
        pools["answers"] = {"backends": [{"name": "only", "address": self.answering, "weight": 1 + turn % 4}]}
        listeners["answers"] = {"bind": "127.0.0.1:0", "pool": "answers"}
        if turn % 3 == 1:
            main["sticky"] = {"entries": 1000 + turn % 2}
            main["passive"] = {}
        if turn % 5 == 1:
            config["zones"] = {"here": ["127.0.0.0/8"], f"z{turn % 7}": ["10.0.0.0/8"]}
            main["backends"][0]["zone"] = "here"
        if turn % 5 == 2:
            pools["secure"] = {
                "backends": [self.secure],
                "health": {"type": "tcp", "interval": "50ms", "tls": {"ca": self.authority, "server_name": "b.test"}},
                "rebalance": {},
                "slow_start": "1s",
            }
            listeners["unix"] = {"bind": f"unix:{self.directory / 'web.sock'}", "pool": "secure"}
        if turn % 5 == 3:
            targets = self.directory / "targets.json"
            targets.write_text(json.dumps([{"targets": list(self.backends)}]))
            pools["found"] = {"discover": {"file": {"path": str(targets)}}, "balance": "maglev"}
            listeners["found"] = {"bind": [f"127.0.0.{2 + turn % 9}:0"], "pool": "found", "allow": ["127.0.0.0/8"]}
        if turn % 7 == 4:
            scraped = {"url": "http://{host}:{port}/metrics", "interval": "50ms", "signals": {"queue": "waiting"}}
            pools["loaded"] = {
                "backends": list(self.backends),
                "load": scraped,
                "agent": {"port": int(self.backends[0].rpartition(":")[2]), "interval": "50ms"},
            }
        return config
