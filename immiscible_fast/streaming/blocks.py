"""Costs of samples in blocks of rows: computed when they are wanted, never kept.

1. Inner products are taken of the samples less their means, multiplied by powers of two such that
   the largest cost is about one: constants of rows and columns change no square assignment, and
   float32 keeps more digits of the rest.
2. The error of a float32 sum of D products, in whatever order, is at most D u / (1 - D u) times the
   product of both lengths, u = 2^-24; a few more u account for how the factors were rounded. So a
   block of *lower bounds* is a block of costs less a number for each row (for distances, less it
   before the square root).
3. ``pairs`` computes single costs in float64, with a bound on their errors of the same kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .. import validation
from ..metrics import METRICS

PART = 1 << 22  # numbers that are converted at a time, where samples cannot be used as they are
GPU_PART = 1 << 26  # there: a launch should have work for all of it
KEPT_BYTES = 1 << 28  # of converted noise that is kept
PAIR_BYTES = 1 << 26  # of gathered noise in ``pairs``
FEW_BITS = 30  # of scale that need no conversion
LOOKED = 64  # samples of either kind that are looked at
DIRECT = 0.02  # of the spread of distances: errors that products may have
FARTHEST = 500  # powers of two that samples are scaled by
MORE = 16  # roundings beside those of D products
SHRINK = 1 - 2**-20  # of a root, for a lower bound


class Factors(NamedTuple):
    """Costs (b, m') of some rows and a part of the columns, as one product with few terms beside:
    r_i + t_j - f x_i.y_j or, of distances, ``shrink`` times the root of that."""

    part: slice  # of the columns
    x: Tensor  # (b, D) float32 or, as samples are, float16 or bfloat16
    y: Tensor  # (m', D), likewise
    row: Tensor  # (b,) float32: r
    column: Tensor  # (m',) float32: t
    factor: float
    root: bool
    shrink: float


class CostBlocks:
    """Costs of images ``x`` (n, D) against ``noise`` (m, D), finite, of any float dtype.

    ``unit`` times what the blocks hold is the metric, up to constants of rows and columns.
    """

    def __init__(self, x: Tensor, noise: Tensor, metric: str) -> None:
        self.x, self.noise, self.metric = x, noise, metric
        self._prepare, self._order = METRICS[metric].prepared, METRICS[metric].order
        self.n, self.m, self.dim = x.shape[0], noise.shape[0], max(1, x.shape[1])
        self.device = x.device
        self._product = METRICS[metric].factor is not None
        self._direct = not self._product and self._order != 2  # without products
        part = PART if x.device.type == "cpu" else GPU_PART
        self._step = max(1, part // self.dim)  # samples that are converted at a time
        zero = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
        self._shift_x = self._mean(x)
        self._shift_noise = zero if self._product else self._shift_x
        length_x = self._longest(x, self._shift_x)
        length_noise = self._longest(noise, self._shift_noise)
        if self._product:
            mean = self._mean(noise)
            if float(mean.norm()) > 0.5 * length_noise:  # a common offset, which costs digits
                self._shift_noise = mean
                length_noise = self._longest(noise, mean)
        if self._product:
            bits = self._bits(length_noise)
            self._power_noise = -bits if abs(bits) > FEW_BITS else 0
            self._power_x = -self._bits(length_x) - bits - self._power_noise
            power = self._power_x + self._power_noise
        else:
            bits = self._bits(max(length_x, length_noise))
            power = self._power_x = self._power_noise = -bits if abs(bits) > FEW_BITS else 0
        self.unit = METRICS[metric].unit * 2.0**-power
        plain = not self._power_noise and not bool(self._shift_noise.any())
        plain = plain and noise.dtype == torch.float32 and self._prepare is None
        self._columns: Tensor | None = noise if plain else None
        if not plain and noise.numel() * 4 <= KEPT_BYTES:
            self._columns = torch.cat(
                [self._prepared(part) for part in torch.split(noise, self._step)]
            )
        sizes = [part.to(torch.float64).norm(self._order, 1) for _, part in self._parts()]
        self._sizes = torch.cat(sizes)  # (m,) float64: lengths, or sums of magnitudes
        self._largest = float(self._sizes.max())
        self.magnitude, self._direct = self._look()

    def _look(self) -> tuple[float, bool]:
        """(largest cost of some pairs, whether distances are too much alike for their squares to be
        had from products)."""
        some = torch.arange(0, self.n, max(1, self.n // LOOKED), device=self.device)
        other = torch.arange(0, self.m, max(1, self.m // LOOKED), device=self.device)
        cost, _ = self.pairs(some, other.expand(len(some), -1))
        if self._product or self._direct:
            return float(cost.abs().max()), self._direct
        centred = cost - cost.mean(0)
        spread = (centred - centred.mean(1, keepdim=True)).square().mean().sqrt()
        error = self._error(self._sizes.max()) / (2 * cost.mean().clamp(min=1e-30))
        return float(cost.max()), bool(error > DIRECT * spread)

    def _mean(self, samples: Tensor) -> Tensor:
        total = torch.zeros(samples.shape[1], dtype=torch.float64, device=samples.device)
        for part in torch.split(samples, self._step):
            total += self._widened(part).sum(0)
        return total / max(1, samples.shape[0])

    def _longest(self, samples: Tensor, shift: Tensor) -> float:
        longest = 0.0
        for part in torch.split(samples, self._step):
            longest = max(longest, float((self._widened(part) - shift).norm(dim=1).max()))
        return longest

    def _bits(self, length: float) -> int:
        if not math.isfinite(length):
            raise validation.overflow(self.metric)
        return max(-FARTHEST, min(FARTHEST, math.frexp(length)[1]))

    def _wide(self, samples: Tensor, shift: Tensor, power: int) -> Tensor:
        """Samples in float64, shifted and scaled."""
        return (self._widened(samples) - shift) * 2.0**power

    def _widened(self, samples: Tensor) -> Tensor:
        """In float64, as the product wants them."""
        prepared = self._prepare
        return samples.to(torch.float64) if prepared is None else prepared(samples, torch.float64)

    def _prepared(self, noise: Tensor) -> Tensor:
        return self._wide(noise, self._shift_noise, self._power_noise).to(torch.float32)

    def _parts(self, whole: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """The noise as blocks are computed from it, in parts or, if it is there, ``whole``."""
        step = self.m if whole and self._columns is not None else self._step
        for start in range(0, self.m, max(1, step)):
            part = slice(start, start + step)
            kept = self._columns
            yield part, self._prepared(self.noise[part]) if kept is None else kept[part]

    def block(self, rows: Tensor, out: Tensor, lower: bool = False) -> Tensor:
        """Costs (b, m) of ``rows`` (b,) in float32, or lower bounds on them, in ``out`` (>= b, m).

        ``rows`` are int64, on the device of the samples.
        """
        x = self._wide(self.x.index_select(0, rows), self._shift_x, self._power_x)
        size = x.norm(p=self._order, dim=1)
        left, result = x.to(torch.float32), out[: len(rows)]
        left = -left if self._product else left
        for part, right in self._parts(whole=True):
            if self._direct:
                mode = "donot_use_mm_for_euclid_dist"
                result[:, part] = torch.cdist(left, right, self._order, mode)
            elif len(right) == self.m:
                torch.mm(left, right.T, out=result)
            else:
                result[:, part] = left @ right.T
        error = self._error(size)[:, None] if lower else None
        if not (self._product or self._direct):
            result.mul_(-2).add_(size[:, None].square().to(torch.float32))
            result.add_(self._sizes.square().to(torch.float32))
            if error is not None:
                result.sub_(error.to(torch.float32) * (1 + 2**-20))
            result.clamp_(min=0).sqrt_()
            if error is not None:
                result.mul_(SHRINK)
        elif error is not None:
            if not self._product:
                result.mul_(1 - _gamma(self.dim + MORE) - 2**-20)
            result.sub_(error.to(torch.float32) * (1 + 2**-20))
        return result

    @property
    def multiplied(self) -> bool:
        """Whether costs are had from products; see ``factors``."""
        return not self._direct

    @property
    def _narrow(self) -> bool:
        """Whether products of samples as they are, in 16 bits, differ by constants of rows alone
        from what is wanted, if columns have a term of their own."""
        kinds = {self.x.dtype, self.noise.dtype}
        plain = self._product and self._prepare is None and self._power_noise == 0
        plain = plain and not bool(self._shift_noise.any()) and abs(self._power_x) <= 2 * FEW_BITS
        return plain and kinds in ({torch.float16}, {torch.bfloat16})

    def factors(self, rows: Tensor, lower: bool = False) -> Iterator[Factors]:
        """Of costs of ``rows`` (b,), or of lower bounds on them, for one part of the columns after
        another. Without products there are none (``multiplied``).

        Rows of what is no lower bound may be off by a constant each.
        """
        if self._narrow and not lower:
            scale = 2.0**self._power_x
            column = torch.cat(
                [
                    self._widened(part) @ self._shift_x
                    for part in torch.split(self.noise, self._step)
                ]
            )
            chosen = self.x.index_select(0, rows)
            row = torch.zeros(len(rows), device=self.device)
            column = (column * scale).to(torch.float32)
            yield Factors(slice(0, self.m), chosen, self.noise, row, column, scale, False, 1.0)
            return
        x = self._wide(self.x.index_select(0, rows), self._shift_x, self._power_x)
        size = x.norm(dim=1)
        x, row = x.to(torch.float32), torch.zeros_like(size) if self._product else size.square()
        if lower:
            row -= self._error(size) * (1 + 2**-20)
        row, shrink = row.to(torch.float32), SHRINK if lower else 1.0
        for part, y in self._parts(whole=True):
            square = self._sizes[part].square().to(torch.float32)
            column = torch.zeros_like(square) if self._product else square
            factor = 1.0 if self._product else 2.0
            yield Factors(part, x, y, row, column, factor, not self._product, shrink)

    def _error(self, size: Tensor) -> Tensor:
        """Bounds (b,) on the errors of the rows' costs (of squares of distances), whose samples
        have these sizes."""
        gamma = _gamma(self.dim + MORE)
        if not (self._product or self._direct):
            return gamma * (size + self._largest).square() + 1e-30
        if not self._product:  # the roundings of the samples; others are in proportion to the cost
            return 2**-21 * (size + self._largest) + 1e-30
        return gamma * size * self._largest * (1 + 1e-6) + 1e-30

    def pairs(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Costs (b, k) of ``rows`` (b,) with ``columns`` (b, k) in float64, and bounds (b,) on
        their errors."""
        step = max(1, PAIR_BYTES // (8 * self.dim * max(1, columns.shape[1])))
        parts = [
            self._pairs(rows[start : start + step], columns[start : start + step])
            for start in range(0, len(rows), step)
        ]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _pairs(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        rounding = (2 * self.dim + MORE) * 2.0**-53
        chosen = self.noise.index_select(0, columns.reshape(-1))
        if self._product:
            x = self._wide(self.x.index_select(0, rows), self._shift_x, self._power_x)
            noise = self._wide(chosen, self._shift_noise, self._power_noise)
            cost = -(noise.reshape(*columns.shape, -1) @ x[:, :, None])[:, :, 0]
            return cost, rounding * 1.01 * x.norm(dim=1) * self._largest + 1e-300
        x = self.x.index_select(0, rows).to(torch.float64)
        x, noise = (z * 2.0**self._power_x for z in (x, chosen.to(torch.float64)))
        difference = noise.reshape(*columns.shape, -1).sub_(x[:, None])
        cost = difference.norm(p=self._order, dim=2)
        return cost, rounding * 1.01 * cost.amax(1) + 1e-300


def _gamma(count: int) -> float:
    """What ``count`` roundings of float32 can add up to, relatively, products at full precision."""
    unit = 2.0**-24
    if torch.get_float32_matmul_precision() != "highest":
        unit = 2.0**-7 / count + unit  # factors of 8 bits
    return 1.01 * count * unit / (1 - min(0.5, count * unit))
