"""Which memory of a process was written, and which elements a launch was given.

Tensors of ``torch.empty`` and its like have a shadow (see runtime/memory.h) from their allocation
on; every other storage was initialised by whoever made it, and has a shadow for one launch only.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CELL = np.dtype(
    [
        *((name, np.uint32) for name in ("w_epoch", "w_sync", "r_first", "r_epoch", "r_sync")),
        *((name, np.uint32) for name in ("r_warps", "reach")),
        *((name, np.uint16) for name in ("w_thread", "w_line", "r_thread", "r_line")),
        *((name, np.uint8) for name in ("w_atomic", "r_many", "init", "pad")),
    ]
)
INITIALISED, READ_ONLY, PARTIAL = 1, 2, 4
Cells = Any
CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
aten = torch.ops.aten
ALLOCATING = {
    aten.empty.memory_format,
    aten.empty_permuted.default,
    aten.empty_strided.default,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}


class Allocation(ctypes.Structure):
    """``Allocation`` of runtime/memory.h."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("base", "size", "cells")),
        *((name, ctypes.c_uint32) for name in ("shift", "flags")),
    ]


class Fresh:
    """A storage of which only what was written since is known; kept, so that its address stays its
    own."""

    def __init__(self, tensor: Tensor, poison: int):
        self.tensor = tensor
        self.shift = tensor.element_size().bit_length() - 1
        storage = tensor.untyped_storage()
        self.cells = _cells(storage, self.shift)
        _bytes(storage).fill_(poison)


class Memory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes, while it is active, what torch allocates without a value, and what it then writes."""

    def __init__(self, poison: int):
        super().__init__()  # type: ignore[no-untyped-call]
        self.poison = poison
        self.fresh: dict[int, Fresh] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or the first call imports all of it: two seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "immiscible_fast":  # opaque to dispatch modes: what does it allocate?
            with self:
                return func.redispatch(CPU, *args, **kwargs)
        result = func(*args, **kwargs)
        if func in ALLOCATING:
            if result.device.type == "cpu" and result.untyped_storage().nbytes():
                self.fresh[_base(result)] = Fresh(result, self.poison)
            return result
        for k, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[k] if k < len(args) else kwargs.get(argument.name)
                for one in value if isinstance(value, list | tuple) else [value]:
                    if isinstance(one, Tensor):
                        self.wrote(one)
        return result

    def wrote(self, tensor: Tensor) -> None:
        """The elements of this view have values now."""
        fresh = self.fresh.get(_base(tensor)) if tensor.device.type == "cpu" else None
        if fresh is not None:
            _mark(fresh.cells["init"], fresh.shift, tensor, 1)

    def allocation(
        self, views: list[Tensor], read_only: bool, launch: int
    ) -> tuple[Allocation, Cells]:
        """What a launch sees of a storage, of which it was given these views."""
        storage = views[0].untyped_storage()
        partial = not any(_covers(view) for view in views)
        fresh = self.fresh.get(storage.data_ptr())
        flags = READ_ONLY * read_only | INITIALISED * (fresh is None) | PARTIAL * partial
        if fresh is not None:
            cells, shift = fresh.cells, fresh.shift
        else:
            shift = min(view.element_size() for view in views).bit_length() - 1
            needed = partial or not read_only
            cells = _cells(storage, shift) if needed else None
        if partial:
            for view in views:
                _mark(cells["reach"], shift, view, launch)
        address = 0 if cells is None else cells.ctypes.data
        return Allocation(storage.data_ptr(), storage.nbytes(), address, shift, flags), cells


def with_gaps(tensor: Tensor, gap: int = 16) -> Tensor:
    """A copy whose rows lie ``gap`` elements apart, so that what reads past one is noticed."""
    if tensor.ndim < 2:
        return tensor.clone()
    shape = (*tensor.shape[:-1], tensor.shape[-1] + gap)
    room = torch.full(shape, float("nan") if tensor.is_floating_point() else 1, dtype=tensor.dtype)
    room[..., : tensor.shape[-1]] = tensor
    return room[..., : tensor.shape[-1]]


def _base(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _cells(storage: torch.UntypedStorage, shift: int) -> Cells:
    """A shadow for all of a storage, of granules of 1 << shift bytes."""
    return np.zeros(max(1, -(-storage.nbytes() >> shift)), CELL)


def _bytes(storage: torch.UntypedStorage) -> Tensor:
    return torch.tensor([], dtype=torch.uint8).set_(storage)


def _covers(view: Tensor) -> bool:
    """Whether the view has every element of its storage."""
    dense = view.numel() * view.element_size() == view.untyped_storage().nbytes()
    return dense and view.storage_offset() == 0 and _non_overlapping(view)


def _non_overlapping(view: Tensor) -> bool:
    return bool(torch.ops.aten.is_non_overlapping_and_dense(view))


def _mark(cells: Any, shift: int, view: Tensor, value: int) -> None:
    """Set what holds the view's elements."""
    if not view.numel():
        return
    size, item = view.element_size(), cells.strides[0]
    start = int(view.storage_offset()) * size
    strides = [stride * size for stride in view.stride()]
    if size >> shift:  # a view of a larger type has several granules to an element
        shape = (*view.shape, size >> shift)
        steps = (*(item * (stride >> shift) for stride in strides), item)
        np.lib.stride_tricks.as_strided(cells[start >> shift :], shape, steps)[...] = value
    else:  # and of a smaller one, a part
        at = np.full((), start)
        for length, stride in zip(view.shape, strides, strict=True):
            at = np.add.outer(at, stride * np.arange(length))
        cells[at >> shift] = value
