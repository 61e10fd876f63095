"""libcuda for Python programs on the node: `ctypes.CDLL("libcuda.so.1")` is answered from the simulation.

Loaded by a .pth file at every start of Python. Only where the package with libcuda is installed is there a libcuda.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from types import ModuleType
from typing import Any

NAMES = ("libcuda.so", "libcuda.so.1")
ERRORS = {
    0: "CUDA_SUCCESS", 1: "CUDA_ERROR_INVALID_VALUE", 2: "CUDA_ERROR_OUT_OF_MEMORY", 3: "CUDA_ERROR_NOT_INITIALIZED",
    100: "CUDA_ERROR_NO_DEVICE", 101: "CUDA_ERROR_INVALID_DEVICE", 46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
    802: "CUDA_ERROR_SYSTEM_NOT_READY", 803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", 999: "CUDA_ERROR_UNKNOWN",
}  # fmt: skip
WORDS = {802: "system not yet initialized", 100: "no CUDA-capable device is detected", 3: "initialization error",
         803: "system has unsupported display driver / cuda driver combination", 999: "unknown error"}  # fmt: skip


class Function:
    """A C function: `argtypes` and `restype` may be set, as on a real one."""

    def __init__(self, call: Any) -> None:
        self.call, self.argtypes, self.restype = call, None, None

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def _set(reference: Any, value: Any) -> None:
    """Writes through byref() or pointer()."""
    target = getattr(reference, "_obj", None)
    target = reference.contents if target is None else target
    target.value = value


class Cuda:
    """The driver API, as far as somebody looks whether a GPU can be used."""

    def __init__(self) -> None:
        self.ready, self.contexts = False, 0

    def __getattr__(self, name: str) -> Function:
        plain = name.removesuffix("_v2").removesuffix("_v3").removesuffix("_v4")
        if plain.startswith("__") or not hasattr(type(self), f"on_{plain}"):
            raise AttributeError(f"{NAMES[1]}: undefined symbol: {name}")
        return Function(getattr(self, f"on_{plain}"))

    @property
    def gpus(self) -> list[dict[str, Any]]:
        from . import core, smi

        return smi.gpus(core.view())

    def on_cuInit(self, _flags: Any) -> int:
        from . import core, fabric, kernel

        view = core.view()
        if "nvidia" not in view.modules and os.geteuid() == 0:
            kernel.load("nvidia", {}, quiet=True)
            view = core.view()
        loaded = view.modules.get("nvidia")
        code = next((int(words[0]) for words in view.fault("cuda-fails") if len(words) == 1), 0)
        if code:
            return code
        if not loaded:
            return 999
        if loaded["version"] != core.library_version() or view.has("version-mismatch"):
            return 803
        if not self.gpus:
            return 100
        if not fabric.ready(view):
            return 802
        if os.geteuid() == 0:
            kernel.load("nvidia_uvm", {}, quiet=True)
        self.ready = True
        return 0

    def on_cuDriverGetVersion(self, version: Any) -> int:
        from . import core, smi

        major, minor = smi.CUDA.get(core.library_version().partition(".")[0], "13.0").split(".")
        _set(version, int(major) * 1000 + int(minor) * 10)
        return 0

    def on_cuDeviceGetCount(self, count: Any) -> int:
        _set(count, len(self.gpus))
        return 0 if self.ready else 3

    def on_cuDeviceGet(self, device: Any, index: Any) -> int:
        if not self.ready:
            return 3
        _set(device, _plain(index))
        return 0 if _plain(index) < len(self.gpus) else 101

    def on_cuDeviceGetName(self, text: Any, _size: Any, device: Any) -> int:
        text.value = self.gpus[_plain(device)]["name"].encode()
        return 0

    def on_cuDeviceGetPCIBusId(self, text: Any, _size: Any, device: Any) -> int:
        text.value = self.gpus[_plain(device)]["bdf"].upper().encode()
        return 0

    def on_cuDeviceTotalMem(self, size: Any, _device: Any) -> int:
        from . import core

        _set(size, core.view().nvidia["memory_mib"] << 20)
        return 0

    def on_cuDeviceGetAttribute(self, value: Any, attribute: Any, device: Any) -> int:
        from . import smi

        gpu = self.gpus[_plain(device)]
        kind = smi.architecture(gpu)
        capability = {"Ampere": (8, 0), "Hopper": (9, 0), "Ada Lovelace": (8, 9)}.get(kind, (10, 0))
        domain, bus, rest = gpu["bdf"].split(":")
        known = {75: capability[0], 76: capability[1], 33: int(bus, 16), 34: int(rest[:2], 16), 50: int(domain, 16)}
        _set(value, known.get(_plain(attribute), 1))
        return 0

    def _context(self, device: Any) -> int:
        from . import core

        index = _plain(device)
        if not self.ready:
            return 3
        if not isinstance(index, int) or index >= len(self.gpus):
            return 101
        for code, *which in core.view().fault("cuda-fails"):
            if which == [str(index)]:
                return int(code)
        with (core.RUN / "contexts").open("a", encoding="utf-8") as log:
            log.write(f"{os.getpid()} {self.gpus[index]['bdf']}\n")
        self.contexts += 1
        return 0

    def on_cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        code = self._context(device)
        _set(context, 0x1000 + self.contexts)
        return code

    def on_cuCtxCreate(self, context: Any, *rest: Any) -> int:
        code = self._context(rest[-1])
        _set(context, 0x1000 + self.contexts)
        return code

    def _nothing(self, *_arguments: Any) -> int:
        return 0 if self.ready else 3

    on_cuDevicePrimaryCtxRelease = on_cuCtxDestroy = on_cuCtxSynchronize = on_cuCtxSetCurrent = _nothing
    on_cuCtxPushCurrent = on_cuCtxPopCurrent = on_cuMemFree = on_cuMemsetD8 = on_cuMemsetD32 = _nothing

    def on_cuMemAlloc(self, place: Any, _size: Any) -> int:
        _set(place, 0x7F0000000000)
        return 0 if self.contexts else 3

    def on_cuMemGetInfo(self, free: Any, total: Any) -> int:
        from . import core

        size = core.view().nvidia["memory_mib"] << 20
        _set(total, size)
        _set(free, size - (604 << 20))
        return 0

    def on_cuGetErrorName(self, code: Any, text: Any) -> int:
        _set(text, ERRORS.get(_plain(code), "CUDA_ERROR_UNKNOWN").encode())
        return 0

    def on_cuGetErrorString(self, code: Any, text: Any) -> int:
        _set(text, WORDS.get(_plain(code), ERRORS.get(_plain(code), "unknown error")).encode())
        return 0


def patch(ctypes: ModuleType) -> None:
    real = ctypes.CDLL

    class CDLL(real):  # type: ignore[misc, valid-type]
        def __new__(cls, name: Any = None, *rest: Any, **named: Any) -> Any:
            if name is not None and os.path.basename(os.fspath(name)) in NAMES:  # noqa: PTH119
                from . import core

                if not core.installed("/usr/lib/x86_64-linux-gnu/libcuda.so.1"):
                    raise OSError(f"{name}: cannot open shared object file: No such file or directory")
                return Cuda()
            return super().__new__(cls)

    CDLL.__qualname__ = "CDLL"
    ctypes.CDLL = CDLL  # type: ignore[attr-defined]
    ctypes.cdll = ctypes.LibraryLoader(CDLL)  # type: ignore[attr-defined]


class Finder(importlib.abc.MetaPathFinder):
    """Patches ctypes when a program imports it, so that those that do not pay nothing."""

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        if name != "ctypes":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def and_patch(module: ModuleType) -> None:
            execute(module)
            patch(module)

        spec.loader.exec_module = and_patch  # type: ignore[method-assign]
        return spec


if "ctypes" in sys.modules:
    patch(sys.modules["ctypes"])
else:
    sys.meta_path.insert(0, Finder())
