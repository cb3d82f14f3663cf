"""kohya-ss/sd-scripts: the noise of its training scripts, paired with the latents.

Two functions of its library see both. ``get_noise_noisy_latents_and_timesteps`` (SD, SDXL) draws
the noise itself, first of all, and then adds offsets, pyramids and perturbations to it: the draw is
paired. ``get_noisy_model_input_and_timesteps`` (Flux, SD3, Lumina, HunyuanImage, Anima) gets the
noise from a caller that makes the target of the same tensor: it is paired in place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..api.assign_noise import assign_noise
from .draws import Pair, is_wrapped, marked, pairing_draws

DRAWS = "get_noise_noisy_latents_and_timesteps"
GETS = "get_noisy_model_input_and_timesteps"


def patch(*modules: ModuleType, pair: Pair = assign_noise) -> None:
    """Pair the noise that these modules of sd-scripts draw or add, from now on.

    Parameters
    ----------
    *modules : module
        ``library.train_util``, ``library.flux_train_utils``, ``library.sd3_train_utils`` or
        ``library.lumina_train_util``. A module that is patched already is left alone.
    pair : callable
        From latents and noise, both (n, ...), to the noise to use. With a ``NoisePool``, for small
        batches: ``lambda x, noise: pool.take(x)``.

    Raises
    ------
    TypeError
        If no module is given.
    ValueError
        If a module has neither of the functions.
    """
    if not modules:
        raise TypeError("modules must name library.train_util or the like, got none")
    for module in modules:
        found = [name for name in (DRAWS, GETS) if hasattr(module, name)]
        if not found:
            raise ValueError(f"modules must have {DRAWS} or {GETS}, {module.__name__} has neither")
        for name in found:
            function = getattr(module, name)
            if not is_wrapped(function):
                if name == DRAWS:
                    wrapped = pairing_draws(function, "latents", pair)
                else:
                    wrapped = _pairing_in_place(function, pair)
                setattr(module, name, wrapped)


def _pairing_in_place(function: Callable[..., Any], pair: Pair) -> Callable[..., Any]:
    """``function`` with its argument ``noise`` overwritten by what suits its ``latents``."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        given["noise"].copy_(pair(given["latents"], given["noise"]))
        return function(*args, **kwargs)

    return marked(wrapped)
