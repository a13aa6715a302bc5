"""The configuration: one YAML file (and what it includes) in, one frozen `Config` out."""

from l4lb.config.address import Address
from l4lb.config.model import Config

__all__ = ["Address", "Config"]
