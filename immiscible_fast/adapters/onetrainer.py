"""Nerogar/OneTrainer: the noise of all its models, paired with the latents where it is drawn.

``ModelSetupNoiseMixin._create_noise`` draws the noise first, and then adds offset noise (which may
depend on the timestep of each image) and perturbation noise. The draw alone is paired, so that what
belongs to the timestep of an image stays with it.
"""

from __future__ import annotations

from ..api.assign_noise import assign_noise
from .draws import Pair, is_wrapped, pairing_draws


def patch(mixin: type, *, pair: Pair = assign_noise) -> None:
    """Pair the noise that OneTrainer draws, from now on.

    Parameters
    ----------
    mixin : class
        ``modules.modelSetup.mixin.ModelSetupNoiseMixin.ModelSetupNoiseMixin``. If it is patched
        already, it is left alone.
    pair : callable
        From latents and noise, both (n, ...), to the noise to use. With a ``NoisePool``, for small
        batches: ``lambda x, noise: pool.take(x)``.

    Raises
    ------
    ValueError
        If the class has no ``_create_noise``.
    """
    create = getattr(mixin, "_create_noise", None)
    if create is None:
        raise ValueError(f"mixin must be ModelSetupNoiseMixin, {mixin!r} has no _create_noise")
    if not is_wrapped(create):
        mixin._create_noise = pairing_draws(create, "source_tensor", pair)  # type: ignore[attr-defined]
