"""Assignment without the cost matrix: against the solver that has it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from sample_families import FAMILIES
from scipy.optimize import linear_sum_assignment

from immiscible_fast import assign_noise, fast_assign, pairwise_cost, solve_assignment
from immiscible_fast.metrics import METRICS
from immiscible_fast.streaming import backend as streaming
from immiscible_fast.streaming import blocks, memory, passes

# Costs that differ, but for constants of rows and columns, by less than float32 shows: what is
# found is proven as ever, and the gap is as large as the errors.
FLAT = ("all_equal", "images_equal", "noises_equal", "machol_wien", "offset", "huge", "tiny")
DEGENERATE = {
    "euclidean": FLAT,
    "manhattan": FLAT,
    "cosine": ("machol_wien", "one_dimension", "all_equal", "hubs", "offset"),
}
# Nearly all rows are the same to the cost, and fight for the same columns: lists of 16 entries do
# not suffice, and the budget of work ends what they do.
WARS = {"one_bit", "mostly_zeros", "one_dimension", "noises_equal", "images_equal", "lengths"}
OTHERS = [metric for metric in METRICS if metric != "sqeuclidean"]  # each family takes one in turn


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def samples(family, seed, n, dtype=torch.float32):
    x, noise = FAMILIES[family](np.random.default_rng(seed), n)
    return (torch.from_numpy(np.ascontiguousarray(z)).to(dtype) for z in (x, noise))


def centred(x, noise, metric):
    cost = pairwise_cost(x.double(), noise.double(), metric=metric)
    cost = cost - cost.mean(0)
    return cost - cost.mean(1, keepdim=True)


def check(x, noise, metric, answer, tol, converges=True):
    n = len(x)
    assert sorted(answer.index.tolist()) == list(range(n))
    cost = centred(x, noise, metric)
    optimum = float(solve_assignment(cost).cost)
    paid = float(cost[torch.arange(n), torch.from_numpy(answer.index)].sum())
    largest = float(pairwise_cost(x.double(), noise.double(), metric=metric).abs().max())
    rounding = 1e-12 * n * max(largest, metric == "cosine")  # which is one less a product
    assert paid - optimum <= answer.gap + rounding
    if converges:
        assert answer.converged
        assert answer.gap <= tol * n * (answer.deviation * (1 + 1e-9) + rounding * 1e6)
        assert paid - optimum <= tol * n * (1.5 * float(cost.std()) + rounding * 1e6)


@pytest.mark.parametrize(
    ("family", "metric"),
    [
        (family, metric)
        for k, family in enumerate(FAMILIES)
        for metric in ("sqeuclidean", OTHERS[k % len(OTHERS)])
    ],
)
def test_every_family_is_within_the_certificate(family, metric):
    for seed, n, room, rows in ((0, 65, 16, 1), (1, 190, 64, 100)):
        x, noise = samples(family, seed, n)
        answer = streaming.solve(x, noise, metric, 0.01, room=room, block=rows * n)
        hard = family in DEGENERATE.get(metric, ()) or (family in WARS and metric != "sqeuclidean")
        check(x, noise, metric, answer, 0.01, converges=not hard and room == 64)


@pytest.mark.parametrize("family", ["smooth", "clusters", "images_eightfold", "integers"])
def test_larger_problems_and_samples_of_the_rows(family, monkeypatch):
    monkeypatch.setattr(streaming, "SAMPLED", 64)
    x, noise = samples(family, 5, 1500)
    answer = streaming.solve(x, noise, "sqeuclidean", 0.01, block=1 << 17)
    check(x, noise, "sqeuclidean", answer, 0.01)
    assert answer.passes < 14  # of products


@pytest.mark.parametrize("case", range(2))
def test_what_is_drawn_up_to_4096_is_within_the_certificate(case, rng):
    """Another family, size and metric in each run."""
    family, metric = str(rng.choice(list(FAMILIES))), str(rng.choice(list(METRICS)))
    n = int(rng.integers(1500, 4097))
    x, noise = samples(family, int(rng.integers(2**31)), n)
    answer = streaming.solve(x, noise, metric, 0.01, room=int(rng.choice([32, 64])))
    hard = family in DEGENERATE.get(metric, ()) or family in WARS
    check(x, noise, metric, answer, 0.01, converges=not hard)


def test_lists_that_are_too_short_are_made_anew():
    x, noise = samples("smooth", 1, 700)
    answer = streaming.solve(x, noise, "dot", 0.01, room=16)
    check(x, noise, "dot", answer, 0.01)
    passes = 1 + sum(max(share, 1.0) for share, _, _ in streaming.UPDATES) + 2
    assert answer.passes > passes  # the first lists, prices, deviation and proof; the rest: refills


def test_a_finer_tolerance_gives_a_smaller_gap():
    x, noise = samples("smooth", 2, 400)
    gaps = [streaming.solve(x, noise, "sqeuclidean", tol).gap for tol in (0.03, 0.003, 0.0003)]
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0


def test_several_threads_give_an_answer_within_the_certificate(monkeypatch):
    monkeypatch.setattr(passes, "THREADED", 1)
    torch.set_num_threads(2)
    x, noise = samples("smooth", 3, 600)
    check(x, noise, "sqeuclidean", streaming.solve(x, noise, "sqeuclidean", 0.01), 0.01)


def test_the_same_input_gives_the_same_bits():
    x, noise = samples("smooth", 4, 300)
    one, other = (streaming.solve(x, noise, "sqeuclidean", 0.01) for _ in range(2))
    assert np.array_equal(one.index, other.index) and one.gap == other.gap


@pytest.mark.parametrize("metric", ["sqeuclidean", "dot"])
@pytest.mark.parametrize("family", ["smooth", "offset", "lengths", "huge", "integers"])
def test_the_gap_is_proven_in_exact_arithmetic(family, metric):
    n = 70
    x, noise = (z[:, :12] for z in samples(family, 7, n))
    answer = streaming.solve(x, noise, metric, 0.01, room=16)
    whole = [[[Fraction(v) for v in row] for row in z.tolist()] for z in (x, noise)]
    cost = [[-sum(a * b for a, b in zip(p, q, strict=True)) for q in whole[1]] for p in whole[0]]
    matrix = centred(x, noise, "dot").numpy()
    best = linear_sum_assignment(matrix)[1]  # nearly optimal is enough: its cost is an upper bound
    paid = sum(cost[i][j] for i, j in enumerate(answer.index.tolist()))
    optimum = sum(cost[i][int(j)] for i, j in enumerate(best))
    assert (paid - optimum) * (2 if metric == "sqeuclidean" else 1) <= Fraction(answer.gap)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_blocks_hold_lower_bounds_near_the_costs(metric, dtype, monkeypatch):
    monkeypatch.setattr(blocks, "KEPT_BYTES", 0)  # noise is converted as it is wanted
    monkeypatch.setattr(blocks, "PART", 500)
    x, noise = samples("smooth", 8, 40, dtype)
    x = x + 3  # means that are taken out
    costs = blocks.CostBlocks(x, noise, metric)
    rows, out = torch.arange(40), torch.empty(40, 40)
    exact, error = costs.pairs(rows, rows.expand(40, 40))
    cost = costs.block(rows, out).to(torch.float64)
    lower = costs.block(rows, out.clone(), lower=True).to(torch.float64)
    assert bool((error < 1e-12 * exact.abs().amax(1)).all())
    assert bool((lower <= exact).all())
    spread = float(exact.std())
    assert float((cost - exact).abs().max()) < 1e-4 * spread
    assert float((cost - lower).max()) < 1e-2 * spread
    wanted = centred(x, noise, metric)
    found = exact - exact.mean(0)
    found = (found - found.mean(1, keepdim=True)) * costs.unit
    assert torch.allclose(found, wanted, rtol=0, atol=1e-9 * float(wanted.abs().max()))


def test_passes_by_torch_and_compiled_ones_agree():
    from immiscible_fast.kernels.cpu.shortlists import add_mass, shorten

    generator = torch.Generator().manual_seed(0)
    for m in (65, 300, 2000):
        cost, price = torch.randn(20, m, generator=generator), torch.randn(m, generator=generator)
        rows, mass = np.arange(20), np.zeros(m, np.float32)
        one, other = passes.new_lists(20, 64), passes.new_lists(20, 64)
        shorten(cost.numpy(), rows, 0, 20, price.numpy(), *one)
        passes.shorten_by_torch(cost, rows, price, other)
        for q in range(20):
            assert set(one.index[q]) == set(other.index[q])
            assert np.array_equal(one.value[q], cost.numpy()[q, one.index[q].astype(np.int64)])
            beyond = np.delete((cost + price)[q].numpy(), one.index[q].astype(np.int64))
            assert one.bound[q] <= beyond.min() and other.bound[q] == beyond.min()
            assert one.bound[q] >= (cost + price)[q].numpy()[one.index[q].astype(np.int64)].max()
        add_mass(cost.numpy(), 0, 20, price.numpy(), 0.3, mass)
        wanted = passes.mass_by_torch(cost.double(), price.double(), 0.3)
        assert np.allclose(mass, wanted, rtol=2e-3, atol=1e-7)  # a short series


def test_lists_of_equal_rows_differ_where_all_costs_tie():
    from immiscible_fast.kernels.cpu.shortlists import shorten

    lists = passes.new_lists(50, 16)
    zeros = np.zeros((50, 1000), np.float32)
    shorten(zeros, np.arange(50), 0, 50, zeros[0], *lists)
    assert (lists.count == 16).all() and (lists.bound == 0).all()
    assert len(np.unique(lists.index)) > 400


def test_by_torch_alone_as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(passes.BlockPasses, "compiled", property(lambda self: False), raising=True)
    x, noise = samples("smooth", 9, 300)
    check(x, noise, "sqeuclidean", streaming.solve(x, noise, "sqeuclidean", 0.01), 0.01)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 17, 64, 65])
def test_few_samples(n):
    x, noise = torch.randn(2, n, 5, generator=torch.Generator().manual_seed(n))
    index = fast_assign(x, noise, method="streaming")
    assert sorted(index.tolist()) == list(range(n))
    if 1 < n < 65:
        assert torch.equal(index, fast_assign(x, noise, method="exact"))


def test_labels_batches_and_statistics():
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 2, 300, 3, 4, generator=generator)
    labels = torch.randint(0, 3, (2, 300), generator=generator)
    labels[0, 0] = 9  # a group of one
    index, stats = fast_assign(
        x, noise, method="streaming", labels=labels, batched=True, return_stats=True
    )
    best = fast_assign(x, noise, method="exact", labels=labels, batched=True, return_stats=True)[1]
    for b in range(2):
        assert sorted(index[b].tolist()) == list(range(300))
        assert torch.equal(labels[b][index[b]], labels[b])
    assert bool((stats.cost_after - best.cost_after <= stats.gap + 1e-3).all())
    assert bool((stats.gap > 0).all()) and bool((stats.gap < 0.01 * stats.cost_after).all())
    assert torch.equal(
        assign_noise(x, noise, method="streaming", labels=labels, batched=True)[1],
        noise[1][index[1]],
    )


def test_auto_streams_where_a_matrix_would_not_fit(monkeypatch):
    x, noise = torch.randn(2, 200, 6, generator=torch.Generator().manual_seed(0))
    calls = []
    solve = streaming.solve
    monkeypatch.setattr(streaming, "solve", lambda *args: calls.append(1) or solve(*args))
    exact = fast_assign(x, noise)
    assert torch.equal(fast_assign(x, noise, max_memory=1e6), exact) and not calls
    streamed = fast_assign(x, noise, max_memory=1e5)
    assert len(calls) == 1
    assert torch.equal(streamed, fast_assign(x, noise, method="streaming"))
    labels = torch.arange(200) % 2
    fast_assign(x, noise, labels=labels, max_memory=1.5e5)  # two of 100 x 100 fit
    assert len(calls) == 2
    fast_assign(x, noise, labels=labels, max_memory=1e5)
    assert len(calls) == 4
    monkeypatch.setattr(memory, "LARGE", 100)
    monkeypatch.setattr(memory, "free", lambda device: 1e5)
    fast_assign(x, noise)
    assert len(calls) == 5
    fast_assign(x, noise, method="exact")
    assert len(calls) == 5


def test_free_memory_is_a_plausible_number():
    assert 1e6 < memory.free(torch.device("cpu")) < 1e15


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_memory": -1}, ValueError, "max_memory must not be negative, got -1"),
        ({"max_memory": "1"}, TypeError, "max_memory must be a number of bytes or None, got str"),
        (
            {"conditions": torch.zeros(20, 2), "condition_weight": 1.0},
            ValueError,
            "conditions cannot be had with method='streaming'",
        ),
    ],
)
def test_errors_name_the_argument(options, error, message):
    x, noise = torch.randn(2, 20, 3)
    with pytest.raises(error, match=message):
        fast_assign(x, noise, method="streaming", **options)


def test_what_is_not_finite_is_refused():
    x, noise = torch.randn(2, 100, 3)
    noise[50, 1] = torch.nan
    with pytest.raises(ValueError, match="noise must be finite"):
        fast_assign(x, noise, method="streaming")
    with pytest.raises(ValueError, match="too large, their sqeuclidean cost overflows"):
        fast_assign(x.double() * 1e300, x.double() * 1e300, method="streaming")


def test_a_matrix_cannot_be_streamed():
    with pytest.raises(ValueError, match="method must not be 'streaming' where there is a matrix"):
        solve_assignment(torch.rand(3, 3), method="streaming")


def test_inputs_stay_as_they_are():
    x, noise = torch.randn(2, 100, 3)
    before = x.clone(), noise.clone()
    fast_assign(x, noise, method="streaming")
    assert torch.equal(x, before[0]) and torch.equal(noise, before[1])
