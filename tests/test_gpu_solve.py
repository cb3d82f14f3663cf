"""The GPU backend end to end, by the public calls: on a GPU where there is one, else on CPU tensors
that are sent through it, in Triton's interpreter."""

from __future__ import annotations

from functools import partial

import checks
import numpy as np
import pytest
import torch
from checks import assert_matching, optimum
from families import FAMILIES, big_m, make, wide_range
from fresh import run
from samples import METRICS, assert_bijection, draw, naive, total
from scipy.optimize import linear_sum_assignment as scipy_assignment

pytest.importorskip("triton")

from immiscible_fast import (
    assign_noise,
    assignment_to_indices,
    batch_linear_assignment,
    fast_assign,
    linear_sum_assignment,
    pairwise_cost,
    solve_assignment,
)
from immiscible_fast.gpu import backend as gpu_backend
from immiscible_fast.gpu import costs as gpu_costs
from immiscible_fast.gpu import solver as gpu_solver

pytestmark = pytest.mark.emulated
METHODS = ("exact", "auction", "sinkhorn")
assert_exact = partial(checks.assert_exact, rounded=True)
assert_within = partial(checks.assert_within, rounded=True)
FORBIDDING = tuple(name for name in FAMILIES if name.startswith("sparse"))
OVERFLOWS = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # as on a GPU, without a word


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """CPU tensors, too, go to the GPU's backend, and memory that nobody wrote holds NaN."""
    monkeypatch.setenv("IMMISCIBLE_BACKEND", "triton")
    if not torch.cuda.is_available():  # small problems, and the interpreter is slow
        monkeypatch.setattr(gpu_solver, "sinkhorn", partial(gpu_solver.sinkhorn, updates=8))
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # poisons what torch.empty gives
    yield
    torch.use_deterministic_algorithms(deterministic)


def solved(cost, device, **options):
    return type(answer := solve_assignment(torch.as_tensor(cost, device=device), **options))(
        *(field.cpu() for field in answer)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_is_optimal_on_every_family(rng, gpu_device, family):
    n, m = int(rng.integers(2, 16)), int(rng.integers(2, 16))
    cost = make(family, rng, n, m, rng.choice(["float32", "float64"]))
    assert_exact(cost, solved(cost, gpu_device, method="exact"))


@pytest.mark.parametrize("method", ["auction", "sinkhorn"])
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in FORBIDDING])
def test_near_optimal_methods_keep_their_promise(rng, gpu_device, family, method):
    n = int(rng.integers(2, 14))
    cost = make(family, rng, n, n, "float32")
    assert_within(cost, solved(cost, gpu_device, method=method, tol=0.02), 0.02)


@pytest.mark.parametrize("family", [wide_range, big_m])
def test_exact_keeps_the_digits_of_small_costs_beside_huge_ones(rng, gpu_device, family):
    cost = family(rng, 12, 12)
    assert_exact(cost, solved(cost, gpu_device, method="exact"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (5, 33), (33, 5), (31, 32), (2, 129)])
def test_every_shape(rng, gpu_device, shape, method):
    cost = rng.normal(size=shape).astype(np.float32)
    answer = solved(cost, gpu_device, method=method, tol=0.01)
    if method == "exact":
        assert_exact(cost, answer)
    else:
        assert_matching(answer.index, *shape)
        assert float(answer.cost) <= optimum(cost) + 0.011 * min(shape) * max(cost.std(), 1)
        assert float(answer.lower_bound) <= optimum(cost) + 1e-9


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_assign(gpu_device, shape):
    answer = solved(np.zeros((2, *shape)), gpu_device)
    assert answer.index.shape == (2, shape[0])
    assert (answer.index == -1).all()
    assert answer.prices.shape == (2, shape[1])
    assert answer.cost.tolist() == answer.gap.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.uint8])
def test_other_dtypes_are_solved_as_they_are_given(rng, gpu_device, dtype):
    cost = torch.from_numpy(rng.integers(0, 90, (2, 11, 11))).to(dtype)
    answer = solved(cost, gpu_device, method="exact")
    for b, one in enumerate(cost):
        assert float(answer.cost[b]) == optimum(one.double().numpy())


