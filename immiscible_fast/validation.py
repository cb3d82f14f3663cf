"""Checks of arguments that more than one module makes: every error names the argument, what came
and what is wanted. What one module alone checks stands there; what SciPy refuses, too, is refused
in its words."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Collection, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor

INVALID_ENTRIES = "matrix contains invalid numeric entries"
INFEASIBLE = "cost matrix is infeasible"
LARGEST_FLOAT = sys.float_info.max


def overflow(metric: str) -> ValueError:
    return ValueError(f"x and noise are too large, their {metric} cost overflows")


def unsolvable(costs: Tensor) -> ValueError:
    """Why no assignment was found, in SciPy's words."""
    invalid = bool((costs.isnan() | costs.isneginf()).any())
    return ValueError(INVALID_ENTRIES if invalid else INFEASIBLE)


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_number(name: str, value: object, wanted: str = "a number") -> float:
    """A real number of any kind, as a float."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be {wanted}, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name} must fit into float64, got a larger number") from error


def check_positive(name: str, value: object) -> float:
    number = check_number(name, value)
    if not 0 < number <= LARGEST_FLOAT:
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return number


def check_whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number, got {type(value).__name__}")
    return int(value)


def check_count(name: str, value: object, least: int = 1) -> int:
    """A whole number of any kind."""
    count = check_whole(name, value)
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    if count >= 2**63:
        raise ValueError(f"{name} must be less than 2^63, got a larger number")
    return count


def check_generator(generator: object) -> torch.Generator | None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    return generator


def check_flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__}")
    return value


def check_device(name: str, value: object) -> torch.device:
    """A device of this machine by name or number, or torch's."""
    try:
        return torch.empty(0, device=value).device  # type: ignore[call-overload, no-any-return]
    except Exception as error:  # torch raises many kinds
        raise ValueError(f"{name} must be a device of this machine, got {value!r}") from error


def check_state(value: object, keys: Set[str]) -> dict[str, Any]:
    """What ``state_dict`` returned, by its keys."""
    if not isinstance(value, dict):
        raise TypeError(f"state must be a dict, got {type(value).__name__}")
    if lacking := keys - value.keys():
        names = ", ".join(sorted(lacking))
        raise ValueError(f"state must be what state_dict returned, got one without {names}")
    return value


def check_dtype(name: str, value: object) -> torch.dtype:
    if not isinstance(value, torch.dtype):
        raise TypeError(f"{name} must be a torch.dtype, got {type(value).__name__}")
    if not value.is_floating_point:
        raise ValueError(f"{name} must be a floating-point type, got {value}")
    return value


def check_shape(name: str, value: Tensor, fits: bool, wanted: object) -> None:
    if not fits:
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(value.shape)}")


def check_data(name: str, value: Tensor) -> None:
    if value.is_meta:
        raise ValueError(f"{name} must hold data, got a tensor on the meta device")


def check_tensor(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_nested or value.is_quantized:
        kind = "a nested one" if value.is_nested else f"layout {value.layout}"
        kind = "a quantized one" if value.is_quantized else kind
        raise TypeError(f"{name} must be a dense tensor, got {kind}")
    return value.detach().resolve_neg()


def check_floating(name: str, value: object) -> Tensor:
    tensor = check_tensor(name, value)
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must have a floating-point dtype, got {tensor.dtype}")
    return tensor


def check_real(name: str, value: object) -> Tensor:
    """A tensor of real numbers of any dtype that holds data."""
    tensor = check_tensor(name, value)
    if tensor.is_complex():
        raise TypeError(f"{name} must have a real dtype, got {tensor.dtype}")
    check_data(name, tensor)
    return tensor


def check_integers(name: str, value: Tensor, what: str = "have an integer dtype") -> None:
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} must {what}, got {value.dtype}")


def check_samples(name: str, value: object, batched: bool) -> Tensor:
    """A (n, ...) tensor of samples, or (B, n, ...)."""
    check_flag("batched", batched)
    tensor = check_floating(name, value)
    wanted = "(B, n, ...)" if batched else "(n, ...)"
    check_shape(name, tensor, tensor.ndim >= 1 + batched, wanted)
    return tensor


def check_pair(
    name_x: str, x: object, name_y: str, y: object, batched: bool, same_count: bool = False
) -> tuple[Tensor, Tensor]:
    """Two sets of samples that can be compared: same device, batch, and shape of one sample."""
    first, second = check_samples(name_x, x, batched), check_samples(name_y, y, batched)
    if first.device != second.device:
        raise ValueError(
            f"{name_x} and {name_y} must be on one device, got {first.device} and {second.device}"
        )
    one, other = first.shape, second.shape
    wanted = None
    if one[1 + batched :] != other[1 + batched :]:
        wanted = "have equal trailing sizes"
    elif batched and one[0] != other[0]:
        wanted = "have equal batch sizes"
    elif same_count and one[batched] != other[batched]:
        wanted = "hold equally many samples"
    if wanted:
        raise ValueError(
            f"{name_x} and {name_y} must {wanted}, got {tuple(one)} and {tuple(other)}"
        )
    return first, second


