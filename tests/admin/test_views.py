"""The JSON of the API has every promised key, with the meaning the interface gives it."""

from __future__ import annotations

import json

from l4lb.admin import views
from l4lb.engine.api import SessionState
from l4lb.status import AdminState, AgentStatus, EjectionStatus, HealthState, LoadStatus
from tests.admin.fake_control import (
    backend_statistics,
    backend_status,
    exhaustive_status,
    make_session,
    make_status,
    pool_status,
    sticky_statistics,
)


def test_status_has_every_promised_key_and_is_json() -> None:
    view = json.loads(json.dumps(views.status_view(make_status())))
    assert {"version", "pid", "uptime_seconds", "config", "listeners", "pools"} <= view.keys()
    assert view["config"] == {
        "file": "/etc/l4lb/l4lb.yaml",
        "loaded_at": "2023-11-14T22:13:20.250Z",
        "last_reload_ok": True,
        "last_reload_at": "2023-11-14T22:13:21.500Z",
        "last_error": None,
        "restart_notes": ["process.workers: 3 takes effect at the next start"],
    }
    assert view["listeners"]["front"]["bind"] == ["127.0.0.1:8000"]
    assert view["listeners"]["front"]["connections"] == 3
    assert view["listeners"]["front"]["connections_total"] == 9
    assert view["pools"]["llama"]["balance"] == "round_robin"
    assert view["pools"]["llama"]["closed_total"] == {"normal": {"--": 5}, "connect_failed": {"SC": 2}}


def test_places_and_panic_are_shown() -> None:
    placed = backend_status(tier=1, zone="eu-1")
    view = views.status_view(make_status({"llama": pool_status({"a": placed}, panic=True)}))["pools"]["llama"]  # type: ignore[index]
    assert view["panic"] is True
    assert [view["backends"]["a"][key] for key in ("tier", "zone")] == [1, "eu-1"]
    assert views.backend_view(backend_status())["zone"] is None


def test_a_pool_shows_what_became_of_its_requests() -> None:
    backend = backend_status(statistics=backend_statistics(responses_total={"2xx": 5, "5xx": 1}))
    view = json.loads(
        json.dumps(views.status_view(make_status({"web": pool_status({"a": backend}, protocol="http1")})))
    )
    pool = view["pools"]["web"]
    assert (pool["protocol"], pool["pinned_total"]) == ("http1", {"upgrade": 3})
    assert {"moves_total", "reused_total", "resends_total", "detached_total"} <= pool.keys()
    assert pool["backends"]["a"]["responses_total"] == {"2xx": 5, "5xx": 1}


def test_a_session_shows_its_moves_and_why_it_keeps_its_backend() -> None:
    view = views.session_view(make_session(state=SessionState.KEPT, moves=3, pin="upgrade", status=101))
    assert [view[key] for key in ("state", "moves", "pin", "status")] == ["kept", 3, "upgrade", 101]


def test_a_pool_shows_how_many_clients_it_remembers_if_it_does() -> None:
    pools = {"plain": pool_status({}), "sticky": pool_status({}, sticky_statistics())}
    view = json.loads(json.dumps(views.status_view(make_status(pools))))["pools"]
    assert view["plain"]["sticky"] is None
    assert view["sticky"]["sticky"] == {
        "entries": 7,
        "entries_max": None,
        "hits_total": 6,
        "misses_total": 5,
        "moved_total": 4,
        "passed_total": 3,
    }


def test_a_backend_counts_bytes_as_its_clients_do() -> None:
    """`bytes_in` is what clients sent, as in the access log: the backend was sent it."""
    view = views.backend_view(
        backend_status(statistics=backend_statistics(sent_bytes_total=10, received_bytes_total=99))
    )
    assert (view["bytes_in"], view["bytes_out"]) == (10, 99)


def test_a_backend_says_whether_it_is_ejected() -> None:
    out = EjectionStatus(cause="black_hole", left=1.23456, ejections_total={"failures": 0, "black_hole": 2})
    expected = {"cause": "black_hole", "left_s": 1.235, "ejections_total": {"failures": 0, "black_hole": 2}}
    assert views.backend_view(backend_status(ejection=out))["ejection"] == expected
    assert views.backend_view(backend_status())["ejection"] is None
    view = views.backend_view(
        backend_status(flaps=2, stalled=True, cold_left=1, statistics=backend_statistics(resets_total=3))
    )
    assert view["cold_left"] == 1
    assert (view["flaps"], view["stalled"], view["resets_total"]) == (2, True, 3)