def test_layouts_of_memory_do_not_matter(rng, gpu_device):
    base = torch.from_numpy(rng.normal(size=(2, 12, 18))).to(gpu_device)
    views = [base[:, ::2, :6], base[:, 3:9, 2:8].mT, base[:, :6, :: -3 % 3 + 1][:, :, :6]]
    views += [base[:1, :6, :6].expand(3, 6, 6), base[0, :1, :6].expand(6, 6)]
    for view in views:
        kept = view.clone()
        answer = solve_assignment(view.requires_grad_(False), method="exact")
        again = solve_assignment(view.contiguous(), method="exact")
        assert torch.equal(view, kept)
        assert torch.allclose(answer.cost, again.cost)
        assert not answer.prices.requires_grad


def test_a_batch_may_mix_easy_problems_with_price_wars(rng, gpu_device):
    cost = np.stack([make(name, rng, 9, 9) for name in ("uniform", "rows_eightfold", "zeros")])
    answer = solved(cost.astype(np.float32), gpu_device, method="sinkhorn", tol=0.01)
    for b, one in enumerate(cost.astype(np.float32)):
        assert_within(one, type(answer)(*(field[b] for field in answer)), 0.01)


def test_same_input_same_bits(rng, gpu_device):
    cost = torch.from_numpy(rng.normal(size=(2, 12, 12)).astype(np.float32)).to(gpu_device)
    for first, second in zip(*(solve_assignment(cost) for _ in range(2)), strict=True):
        assert torch.equal(first, second)


def unusable(rng):
    cost = rng.normal(size=(4, 4, 4))
    cost[0, 2, 3], cost[1, 1, 1] = np.nan, -np.inf
    cost[2, :2, 1:] = np.inf  # two rows, and one column that they may have
    return cost


@pytest.mark.parametrize("method", METHODS)
def test_unusable_costs_give_a_bijection_that_has_not_converged(rng, gpu_device, method):
    answer = solved(unusable(rng), gpu_device, method=method)
    assert answer.converged.tolist() == [False, False, False, True]
    for index in answer.index:
        assert_matching(index, 4, 4)


def beyond_float32(rng):
    """Costs without a unit: their variance, or what float32 makes of them, is out of range."""
    apart = -3e38 * rng.uniform(0.5, 1, (6, 6))
    apart[:, 0] *= -1
    return [rng.normal(size=(6, 6)) * scale for scale in (1e200, 1e-170, 1e-310)] + [apart]


@OVERFLOWS
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("which", range(4))
def test_costs_without_a_unit_are_solved_exactly(rng, gpu_device, which, method):
    cost = beyond_float32(rng)[which]
    answer = solved(cost.astype(np.float32) if which == 3 else cost, gpu_device, method=method)
    rows, columns = scipy_assignment(cost)
    best, size = cost[rows, columns].sum(), np.abs(cost).max()
    assert bool(answer.converged)
    assert float(answer.cost) / size == pytest.approx(best / size, abs=1e-6)
    assert float(answer.lower_bound) / size == pytest.approx(best / size, abs=1e-6)


@OVERFLOWS
@pytest.mark.parametrize("method", METHODS)
def test_infeasible_costs_without_a_unit_do_not_converge(gpu_device, method):
    cost = torch.tensor(
        [[1e300, torch.inf, torch.inf], [2e300, torch.inf, torch.inf], [1, -1e300, 3e300]],
        dtype=torch.float64,
    )
    assert not bool(solved(cost, gpu_device, method=method).converged)


def test_negated_views_are_what_they_show(rng, gpu_device):
    z = torch.from_numpy(rng.normal(size=(7, 3)) + 1j * rng.normal(size=(7, 3))).to(gpu_device)
    x, noise = z.conj().imag, z.real.contiguous()
    assert x.is_neg()
    want = fast_assign(x.clone(), noise, method="exact")
    assert torch.equal(fast_assign(x, noise, method="exact"), want)


def test_any_tolerance_ends(rng, gpu_device):
    answer = solved(rng.normal(size=(6, 6)), gpu_device, method="auction", tol=1e300)
    assert bool(answer.converged)
    assert np.isfinite(float(answer.lower_bound))


def test_products_follow_the_switches_of_torch():
    """In a process of its own: torch keeps which of its names for them was used."""
    program = """
import torch
from immiscible_fast.gpu.costs import precision
device = torch.device("cpu")
assert precision(device) == "tf32x3"
torch.set_float32_matmul_precision("high")
assert precision(device) == "tf32"
torch.set_float32_matmul_precision("highest")
assert precision(device) == "tf32x3"
if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    assert precision(device) == "tf32"
"""
    run(program, "ignore")


