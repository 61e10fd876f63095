"""The toolkit's own registry under the name that pulumi_project.py looks for."""

from aifactory.provider.registry import default as registry

__all__ = ["registry"]
