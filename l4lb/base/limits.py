"""Limits of values that several packages accept: from files, operators, agents and sources of backends."""

WEIGHT_MAX = 256
"""The heaviest backend. `L4LB_WEIGHT_MAX` of the data plane is larger, since it gets scaled weights."""

TIERS_MAX = 16
"""As many as the data plane tells apart (`src_c/base/bounds.h`)."""

CONNECTIONS_MAX = 10_000_000
