"""Every word that `balance` takes: tests of what all algorithms have in common."""

from __future__ import annotations

from typing import get_args

from l4lb.config.sections.pool import Pool

ALGORITHMS: tuple[str, ...] = get_args(Pool.model_fields["balance"].annotation)