def test_a_backend_has_every_promised_key() -> None:
    view = views.backend_view(
        backend_status(
            address="127.0.0.1:8001",
            weight=4,
            effective_weight=3,
            statistics=backend_statistics(connections=5, busy=2, connections_total=70),
        )
    )
    promised = {
        "address": "127.0.0.1:8001",
        "state": "ready",
        "health": "up",
        "weight": 4,
        "effective_weight": 3,
        "connections": 5,
        "busy": 2,
        "connections_total": 70,
    }
    assert promised.items() <= view.items()
    assert {"bytes_in", "bytes_out"} <= view.keys()


def test_a_session_shows_null_for_what_was_not_reached() -> None:
    view = views.session_view(
        make_session(7, state=SessionState.CONNECT, close=None, event=None, backend=None, connect=None, first_byte=None)
    )
    assert view["session"] == 7
    assert view["state"] == "connect"
    assert view["backend"] is None
    assert view["connect_s"] is None
    assert view["client"] == "192.0.2.7:40001"


def test_a_pool_shows_whether_it_may_be_empty() -> None:
    pools = {name: pool_status({}, scale_to_zero=name == "asleep") for name in ("asleep", "broken")}
    shown = views.status_view(make_status(pools))["pools"]
    assert [shown[name]["scale_to_zero"] for name in pools] == [True, False]  # type: ignore[index]


def test_an_autoscaler_reads_the_work_and_the_backends_of_a_pool() -> None:
    backends = {
        "a": backend_status(statistics=backend_statistics(busy=3, connections=10)),
        "slow": backend_status(effective_weight=0.25, statistics=backend_statistics(busy=2, connections=4)),
        "new": backend_status(effective_weight=0, health=HealthState.PENDING),
        "leaving": backend_status(
            effective_weight=0, state=AdminState.DRAIN, statistics=backend_statistics(busy=1, connections=1)
        ),
    }
    assert views.autoscale_view("llama", pool_status(backends, queued=5)) == {
        "pool": "llama",
        "demand": 11,
        "sessions": 20,
        "queued": 5,
        "busy": 6,
        "connections": 15,
        "backends": {"total": 4, "ready": 3, "usable": 2},
    }


def test_an_autoscaler_reads_numbers_from_a_pool_without_backends() -> None:
    view = views.autoscale_view("llama", pool_status({}, queued=1, scale_to_zero=True))
    assert (view["demand"], view["sessions"]) == (1, 1)
    assert view["backends"] == {"total": 0, "ready": 0, "usable": 0}


def load_status(**values: object) -> LoadStatus:
    fields: dict[str, object] = {
        "utilisation": 0.4,
        "readings": {"queue": 2.0},
        "age": 0.25,
        "stale": False,
        "factor": 0.6,
        "message": "queue 2",
        "scrapes_total": {"success": 7, "failure": 1},
    }
    return LoadStatus(**(fields | values))  # type: ignore[arg-type]


def test_a_backend_shows_its_load_and_its_agent_where_there_are_any() -> None:
    view = views.backend_view(backend_status())
    assert (view["load"], view["agent"]) == (None, None)
    agent = AgentStatus(message="up 75%", checks_total={"success": 3, "failure": 0})
    view = views.backend_view(backend_status(load=load_status(), agent=agent, effective_weight=0.4375))
    assert view["effective_weight"] == 0.4375
    assert view["agent"] == {"message": "up 75%", "checks_total": {"success": 3, "failure": 0}}
    assert view["load"] == {
        "utilisation": 0.4,
        "signals": {"queue": 2.0},
        "age_s": 0.25,
        "stale": False,
        "factor": 0.6,
        "message": "queue 2",
        "scrapes_total": {"success": 7, "failure": 1},
    }
    view = views.backend_view(backend_status(load=load_status(utilisation=None, age=None, readings={}, stale=True)))
    assert isinstance(view["load"], dict)
    assert (view["load"]["utilisation"], view["load"]["age_s"]) == (None, None)


def test_limits_in_force_are_shown_beside_what_they_limit() -> None:
    view = views.status_view(exhaustive_status())
    listener, pool = view["listeners"]["front"], view["pools"]["llama"]  # type: ignore[index]
    assert (view["max_connections"], listener["max_connections"]) == (1000, 20)
    assert (pool["queue_size"], pool["sticky"]["entries_max"]) == (100, 1000)
    assert [pool["backends"]["a"][key] for key in ("max_connections", "max_busy")] == [8, 4]
    unlimited = views.backend_view(backend_status())
    assert [unlimited[key] for key in ("max_connections", "max_busy")] == [None, None]
