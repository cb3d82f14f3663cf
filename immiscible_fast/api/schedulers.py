"""The forward process of a diffusers-like scheduler, by its own method.

Schedulers disagree about what a timestep is: an index into a table of training steps, one of the
values of ``scheduler.timesteps``, or a time. Which one shows in what the method reads. Some take
the last step for one that they do not find, or that of a sampling under way for all images, and
the DPM solvers have their sigmas the wrong way round until ``set_timesteps``, so that their last
timestep leaves the image clean: that is refused here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from ..validation import check_integers, check_range, is_traced


class AddsNoise(Protocol):
    """A scheduler with ``add_noise(x, noise, timesteps)``."""

    @property
    def add_noise(self) -> Callable[..., Any]: ...


class ScalesNoise(Protocol):
    """A scheduler with ``scale_noise(x, timestep, noise)``, as those of flow matching."""

    @property
    def scale_noise(self) -> Callable[..., Any]: ...


Scheduler: TypeAlias = AddsNoise | ScalesNoise

ORDERS = {"add_noise": ("x", "noise", "t"), "scale_noise": ("x", "t", "noise")}
TABLES = ("alphas_cumprod", "discrete_sigmas")  # attributes that timesteps are indices into


def forward_process(
    scheduler: object, x: Tensor, t: Tensor, lead: int
) -> Callable[[Tensor], Tensor]:
    """The function from noise like ``x`` to x_t at times ``t``, whose ``lead`` dimensions are the
    first of ``x``; errors call the scheduler ``schedule``."""
    method, order = _method(scheduler)
    _check_timesteps(scheduler, method, t)
    name = f"{type(scheduler).__name__}.{method.__name__}"

    def noised(noise: Tensor) -> Tensor:
        flat = {"x": x, "noise": noise, "t": t}
        if lead > 1:  # schedulers know one batch dimension
            flat = {key: value.flatten(0, lead - 1) for key, value in flat.items()}
        x_t = method(*(flat[key] for key in order))
        if not isinstance(x_t, Tensor) or x_t.shape != flat["x"].shape:
            got = tuple(x_t.shape) if isinstance(x_t, Tensor) else type(x_t).__name__
            raise ValueError(f"{name} must return the shape of x, {tuple(x.shape)}, got {got}")
        return x_t.reshape(x.shape)

    return noised


def _method(scheduler: object) -> tuple[Callable[..., Any], Sequence[str]]:
    """What noises images, and the order of its arguments."""
    kind = type(scheduler).__name__
    for name, order in ORDERS.items():
        method = getattr(scheduler, name, None)
        if callable(method):
            parameters = list(inspect.signature(method).parameters.values())
            given, rest = parameters[: len(order)], parameters[len(order) :]
            place = order.index("noise")
            if (
                len(given) < len(order)
                or given[place].name != "noise"
                or any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in rest)
            ):
                taken = ", ".join(parameter.name for parameter in parameters)
                raise TypeError(
                    f"schedule must have {name}({', '.join(order)}), got {kind}, whose {name} "
                    f'takes ({taken}); pass "flow" or a tensor of alphas_cumprod instead'
                )
            return method, order
    message = (
        'schedule must be "flow", a tensor of alphas_cumprod or a scheduler with add_noise or '
        f"scale_noise, got {kind}"
    )
    if hasattr(scheduler, "alphas_cumprod"):
        message += "; if it is DDPM's, pass its alphas_cumprod"
    raise TypeError(message)


def _check_timesteps(scheduler: object, method: Callable[..., Any], t: Tensor) -> None:
    """Raise where the method, by what it reads of its scheduler, would not know what t means."""
    code = getattr(inspect.unwrap(method), "__code__", None)
    reads = code.co_names if code else ()
    kind = type(scheduler).__name__
    if "step_index" in reads:
        for name in ("begin_index", "step_index"):
            if getattr(scheduler, name, None) is not None:
                raise ValueError(
                    f"schedule must not be sampling, got {kind} with {name} = "
                    f"{getattr(scheduler, name)}, which it takes instead of t; pass another, "
                    f"{kind}.from_config(schedule.config)"
                )
        if "timesteps" not in reads:
            raise TypeError(
                f"schedule must take a timestep for each image, got {kind}, which takes one for "
                "all; pass FlowMatchEulerDiscreteScheduler.from_config(schedule.config), whose "
                "noise is the same"
            )
    if "timesteps" in reads:
        timesteps: Tensor = scheduler.timesteps  # type: ignore[attr-defined]
        if "sigmas" in reads:
            _check_order(kind, timesteps, scheduler.sigmas)  # type: ignore[attr-defined]
        _check_found(kind, timesteps, t)
    elif table := next((name for name in TABLES if name in reads), None):
        length = len(getattr(scheduler, table))
        check_integers("t", t, f"hold integer timesteps for {kind}")
        check_range("t", t, 0, length - 1, f"the {length} timesteps of {kind}")
    elif "_alpha_cumprod" in reads:  # Wuerstchen's: a function, not a table
        if not t.is_floating_point():
            raise TypeError(f"t must hold floating-point times for {kind}, got {t.dtype}")
        check_range("t", t, 0, 1, f"the times of {kind}")


def _check_order(kind: str, timesteps: Tensor, sigmas: Tensor) -> None:
    last = min(len(timesteps), len(sigmas)) - 1
    if last < 1 or is_traced(timesteps, sigmas):
        return
    rises = [bool(values[last] > values[0]) for values in (timesteps, sigmas)]
    if rises[0] != rises[1]:
        raise ValueError(
            f"schedule must have its sigmas in the order of its timesteps, got {kind} with the one "
            f"falling and the other rising; pass DDPMScheduler.from_config(schedule.config), or "
            "call schedule.set_timesteps(schedule.config.num_train_timesteps) first"
        )


def _check_found(kind: str, timesteps: Tensor, t: Tensor) -> None:
    if is_traced(t) or t.numel() == 0:
        return
    found = (timesteps.to(t.device)[:, None] == t.reshape(-1)).any(0)
    if not bool(found.all()):  # the scheduler looks, too, so that nothing more waits for a GPU
        missing = t.reshape(-1)[~found][0].item()
        raise ValueError(
            f"t must hold values of schedule.timesteps for {kind}, got {missing}; pass "
            f"schedule.timesteps[i] for integers i in [0, {len(timesteps)})"
        )
