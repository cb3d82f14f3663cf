"""select_noise has the distribution of the best of k candidates, without the candidates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from samples import DTYPES
from scipy import stats

from immiscible_fast import select_noise
from immiscible_fast.training.best_of_k import largest_of_normals

COUNT = 4000


def seeded(number):
    return torch.Generator().manual_seed(int(number))


def best_of_candidates(x, k, score, center, generator):
    """As it is written down: k noises for each image, and the one with the best score."""
    noise = torch.randn(len(x), k, x.shape[1], generator=generator)
    target = (x - center)[:, None]
    value = (target * noise).sum(2) if score == "dot" else -(target - noise).square().sum(2)
    return noise[torch.arange(len(x)), value.argmax(1)]


def p_values(one, other, x):
    """Two-sample tests of what the choice changes, and of what it must not."""
    aside = torch.randn(x.shape[1], generator=seeded(1))
    views = (
        lambda noise: (noise * x).sum(1),
        lambda noise: noise.square().sum(1),
        lambda noise: noise @ aside,
        lambda noise: noise[:, -1],
    )
    return [stats.ks_2samp(view(one).numpy(), view(other).numpy()).pvalue for view in views]


@pytest.mark.parametrize("score", ["dot", "euclidean"])
@pytest.mark.parametrize("k", [1, 4, 64])
@pytest.mark.parametrize("size", [1, 2, 3, 24])
def test_it_has_the_distribution_of_the_best_candidate(score, k, size):
    """Seeds are fixed: such tests would fail now and then by chance."""
    generator = seeded(100 * size + k)
    x = torch.randn(1, size, generator=generator).expand(COUNT, size)
    center = 0.5 * torch.randn(size, generator=generator)
    noise = select_noise(x, k, score=score, center=center, generator=generator)
    other = best_of_candidates(x, k, score, center, generator)
    assert min(p_values(noise, other, x)) > 1e-3
    if k > 1:  # and the test can tell: half as many candidates are another distribution
        fewer = best_of_candidates(x, k // 2, score, center, generator)
        assert min(p_values(noise, fewer, x - center)) < 1e-3


@pytest.mark.parametrize("score", ["dot", "euclidean"])
def test_an_image_at_the_centre_prefers_no_direction(score):
    x = torch.full((COUNT, 3), 2.0)
    noise = select_noise(x, 8, score=score, center=torch.tensor(2.0), generator=seeded(3))
    other = best_of_candidates(x, 8, score, torch.tensor(2.0), seeded(4))
    assert min(p_values(noise, other, torch.eye(3)[:1].expand(COUNT, 3))) > 1e-3


@pytest.mark.parametrize("k", [1, 2, 1000, 10**9, 10**15])
def test_the_largest_of_normals_keeps_its_digits(k):
    """U^(1/k) of the largest is uniform when it is taken to the power of k; 10^15 leave a double
    with next to no digits below one."""
    largest = largest_of_normals(COUNT, k, seeded(k), torch.device("cpu")).numpy()
    assert np.isfinite(largest).all()
    uniform = np.exp(k * stats.norm.logsf(-largest))
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert len(np.unique(largest)) == COUNT


@pytest.mark.parametrize("score", ["dot", "euclidean"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_and_dtypes(rng, dtype, score):
    for shape in [(5,), (5, 1), (5, 2, 3), (0, 4), (0,), (3, 0)]:
        x = torch.from_numpy(rng.normal(size=shape)).to(dtype).requires_grad_()
        noise = select_noise(x, 16, score=score)
        assert (noise.shape, noise.dtype) == (x.shape, dtype)
        assert noise.isfinite().all()
        assert not noise.requires_grad


@pytest.mark.parametrize("score", ["dot", "euclidean"])
@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30, 3e38])
def test_scales_of_the_image(rng, score, scale):
    """The dot score does not depend on them; large images make the other one the dot score."""
    x = torch.from_numpy(rng.choice([-1.0, 1.0], size=(4, 6))).float()
    noise = select_noise(x * scale, 5, score=score, generator=seeded(0))
    assert noise.isfinite().all()
    if score == "dot":
        torch.testing.assert_close(noise, select_noise(x, 5, generator=seeded(0)))
    elif scale > 1:
        assert ((noise * x).sum(1) / 6**0.5 > -1.5).all()


def test_only_the_generator_given_is_used(rng):
    x = torch.from_numpy(rng.normal(size=(3, 4, 4)))
    before, kept = torch.get_rng_state(), x.clone()
    for score in ("dot", "euclidean"):
        one, other = (select_noise(x, 9, score=score, generator=seeded(5)) for _ in range(2))
        assert torch.equal(one, other)
        assert not torch.equal(one, select_noise(x, 9, score=score, generator=seeded(6)))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(x, kept)
