"""Triton's compiled kernels on a CPU, with a race detector. See README.md."""

from .emulator import ORDERS, Emulator
from .findings import Finding
from .memory import with_gaps
from .ptx import UnsupportedPTX

__all__ = ["ORDERS", "Emulator", "Finding", "UnsupportedPTX", "with_gaps"]
