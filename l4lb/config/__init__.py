"""The configuration: one YAML file with its includes, or plain data, becomes one frozen `Config`."""

from l4lb.config.address import Address
from l4lb.config.load import load_config, read_config
from l4lb.config.model import Config
from l4lb.config.schema import json_schema

__all__ = ["Address", "Config", "json_schema", "load_config", "read_config"]
