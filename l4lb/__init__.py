"""l4lb: a TCP load balancer with a native data plane, built for AI inference fleets.

Programs embed it with `Balancer`, or `AsyncBalancer` on an event loop. Names are imported when they are first used, so
that importing the package costs next to nothing. What `status` and `sessions` return is made of `l4lb.types`.
"""

import importlib
import sys

from l4lb._version import __version__

TYPE_CHECKING = False  # type checkers take it for true; importing typing would take longer than all of this
if TYPE_CHECKING:
    from l4lb.config import Config, load_config, read_config
    from l4lb.embedding import AsyncBalancer, Balancer
    from l4lb.errors import ConfigError, ControlError, L4lbError, Problem, StartError
    from l4lb.types import Session, Status

__all__ = [
    "AsyncBalancer",
    "Balancer",
    "Config",
    "ConfigError",
    "ControlError",
    "L4lbError",
    "Problem",
    "Session",
    "StartError",
    "Status",
    "__version__",
    "load_config",
    "read_config",
]

_HOMES = {
    "l4lb.config": ("Config", "load_config", "read_config"),
    "l4lb.embedding": ("AsyncBalancer", "Balancer"),
    "l4lb.errors": ("ConfigError", "ControlError", "L4lbError", "Problem", "StartError"),
    "l4lb.types": ("Session", "Status"),
}

if not TYPE_CHECKING:  # where types are checked, a name that is not there is an error

    def __getattr__(name: str) -> object:
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(importlib.import_module(home), name)
                return value
        raise AttributeError(f"module 'l4lb' has no attribute '{name}'", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
