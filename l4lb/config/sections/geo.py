"""`geo`: where networks are in the world."""

from __future__ import annotations

from l4lb.config.fields.networks import Databases
from l4lb.config.sections import Section


class Geo(Section):
    """Where networks are in the world."""

    database: Databases
    """Files in the MaxMind DB format, read at each reload. Of several that know an address the last one counts."""
