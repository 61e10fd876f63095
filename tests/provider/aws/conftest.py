"""The emulated cloud for every test of this folder."""

from tests.emulator import emulator, emulator_process

__all__ = ["emulator", "emulator_process"]
