"""Edits of the file's backends at run time: added, removed, or given other settings. Pure.

An edit holds until the file changes the backend of that name. So a reload of an unchanged file undoes no edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from l4lb.config import Config, model
from l4lb.config.backends import backend_problems, read_backend, written
from l4lb.config.rules import BACKENDS_MAX
from l4lb.discovery.source import ENDPOINTS_MAX
from l4lb.errors import ConfigError, ControlError
from l4lb.state.state import BackendKey, State
from l4lb.status import Origin, Settings


@dataclass(frozen=True, slots=True)
class Edit:
    """`base` is the backend in the file, `now` the backend in its place. An added backend has no `base`, a removed one
    no `now`."""

    base: model.Backend | None
    now: model.Backend | None

    @property
    def changed(self) -> tuple[str, ...]:
        """The keys that differ from the file."""
        if self.base is None or self.now is None:
            return ()
        return tuple(key for key in type(self.now).model_fields if getattr(self.base, key) != getattr(self.now, key))


Edits = Mapping[BackendKey, Edit]

NO_EDITS: Edits = {}


def lasting(edits: Edits, config: Config) -> Edits:
    """The edits that still hold under this configuration of the file."""
    listed = _listed(config, {pool for pool, _ in edits})
    return {key: edit for key, edit in edits.items() if key[0] in config.pools and listed.get(key) == edit.base}


def over(config: Config, edits: Edits) -> Config:
    """The configuration of the file with the edits applied. Added backends come last."""
    edited = _by_pool(edits)
    if not edited:
        return config
    pools = {name: _over(pool, edited[name]) if name in edited else pool for name, pool in config.pools.items()}
    return config.model_copy(update={"pools": pools})


def _by_pool(edits: Edits) -> dict[str, dict[str, Edit]]:
    edited: dict[str, dict[str, Edit]] = {}
    for (pool, name), edit in edits.items():
        edited.setdefault(pool, {})[name] = edit
    return edited


def _over(pool: model.Pool, edits: Mapping[str, Edit]) -> model.Pool:
    kept = [edits[backend.name].now if backend.name in edits else backend for backend in pool.backends]
    added = [edit.now for edit in edits.values() if edit.base is None]
    return pool.model_copy(update={"backends": tuple(one for one in (*kept, *added) if one is not None)})


@dataclass(frozen=True, slots=True)
class Origins:
    """Where the backends of a pool come from."""

    listed: Set[str]
    edits: Mapping[str, Edit]

    def of(self, name: str) -> Origin:
        if name in self.edits and self.edits[name].base is None:
            return Origin.API
        return Origin.FILE if name in self.listed else Origin.DISCOVERY

    def changed(self, name: str) -> tuple[str, ...]:
        return self.edits[name].changed if name in self.edits else ()

    @property
    def removed(self) -> tuple[str, ...]:
        return tuple(name for name, edit in self.edits.items() if edit.now is None)


def origins(config: Config, edits: Edits, pools: Iterable[str] | None = None) -> dict[str, Origins]:
    """The origins of each of these pools, of all without `pools`."""
    edited = _by_pool(edits)
    return {
        name: Origins({backend.name for backend in config.pools[name].backends}, edited.get(name, {}))
        for name in (config.pools if pools is None else pools)
    }


def written_backends(config: Config, edits: Edits, state: State) -> dict[str, list[Settings]]:
    """The backends of each pool as a file would list them, with their present weights; without discovered ones."""
    return {
        name: [
            written(backend.model_copy(update={"weight": state.pools[name].backends[backend.name].current_weight}))
            for backend in pool.backends
        ]
        for name, pool in over(config, edits).pools.items()
    }


def _listed(config: Config, pools: Iterable[str]) -> dict[BackendKey, model.Backend]:
    return {
        (name, backend.name): backend
        for name in pools
        if name in config.pools
        for backend in config.pools[name].backends
    }


# ---- new edits: each function returns all edits with one more, or raises ControlError --------------------------------


def added(edits: Edits, config: Config, state: State, pool: str, settings: Settings) -> tuple[Edits, str]:
    """The edits with another backend in the pool, and its name."""
    _require_pool(state, pool)
    backend = _read(settings)
    if backend.name in state.pools[pool].backends:
        raise ControlError(f"pool '{pool}' has a backend '{backend.name}' already; give this one another name", 409)
    here = len(state.pools[pool].backends) + 1
    everywhere = sum(len(one.backends) for one in state.pools.values()) + 1
    if here > ENDPOINTS_MAX or everywhere > BACKENDS_MAX:
        raise ControlError(
            f"too many backends: a pool may have {ENDPOINTS_MAX}, and all pools together {BACKENDS_MAX}", 409
        )
    key = (pool, backend.name)
    return _checked(_with(edits, config, key, backend), config, pool), backend.name


def changed(edits: Edits, config: Config, state: State, key: BackendKey, settings: Settings) -> Edits:
    """The edits with other settings of a backend; settings that are not given stay."""
    if "name" in settings:
        raise ControlError("a backend keeps its name; add one of the new name and remove this one", 400)
    before = _editable(edits, config, state, key)
    backend = _read({**written(before), **settings})
    return _checked(_with(edits, config, key, backend), config, key[0])


def removed(edits: Edits, config: Config, state: State, key: BackendKey) -> Edits:
    """The edits without this backend."""
    _editable(edits, config, state, key)
    return _with(edits, config, key, None)


def _read(settings: Settings) -> model.Backend:
    try:
        return read_backend(settings)
    except ConfigError as error:
        said = "; ".join(f"{one.path}: {one.message}" if one.path else one.message for one in error.problems)
        raise ControlError(said, 400) from None


def _require_pool(state: State, pool: str) -> None:
    if pool not in state.pools:
        raise ControlError(f"there is no pool '{pool}'; `l4lb status` shows the names", 404)


def _editable(edits: Edits, config: Config, state: State, key: BackendKey) -> model.Backend:
    """The backend as it is now. ControlError if a source found it."""
    pool, name = key
    _require_pool(state, pool)
    if name not in state.pools[pool].backends:
        raise ControlError(f"there is no backend '{name}' in pool '{pool}'; `l4lb status` shows the names", 404)
    backend = edits[key].now if key in edits else _listed(config, [pool]).get(key)
    if backend is None:
        raise ControlError(
            f"the source of pool '{pool}' found '{name}' and decides what it is; drain it, or change the source",
            409,
        )
    return backend


def _with(edits: Edits, config: Config, key: BackendKey, now: model.Backend | None) -> Edits:
    base = _listed(config, [key[0]]).get(key)
    others = {known: edit for known, edit in edits.items() if known != key}
    return others if now == base else {**others, key: Edit(base, now)}


def _checked(edits: Edits, config: Config, pool: str) -> Edits:
    if problems := backend_problems(config, pool, over(config, edits).pools[pool].backends):
        raise ControlError("; ".join(problems), 409)
    return edits