@pytest.mark.parametrize(
    ("metric", "tol"), [("sqeuclidean", 0.01), ("dot", 0.01), ("dot", 0.001), ("euclidean", 0.01)]
)
def test_large_products_are_rounded_for_what_is_near_optimal(
    rng, gpu_device, metric, tol, monkeypatch
):
    monkeypatch.setattr(gpu_costs, "ROUNDED_FROM", 1)
    launch, made = gpu_costs.pairwise, []
    monkeypatch.setattr(gpu_costs, "pairwise", lambda *a, **k: made.append(k) or launch(*a, **k))
    x, noise = (draw(rng, 40, 70, dtype=torch.float32) + 100 for _ in range(2))
    rounded = metric != "euclidean" and tol == 0.01
    for method in ("exact", "sinkhorn"):
        index = fast_assign(x.to(gpu_device), noise.to(gpu_device), metric=metric, method=method,
                            tol=tol).cpu()  # fmt: skip
        assert (made.pop()["precision"] == "bf16") == (rounded and method != "exact")
        cost = naive(x, noise, metric)
        paid, best = total(cost, index), optimum(cost)
        deviation = (cost - cost.mean(0) - cost.mean(1, keepdim=True) + cost.mean()).std()
        limit = 1e-6 if method == "exact" else 2 * tol
        assert paid - best <= limit * 40 * float(deviation)


@pytest.mark.parametrize(("of", "want"), [((8, 0), "tf32x3"), ((8, 6), "ieee"), ((12, 0), "ieee")])
def test_plain_float32_where_three_products_are_no_faster(of, want, monkeypatch):
    monkeypatch.setattr(gpu_costs, "capability", lambda _: of)
    assert gpu_costs.precision(torch.device("cpu")) == want


def test_check_raises_what_a_cpu_raises(rng, gpu_device):
    cost = torch.from_numpy(unusable(rng)).to(gpu_device)
    checked = partial(solve_assignment, check=True, method="exact")
    for call, b, message in (
        (checked, 0, "invalid numeric entries"),
        (linear_sum_assignment, 1, "invalid numeric entries"),
        (checked, 2, "infeasible"),
        (linear_sum_assignment, 2, "infeasible"),
    ):
        with pytest.raises(ValueError, match=message):
            call(cost[b])
    assert bool(checked(cost[3]).converged)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_fast_assign_is_optimal_for_every_metric(rng, gpu_device, metric, dtype):
    x, noise = (draw(rng, 13, 3, 4, dtype=dtype) for _ in range(2))
    x = x + 2
    index = fast_assign(x.to(gpu_device), noise.to(gpu_device), metric=metric, method="exact").cpu()
    assert_bijection(index, 13)
    cost = naive(x.reshape(13, -1), noise.reshape(13, -1), metric)
    slack = 1e-5 if dtype != torch.bfloat16 else 0.02
    assert total(cost, index) <= optimum(cost.numpy()) + slack * 13 * float(cost.std())


@pytest.mark.parametrize("method", ["auto", "auction"])
def test_fast_assign_keeps_the_gain(rng, gpu_device, method):
    x, noise = draw(rng, 2, 24, 10).float(), draw(rng, 2, 24, 10).float()
    index = fast_assign(x.to(gpu_device), noise.to(gpu_device), batched=True, method=method).cpu()
    assert_bijection(index, 24)
    cost = naive(x, noise, "sqeuclidean")
    for b in range(2):
        best, worst = optimum(cost[b].numpy()), float(cost[b].trace())
        assert total(cost[b], index[b]) - best <= 0.02 * (worst - best)


def test_labels_are_kept(rng, gpu_device):
    x, noise = draw(rng, 2, 21, 6).float(), draw(rng, 2, 21, 6).float()
    labels = torch.from_numpy(rng.integers(0, 5, (2, 21)))
    labels[1] = 3
    labels[1, 4] = -7
    places = (part.to(gpu_device) for part in (x, noise))
    index, converged, _ = gpu_backend.assign(*places, labels.to(gpu_device), "dot", "exact", 0.01)
    index = index.cpu()
    assert converged.tolist() == [True, True]
    assert_bijection(index, 21)
    for b in range(2):
        assert torch.equal(labels[b][index[b]], labels[b])
        for label in labels[b].unique():
            rows = (labels[b] == label).nonzero()[:, 0]
            cost = naive(x[b][rows], noise[b][rows], "sqeuclidean")
            paid = naive(x[b], noise[b], "sqeuclidean")[rows, index[b][rows]].sum()
            assert float(paid) == pytest.approx(optimum(cost.numpy()), rel=1e-5)


