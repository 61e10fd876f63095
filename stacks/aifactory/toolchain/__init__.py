"""The engine's binaries: found on PATH or in the cache, or built from pinned Go modules; and the doctor."""

from aifactory.toolchain.findings import Finding, doctor
from aifactory.toolchain.gobuild import build
from aifactory.toolchain.locate import Toolchain, install_kubernetes, resolve

__all__ = ["Finding", "Toolchain", "build", "doctor", "install_kubernetes", "resolve"]
