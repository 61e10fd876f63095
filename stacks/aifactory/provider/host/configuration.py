"""`host:Configuration`: the layers of a pool (host, fabric, gpu, runtime), configured by Ansible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from aifactory.hosts.play import Play
from aifactory.provider import tokens
from aifactory.provider.host.play_resource import PlayInputs, PlayOutputs, PlayResource
from aifactory.provider.resource import prop

PLAYBOOK = "site.yml"
MARKER = "configuration"


@dataclass(frozen=True, kw_only=True)
class ConfigurationInputs(PlayInputs):
    pool: str = prop(doc="Pool the hosts belong to.")
    layers: tuple[str, ...] = prop(doc="Layers to configure, in order: host, fabric, gpu, runtime.")
    role_vars: dict[str, Any] = prop(doc="For each layer, the dict its role takes.", default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ConfigurationOutputs(PlayOutputs):
    pass


class Configuration(PlayResource[ConfigurationInputs, ConfigurationOutputs]):
    """Configures the hosts of one pool. See PlayResource for what blocks, repeats and fails how.

    Deleting it leaves the hosts as they are: nodes of the toolkit's own go right after it, and on a host
    that was there before, software and settings stay for whoever takes it next. The marker stays too; a
    later region does not read it before it has run everything once.
    """

    token: ClassVar[str] = tokens.HOST_CONFIGURATION
    Inputs: ClassVar[type] = ConfigurationInputs
    Outputs: ClassVar[type] = ConfigurationOutputs

    def play(self, inputs: ConfigurationInputs) -> Play:
        return Play(PLAYBOOK, MARKER, inputs.hosts, inputs.layers, inputs.role_vars)