def test_noise_that_is_not_finite_still_gives_a_bijection(rng, gpu_device):
    x, noise = (draw(rng, 9, 4).float().to(gpu_device) for _ in range(2))
    noise[3, 1] = torch.nan
    if gpu_device == "cuda":
        assert_bijection(fast_assign(x, noise).cpu(), 9)
        with pytest.raises(ValueError, match="noise must be finite"):
            fast_assign(x, noise, check=True)
    index, converged, _ = gpu_backend.assign(x[None], noise[None], None, "dot", "auto", 0.01)
    assert_bijection(index[0].cpu(), 9)
    assert converged.tolist() == [False]


def test_assign_noise_and_one_sample(rng, gpu_device):
    x, noise = (draw(rng, 8, 2, 3).to(gpu_device) for _ in range(2))
    index = fast_assign(x, noise)
    assert torch.equal(assign_noise(x, noise), noise[index])
    assert fast_assign(x[:1], noise[:1]).tolist() == [0]
    assert fast_assign(x[:0], noise[:0]).tolist() == []


@pytest.mark.parametrize("metric", METRICS)
def test_pairwise_cost_is_the_plain_formula(rng, gpu_device, metric):
    x, y = draw(rng, 2, 7, 5), draw(rng, 2, 9, 5)
    for dtype, slack in ((torch.float32, 1e-5), (torch.float64, 1e-12), (torch.float16, 2e-2)):
        sides = [part.to(gpu_device, dtype) for part in (x, y)]
        cost = pairwise_cost(*sides, metric=metric, batched=True)
        assert cost.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        want = naive(*(part.to(dtype) for part in (x, y)), metric)
        torch.testing.assert_close(cost.cpu().double(), want, atol=slack, rtol=slack)
    assert pairwise_cost(x[0].to(gpu_device), y[0, :0].to(gpu_device)).shape == (7, 0)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (9, 5), (0, 3)])
def test_linear_sum_assignment_costs_what_scipy_finds(rng, gpu_device, shape, maximize):
    cost = rng.integers(0, 20, shape)
    pairs = linear_sum_assignment(torch.as_tensor(cost).to(gpu_device), maximize)
    rows, columns = (part.cpu().numpy() for part in pairs)
    assert (np.diff(rows) > 0).all()
    assert len(set(columns.tolist())) == len(rows) == min(shape)
    assert cost[rows, columns].sum() == cost[scipy_assignment(cost, maximize)].sum()


def test_cost_limit_on_a_gpu_is_that_of_the_cpu(rng, gpu_device, monkeypatch):
    cost = torch.from_numpy(rng.random((3, 8, 10)))
    index = batch_linear_assignment(cost.to(gpu_device), cost_limit=0.1).cpu()
    rows, columns = linear_sum_assignment(cost[0].to(gpu_device), cost_limit=0.1)
    monkeypatch.delenv("IMMISCIBLE_BACKEND")
    want = batch_linear_assignment(cost, cost_limit=0.1)
    for b in range(3):
        worth = [_worth(cost[b], one[b], 0.1) for one in (index, want)]
        assert worth[0] == pytest.approx(worth[1])
    assert torch.equal(index[0][rows.cpu()], columns.cpu())
    assert len(rows) == int((index[0] >= 0).sum())


def _worth(cost, index, limit):
    matched = index >= 0
    return float(cost[matched, index[matched]].sum()) + limit * float((~matched).sum())


def test_batch_linear_assignment_and_its_indices(rng, gpu_device):
    cost = torch.from_numpy(rng.random((3, 6, 4)))
    index = batch_linear_assignment(cost.to(gpu_device))
    rows, columns = assignment_to_indices(index)
    for b in range(3):
        assert float(cost[b][rows[b].cpu(), columns[b].cpu()].sum()) == pytest.approx(
            optimum(cost[b].numpy())
        )


def test_rows_that_may_have_no_column_stay_unmatched_where_there_are_more_rows(rng, gpu_device):
    cost = rng.random((9, 4))
    cost[[0, 5, 8]] = np.inf
    answer = solved(cost, gpu_device, method="exact")
    assert_exact(cost, answer)
    assert answer.index[[0, 5, 8]].tolist() == [-1] * 3
