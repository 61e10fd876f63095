"""The plugin's table of resources, and a fail point: it kills itself between an answer and what follows."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from aifactory.provider import registry as product
from aifactory.provider.aws.api import Api
from aifactory.provider.registry import Registry

DIE = "FAULTS_DIE_AFTER"
"""`action:file`: dies once the action is answered, before anything is done with the answer; the file is the bullet."""


def registry() -> Registry:
    """The product's table."""
    if os.environ.get(DIE):
        _fail_point(*os.environ[DIE].split(":", 1))
    return product.default()


def _fail_point(action: str, file: str) -> None:
    once, bullet = Api._once, Path(file)

    def dying(self: Api, service: str, name: str, params: Any) -> dict[str, Any]:
        answer = once(self, service, name, params)
        if name == action and bullet.exists():
            bullet.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    Api._once = dying  # type: ignore[method-assign]
