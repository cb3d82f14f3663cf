"""``select_noise``: the best of k fresh noises for each image, drawn without the other k - 1.

Let w = x - centre, u = w / |w|, and e = a u + g with a = u.e and g orthogonal to u. For Gaussian e
the number a, the squared length r of g, and the direction of g are independent: a is normal, r
chi-square with D - 1 degrees of freedom, and the direction uniform.

1. score "dot", w.e = |w| a: the best of k noises has for its a the maximum of k normals, and the g
   of any noise. With U uniform the maximum is Phi^-1(U^(1/k)).
2. score "euclidean", |w - e|^2 = (|w| - a)^2 + r: draw k pairs (a, r), keep the nearest, and give
   the g of a fresh noise the length sqrt(r).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import validation
from ..choices import SCORES, Score
from ..products import normalized


@torch.no_grad()
def select_noise(
    x: Tensor,
    k: int,
    *,
    score: Score = "dot",
    center: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw for each image what would be the best of ``k`` fresh Gaussian noises.

    It has the distribution of the best of k, and costs little more than one noise, whatever k:
    nothing of size k times the image is drawn. It replaces "KNN" noise, ``--knn_noise_k`` and
    noise oversampling, at any batch size.

    Parameters
    ----------
    x : Tensor, shape (n, ...)
        Images or latents, any float dtype.
    k : int
        Noises to choose from, 1 or more; 1 is plain noise.
    score : str
        What is best: with "dot" the largest inner product with ``x - center``, with "euclidean"
        the least distance to it.
    center : Tensor, optional
        Subtracted from the images for the choice only; broadcast to the shape of one sample. The
        mean of the data keeps the noise from leaning towards the mean image everywhere.
    generator : torch.Generator, optional
        Draws all random numbers, on its own device; the global random state is then not touched.

    Returns
    -------
    Tensor, shape (n, ...)
        Shape, dtype and device of ``x``. Use it to corrupt ``x`` *and* as the target.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it got and what it wants. NaN and infinities are refused on a CPU.

    Notes
    -----
    This is a choice among independent draws from N(0, I) only. Where noise is made otherwise
    (offset noise, pyramid noise), draw with this function first and change the noise after.

    Unlike assigned noise or that of a ``NoisePool``, what is used is no longer Gaussian overall.
    "dot" shifts one component of the noise by the mean of the maximum of k normals, 1.03 / 1.77 /
    2.35 at k = 4 / 16 / 64, and narrows it, which leaves the squared length nearly alone in many
    dimensions. "euclidean" prefers short noises, too: for images of unit variance squared lengths
    are 0.6 / 1.3 standard deviations below those of noise at k = 4 / 64. A choice helps
    at one sampling step and hurts at many: k = 16 did in each experiment of the project, k = 4 in
    some.

    "euclidean" draws 2 k numbers for an image.

    Examples
    --------
    >>> import torch
    >>> x = torch.ones(2, 3, 8, 8)
    >>> noise = select_noise(x, 4, generator=torch.Generator().manual_seed(0))
    >>> noise.shape
    torch.Size([2, 3, 8, 8])

    References
    ----------
    Y. Li et al., "Improved Immiscible Diffusion", arXiv 2505.18521 (by distance, from candidates).
    """
    images = validation.check_samples("x", x, False)
    k = validation.check_count("k", k)
    validation.check_choice("score", score, SCORES)
    generator = validation.check_generator(generator)
    validation.check_values("x", images)
    wide = torch.float64 if images.dtype == torch.float64 else torch.float32
    direction = images.to(wide)
    if center is not None:
        middle = validation.check_floating("center", center)
        middle = validation.check_broadcast("center", middle, images.shape[1:])
        direction = direction - middle.to(images.device, wide)
    size = images.shape[1:].numel()
    direction = direction.reshape(len(images), size)
    device = images.device if generator is None else generator.device
    noise = torch.randn(direction.shape, generator=generator, device=device, dtype=wide)
    noise = noise.to(images.device)
    choose = _along if score == "dot" else _nearest
    return choose(noise, direction, k, generator).to(images.dtype).reshape(images.shape)


def largest_of_normals(
    count: int, k: int, generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """``count`` independent maxima of k standard normals each, float64, (count,).

    U^(1/k) = exp(-E / k) with E exponential. Where that is over one half, what it lacks to one is
    taken instead, as -expm1(-E / k), so that no digits are lost however large k is.
    """
    exponent = torch.empty(count, dtype=torch.float64, device=device)
    exponent.exponential_(generator=generator).clamp_(min=torch.finfo(torch.float64).tiny).div_(k)
    upper = -torch.special.ndtri(-torch.expm1(-exponent))
    return torch.where(exponent < math.log(2), upper, torch.special.ndtri(torch.exp(-exponent)))


def _along(noise: Tensor, direction: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    """Score "dot": all noises are alike to an image without direction, whose unit vector is 0."""
    device = noise.device if generator is None else generator.device
    unit = normalized(direction, noise.dtype)
    best = largest_of_normals(len(noise), k, generator, device).to(noise.device, noise.dtype)
    return noise.addcmul_(unit, (best - (noise * unit).sum(1))[:, None])


def _nearest(noise: Tensor, direction: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    """Score "euclidean"; to an image without direction any unit vector will do."""
    device = noise.device if generator is None else generator.device
    n, size = noise.shape
    unit = normalized(direction, noise.dtype)
    length = torch.linalg.vector_norm(direction, dim=1, dtype=torch.float64)
    unit[:, :1] += (length == 0)[:, None]
    along = torch.randn(n, k, generator=generator, device=device, dtype=torch.float64)
    shape = torch.full_like(along, (size - 1) / 2)  # of the gamma distribution; none at 0
    square = 2 * torch._standard_gamma(shape, generator=generator) if size > 1 else shape
    along, square = along.to(noise.device), square.to(noise.device)
    nearest = (along * (along - 2 * length[:, None]) + square).argmin(1, keepdim=True)
    best, rest = (numbers.gather(1, nearest).to(noise.dtype) for numbers in (along, square))
    noise.addcmul_(unit, (noise * unit).sum(1, keepdim=True), value=-1)
    norm = torch.linalg.vector_norm(noise, dim=1, keepdim=True)
    scale = torch.where(norm > 0, rest.sqrt() / norm, 0)
    return torch.addcmul(noise.mul_(scale), unit, best)
