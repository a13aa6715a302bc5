"""`geo`: where networks are in the world."""

from __future__ import annotations

from l4lb.config.fields.networks import Databases
from l4lb.config.sections import Section


class Geo(Section):
    """Where networks are in the world."""

    database: Databases
    """Files in the MaxMind DB format, laid out like GeoLite2 and DB-IP Lite; at most 8 of 1 GiB each. If several know
    an address, the last one that has a zone for it counts."""
