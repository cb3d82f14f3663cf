"""Wrong arguments raise at once, as TypeError or ValueError, and the message names the argument."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from immiscible_fast import (
    assign_noise,
    assignment_to_indices,
    diffuse,
    fast_assign,
    linear_sum_assignment,
    pairwise_cost,
    solve_assignment,
)

X = torch.linspace(0, 1, 12).reshape(4, 3)
T = torch.full((4,), 0.5)
STEPS = torch.zeros(4, dtype=torch.int64)
ALPHAS = torch.linspace(0.9, 0.1, 10)
COST = torch.ones(3, 3)
META = torch.ones(4, 3, device="meta")
NAN, INF = float("nan"), float("inf")


def with_value(value):
    tensor = X.clone()
    tensor[2, 1] = value
    return tensor


def case(error, words, call, *args, **options):
    given = "-".join(f"{name}={type(value).__name__}" for name, value in options.items())
    return pytest.param(error, words, call, args, options, id=f"{call.__name__}: {words} {given}")


SOLVER = [
    case(TypeError, "cost", solve_assignment, [[1.0, 2.0], [2.0, 1.0]]),
    case(TypeError, "cost", solve_assignment, None),
    case(TypeError, "cost", solve_assignment, COST.to_sparse()),
    case(TypeError, "cost", solve_assignment, COST.to(torch.complex64)),
    case(ValueError, "cost", solve_assignment, torch.tensor(1.0)),
    case(ValueError, "cost", solve_assignment, torch.ones(3)),
    case(ValueError, "cost", solve_assignment, torch.ones(2, 2, 3, 3)),
    case(ValueError, "method", solve_assignment, COST, method="hungarian"),
    case(ValueError, "tol", solve_assignment, COST, tol=0),
    case(ValueError, "tol", solve_assignment, COST, tol=NAN),
    case(ValueError, "tol", solve_assignment, COST, tol=INF),
    case(TypeError, "tol", solve_assignment, COST, tol="0.1"),
    case(TypeError, "tol", solve_assignment, COST, tol=True),
    case(ValueError, "tol", solve_assignment, COST, tol=10**400),
]

PAIRS = [
    one
    for call in (pairwise_cost, fast_assign, assign_noise)
    for one in (
        case(TypeError, "x", call, X.numpy(), X),
        case(TypeError, "x", call, X.long(), X),
        case(TypeError, "x", call, X.to(torch.complex64), X),
        case(TypeError, "x", call, X.to_sparse(), X),
        case(ValueError, "x", call, torch.tensor(1.0), torch.tensor(1.0)),
        case(ValueError, "x and", call, X, X[:, :2]),
        case(ValueError, "x and", call, X, X[:, :, None]),
        case(ValueError, "x and", call, X, META),
        case(ValueError, "x and", call, META, X),
        case(ValueError, "x", call, X[0], X[0], batched=True),
        case(ValueError, "x and", call, X[None], X[None].expand(2, 4, 3), batched=True),
        case(ValueError, "metric", call, X, X, metric="l2"),
        case(TypeError, "metric", call, X, X, metric=2),
        case(TypeError, "batched", call, X[None], X[None], batched="yes"),
    )
] + [
    case(TypeError, "y", pairwise_cost, X, X.numpy()),
    case(TypeError, "y", pairwise_cost, X, X.long()),
]

ASSIGN = [
    one
    for call in (fast_assign, assign_noise)
    for one in (
        case(TypeError, "noise", call, X, None),
        case(TypeError, "noise", call, X, X.long()),
        case(ValueError, "noise", call, X, X[:3]),
        case(ValueError, "noise", call, X[None], X[None, :3], batched=True),
        case(ValueError, "x must be finite", call, with_value(NAN), X),
        case(ValueError, "noise must be finite", call, X, with_value(NAN)),
        case(ValueError, "noise must be finite", call, X, with_value(-INF)),
        case(ValueError, "method", call, X, X, method="best"),
        case(ValueError, "tol", call, X, X, tol=0.0),
        case(TypeError, "tol", call, X, X, tol="small"),
        case(ValueError, "labels", call, X, X, labels=[0, 1, 1]),
        case(ValueError, "labels", call, X, X, labels=3),
        case(ValueError, "labels", call, X, X, labels=[[0, 1, 1, 0]]),
        case(ValueError, "labels", call, X[None], X[None], labels=[0, 1, 1, 0], batched=True),
        case(TypeError, "labels", call, X, X, labels=[0.0, 1.0, 1.0, 0.0]),
        case(TypeError, "labels", call, X, X, labels=torch.zeros(4)),
        case(TypeError, "labels", call, X, X, labels=torch.zeros(4, dtype=torch.complex64)),
        case(TypeError, "labels", call, X, X, labels=STEPS.to_sparse()),
        case(TypeError, "labels", call, X, X, labels=["cat", "dog", "cat", "dog"]),
        case(TypeError, "labels", call, X, X, labels=np.array(["a", "b", "a", "b"])),
        case(TypeError, "labels", call, X, X, labels=[0, 1, 1, 2**70]),
        case(TypeError, "labels", call, X, X, labels={0, 1, 2, 3}),
        case(TypeError, "features", call, X, X, features="crop"),
        case(TypeError, "features", call, X, X, features=lambda samples: samples.numpy()),
        case(TypeError, "features", call, X, X, features=lambda samples: samples.long()),
        case(ValueError, "features", call, X, X, features=lambda samples: samples[:2]),
        case(ValueError, "features", call, X, X, features=lambda samples: samples * NAN),
        case(TypeError, "mask", call, X, X, mask=[1.0, 1.0, 0.0]),
        case(TypeError, "mask", call, X, X, mask=torch.ones(3, dtype=torch.complex64)),
        case(TypeError, "mask", call, X, X, mask=torch.ones(3).to_sparse()),
        case(ValueError, "mask", call, X, X, mask=torch.ones(2)),
        case(ValueError, "mask", call, X, X, mask=torch.ones(4, 3)),
        case(ValueError, "mask", call, X, X, mask=torch.tensor([1.0, -1.0, 0.0])),
        case(ValueError, "mask", call, X, X, mask=torch.tensor([1.0, NAN, 0.0])),
        case(ValueError, "mask", call, X, X, mask=torch.tensor([1.0, INF, 0.0])),
        case(TypeError, "metrics", call, X, X, metrics="dot"),
    )
]

DIFFUSE = [
    case(TypeError, "x", diffuse, X.long(), T, "flow", noise=X),
    case(TypeError, "x", diffuse, X.numpy(), T, "flow", noise=X),
    case(ValueError, "x", diffuse, torch.tensor(1.0), T, "flow", noise=X),
    case(TypeError, "t must", diffuse, X, 0.5, "flow", noise=X),
    case(TypeError, "t must", diffuse, X, STEPS, "flow", noise=X),
    case(ValueError, "t must", diffuse, X, T[:3], "flow", noise=X),
    case(ValueError, "t must", diffuse, X, T[0], "flow", noise=X),
    case(ValueError, "t must", diffuse, X, T + 0.6, "flow", noise=X),
    case(ValueError, "t must", diffuse, X, -T, "flow", noise=X),
    case(ValueError, "t must", diffuse, X, T * NAN, "flow", noise=X),
    case(TypeError, "t must", diffuse, X, T, ALPHAS, noise=X),
    case(TypeError, "t must", diffuse, X, T.bool(), ALPHAS, noise=X),
    case(TypeError, "t must", diffuse, X, STEPS.to(torch.complex64), ALPHAS, noise=X),
    case(ValueError, "t must", diffuse, X, STEPS + 10, ALPHAS, noise=X),
    case(ValueError, "t must", diffuse, X, STEPS - 1, ALPHAS, noise=X),
    case(ValueError, "schedule", diffuse, X, T, "ddpm", noise=X),
    case(TypeError, "schedule", diffuse, X, STEPS, None, noise=X),
    case(TypeError, "schedule", diffuse, X, STEPS, [0.9, 0.1], noise=X),
    case(TypeError, "schedule", diffuse, X, STEPS, torch.arange(3), noise=X),
    case(ValueError, "schedule", diffuse, X, STEPS, ALPHAS[None], noise=X),
    case(ValueError, "schedule", diffuse, X, STEPS, ALPHAS + 1, noise=X),
    case(ValueError, "schedule", diffuse, X, STEPS, ALPHAS * NAN, noise=X),
    case(ValueError, "noise or generator", diffuse, X, T, "flow"),
    case(TypeError, "generator", diffuse, X, T, "flow", generator=0),
    case(ValueError, "noise", diffuse, X, T, "flow", noise=X[:3]),
    case(ValueError, "noise", diffuse, X, T, "flow", noise=X[:1], assign=False),
    case(TypeError, "noise", diffuse, X, T, "flow", noise=X.tolist(), assign=False),
    case(TypeError, "noise", diffuse, X, T, "flow", noise=X.long(), assign=False),
    case(ValueError, "noise", diffuse, X, T, "flow", noise=with_value(NAN)),
    case(ValueError, "noise", diffuse, X, T, "flow", noise=META),
    case(ValueError, "noise", diffuse, X, T, "flow", noise=META, assign=False),
    case(ValueError, "metric", diffuse, X, T, "flow", noise=X, metric="l2"),
    case(ValueError, "labels", diffuse, X, T, "flow", noise=X, labels=[0]),
    case(ValueError, "metric", diffuse, X, T, "flow", noise=X, assign=False, metric="dot"),
    case(ValueError, "t must", diffuse, X[None], T, "flow", noise=X[None], batched=True),
    case(TypeError, "steps", diffuse, X, T, "flow", noise=X, steps=3),
]


@pytest.mark.parametrize(
    ("error", "words", "call", "args", "options"), SOLVER + PAIRS + ASSIGN + DIFFUSE
)
def test_wrong_arguments_are_refused(error, words, call, args, options):
    with pytest.raises(error, match=rf"\b{words}\b"):
        call(*args, **options)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: solve_assignment(torch.ones(3, 3, device="meta")), "cost"),
        (lambda: fast_assign(META, META), "x"),
        (lambda: fast_assign(X, X, labels=STEPS.to("meta")), "labels"),
        (lambda: fast_assign(X, X, mask=META[0]), "mask"),
        (lambda: pairwise_cost(META, META), "x"),
        (lambda: assignment_to_indices(STEPS[None].to("meta")), "assignment"),
        (lambda: diffuse(X, T.to("meta"), "flow", noise=X), "t"),
        (lambda: diffuse(X, STEPS, ALPHAS.to("meta"), noise=X), "schedule"),
    ],
)
@pytest.mark.filterwarnings("ignore:immiscible_fast solves tensors on meta")
def test_tensors_without_data_are_refused(call, words):
    with pytest.raises((TypeError, ValueError), match=rf"\b{words}\b"):
        call()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.filterwarnings("ignore:.*quantized tensor:UserWarning")
@pytest.mark.parametrize("kind", ["nested", "jagged", "quantized"])
def test_tensors_that_are_not_dense_are_refused(kind):
    if kind == "quantized":
        odd = torch.quantize_per_tensor(X, 0.1, 0, torch.quint8)
    else:
        layout = torch.jagged if kind == "jagged" else torch.strided
        odd = torch.nested.nested_tensor([X, X], layout=layout)
    calls = [
        *(partial(call, odd, odd) for call in (fast_assign, assign_noise, pairwise_cost)),
        *(partial(call, odd) for call in (solve_assignment, linear_sum_assignment)),
        partial(diffuse, X, odd, "flow", noise=X),
        partial(fast_assign, X, X, labels=odd),
        partial(fast_assign, X, X, mask=odd),
        partial(fast_assign, X, X, features=lambda samples: odd),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"(x|cost|t|labels|mask).* a (nested|quantized) one"):
            call()


@pytest.mark.parametrize("call", [fast_assign, assign_noise, pairwise_cost])
def test_options_cannot_be_given_by_position(call):
    with pytest.raises(TypeError, match="positional"):
        call(X, X, "dot")


def test_products_that_overflow_are_refused_in_words_about_the_samples():
    with pytest.raises(ValueError, match=r"\b(x|noise)\b"):
        fast_assign(X * 1e30, X * 1e30)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "dot", "manhattan"])
@pytest.mark.parametrize("method", ["exact", "auction"])
def test_one_cost_that_overflows_is_no_forbidden_pair(method, metric):
    """The others make a complete assignment, but not always the cheapest."""
    for n in (2, 70, 700):
        x, noise = torch.zeros(n, 4), torch.zeros(n, 4)
        x[0], noise[0] = 3e38, -1e38
        with pytest.raises(ValueError, match="x and noise are too large"):
            fast_assign(x, noise, metric=metric, method=method)
        fast_assign(x.double(), noise.double(), metric=metric, method=method)


def test_numbers_of_any_kind_are_tolerances_and_limits():
    from fractions import Fraction

    cost = torch.rand(5, 5)
    for tol in (np.float32(0.1), np.int64(1), Fraction(1, 10)):
        assert solve_assignment(cost, method="auction", tol=tol).converged
    for limit in (np.float32(0.5), Fraction(1, 2)):
        assert linear_sum_assignment(cost.numpy(), cost_limit=limit)[0].size <= 5


def test_numbers_beyond_float64_are_refused():
    cost = torch.rand(5, 5)
    for huge in (10**400, -(10**400), 10**5000):
        with pytest.raises(ValueError, match="cost_limit must fit into float64"):
            linear_sum_assignment(cost, cost_limit=huge)
        with pytest.raises(ValueError, match="tol must fit into float64"):
            solve_assignment(cost, tol=huge)