def is_traced(*tensors: Tensor) -> bool:
    """Whether a compiler, a ``torch.func`` transform or a dispatch mode stands between this call
    and the values, so that an op has to stand for what looks at them."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    if torch._C._len_torch_dispatch_stack() > 0:
        return True
    for tensor in tensors:
        kind = type(tensor)
        if kind is not Tensor and kind.__torch_dispatch__ is not Tensor.__torch_dispatch__:
            return True
    return False


def is_plain_pair(x: object, y: object) -> bool:
    """Whether two arguments are what most calls get: samples (n, ...), two or more, that pass every
    check of a pair and hold real data on the CPU in one type, with no gradient, and outside of
    tracers and autocast. It takes a microsecond to know, and the checks one by one take ten."""
    if not (type(x) is type(y) is Tensor and not is_traced() and x.is_cpu and y.is_cpu):
        return False
    if x.is_nested or y.is_nested or x.requires_grad or y.requires_grad:
        return False
    shape, dtype = x.shape, x.dtype  # each look takes its time
    return (
        x.layout is y.layout is torch.strided
        and dtype is y.dtype
        and dtype in (torch.float32, torch.float64)
        and shape == y.shape
        and len(shape) > 1
        and shape[0] > 1
        and 0 not in shape
        and not torch.is_autocast_enabled("cpu")
    )


def may_look(value: Tensor) -> bool:
    """Whether to look at its entries: a GPU would have to be waited for, a tracer has none."""
    return value.device.type == "cpu" and not is_traced(value)


def check_values(name: str, value: Tensor, even_on_gpu: bool = False) -> None:
    """Raise if a float tensor holds NaN or an infinity: one pass, by its sum if that is finite."""
    check_data(name, value)
    if not (even_on_gpu or may_look(value)):
        return
    if value.element_size() == 1:  # torch can do little with floats of eight bits
        value = value.to(torch.float32)
    if value.numel() == 0 or bool(torch.isfinite(value.sum())):
        return
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must be finite, got NaN or infinite entries")


def check_finite(x: Tensor, noise: Tensor, even_on_gpu: bool = False) -> None:
    check_values("x", x, even_on_gpu)
    check_values("noise", noise, even_on_gpu)


def check_range(name: str, values: Tensor, low: float, high: float, what: str) -> None:
    """Raise if any value is outside, or is NaN, where one may look."""
    if may_look(values) and not bool(((values >= low) & (values <= high)).all()):
        raise ValueError(f"{name} must lie in [{low}, {high}], {what}, got values outside")


def check_numbers(name: str, values: object) -> Tensor:
    """Real numbers, in an array or in lists, as a tensor; tensors are left as they are."""
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    if array.dtype.kind not in "iubf":
        raise TypeError(f"{name} must be numbers, got dtype {array.dtype}")
    if array.shape == (0,):  # an empty list, which is not to make floats of others
        array = array.astype(np.int64)
    return torch.from_numpy(array)


def check_labels(labels: object, shape: torch.Size, name: str = "labels") -> Tensor:
    """Integer group numbers of the given shape, (n,) or (B, n), as int64."""
    if isinstance(labels, Tensor):
        tensor = check_tensor(name, labels)
        check_data(name, tensor)
        whole = not (tensor.is_floating_point() or tensor.is_complex())
    else:
        try:
            array = np.asarray(labels)
        except ValueError as error:
            raise TypeError(f"{name} must be integers, got {type(labels).__name__}") from error
        whole = array.dtype.kind in "iub" or array.size == 0
        tensor = torch.from_numpy(array.astype(np.int64)) if whole else torch.empty(0)
    if not whole:
        kind = labels.dtype if isinstance(labels, Tensor) else array.dtype
        raise TypeError(f"{name} must be integers, got dtype {kind}")
    check_shape(name, tensor, tensor.shape == shape, tuple(shape))
    return tensor.to(torch.int64)


def check_broadcast(name: str, value: Tensor, sample_shape: torch.Size) -> Tensor:
    """A finite tensor, expanded to the shape of one sample."""
    try:
        expanded = value.expand(sample_shape)
    except RuntimeError as error:
        raise ValueError(
            f"{name} must broadcast to the shape of one sample {tuple(sample_shape)}, "
            f"got {tuple(value.shape)}"
        ) from error
    check_values(name, expanded)
    return expanded


def call_features(features: Any, x: Tensor, noise: Tensor, batched: bool) -> tuple[Tensor, Tensor]:
    """``features`` applied to x and noise alike, with the count of samples unchanged."""
    if not callable(features):
        raise TypeError(f"features must be callable, got {type(features).__name__}")
    mapped = features(x), features(noise)
    lead = x.shape[: 1 + batched]
    for result in mapped:
        if not isinstance(result, Tensor):
            raise TypeError(f"features must return a torch.Tensor, got {type(result).__name__}")
        check_tensor("features(x)", result)
        if result.shape[: 1 + batched] != lead:
            raise ValueError(
                f"features must keep the leading sizes {tuple(lead)}, got {tuple(result.shape)}"
            )
    pair = check_pair("features(x)", mapped[0], "features(noise)", mapped[1], batched)
    for name, result in zip(("features(x)", "features(noise)"), pair, strict=True):
        check_values(name, result)
    return pair
