"""Wrong arguments raise at once, as TypeError or ValueError, and the message names the argument,
what came and what is wanted."""

from __future__ import annotations

import inspect
from functools import partial

import numpy as np
import pytest
import torch

import immiscible_fast
from immiscible_fast import (
    NoisePool,
    PairedDataset,
    assign_many,
    assign_noise,
    assign_noise_,
    assignment_to_indices,
    batch_linear_assignment,
    diffuse,
    fast_assign,
    linear_sum_assignment,
    pair_dataset,
    pairwise_cost,
    prefetch,
    rank_generator,
    ranks_draw_alike,
    select_noise,
    sinkhorn,
    solve_assignment,
    warmup,
    windowed,
)
from immiscible_fast.adapters.torchcfm import OTPlanSampler
from immiscible_fast.api.options import AssignOptions, OptionsOfAll

X = torch.linspace(0, 1, 12).reshape(4, 3)
T = torch.full((4,), 0.5)
STEPS = torch.zeros(4, dtype=torch.int64)
ALPHAS = torch.linspace(0.9, 0.1, 10)
COST = torch.ones(3, 3)
META = torch.ones(4, 3, device="meta")
COMPLEX = torch.ones(4, 3, dtype=torch.complex64)
NAN, INF = float("nan"), float("inf")


def with_value(value):
    tensor = X.clone()
    tensor[2, 1] = value
    return tensor


FLAG = (None, "yes", 1, X)
COUNT = (0, -1, 2.5, "3", True, 10**30)
NUMBER = ("1", True, 1j, [1], 10**400)
POSITIVE = (0, -1.0, NAN, INF, *NUMBER)
CHOICE = ("l2", 2, X)
SAMPLES = (None, X.numpy(), X.long(), COMPLEX, X.to_sparse(), torch.tensor(1.0), META)
FINITE = (with_value(NAN), with_value(INF), with_value(-INF))
PLACE = (0.5, [0], {})
LABELS = (
    *([0, 1, 1], 3, [[0, 1, 1, 0]], [0.0, 1.0, 1.0, 0.0], ["a", "b", "a", "b"], {0, 1, 2, 3}),
    *([0, 1, 1, 2**70], torch.zeros(4), COMPLEX[:, 0], STEPS.to_sparse(), STEPS.to("meta")),
    np.array(["a", "b", "a", "b"]),
)
REFUSED = {  # what no function takes for an argument of this name
    **dict.fromkeys(("batched", "return_stats", "check", "assign", "background"), FLAG),
    **dict.fromkeys(("progress", "replace", "normalize_cost", "warn", "per_label"), FLAG),
    **dict.fromkeys(("n", "k", "dim", "steps", "epochs", "max_updates", "size", "max_age"), COUNT),
    **dict.fromkeys(("tol", "eps"), POSITIVE),
    **dict.fromkeys(("reg", "reg_m"), NUMBER),
    **dict.fromkeys(("metric", "method", "score"), CHOICE),
    **dict.fromkeys(("x", "noise", "x0", "x1", "X", "y"), SAMPLES),
    **dict.fromkeys(("epoch", "batch_size"), (-1, 0.5, "1", True)),
    **dict.fromkeys(("seed", "rank"), (0.5, "1", True)),
    **dict.fromkeys(("dtype", "score_dtype"), ("float32", torch.int8, 4)),
    **dict.fromkeys(("y0", "y1"), (1, STEPS[:3], STEPS[0])),
    "generator": (0, "cpu", torch.Generator),
    "device": ("cqu", "cuda:x", -1, X),
    "features": ("crop", 3, *(lambda x, odd=odd: odd for odd in (3, X[:2], X.long(), X * NAN))),
    "mask": (
        *([1.0, 1.0, 0.0], torch.ones(3, dtype=torch.complex64), torch.ones(3).to_sparse()),
        *(torch.ones(2), torch.ones(4, 3), META[0]),
        *(torch.tensor([1.0, odd, 0.0]) for odd in (-1.0, NAN, INF)),
    ),
    "max_memory": (-1, NAN, *NUMBER),
    "labels": LABELS,
    "conditions": (*LABELS[:3], T, T * NAN, COMPLEX, META, "abc", FINITE[0]),
    "condition_weight": (-1.0, NAN, INF, T, *NUMBER),
    "condition_share": (-0.1, 1.5, NAN, *NUMBER),
    "process_group": ("world", 0),
    "cost": (None, [[1.0]], COST.to_sparse(), COMPLEX, COST[0], COST[None, None], META),
    "cost_limit": (NAN, -INF, *NUMBER),
    "assignment": ([[0, 1]], STEPS, T[None], META, torch.tensor([[0, -1], [0, 1]])),
    "t": (0.5, STEPS, T[:3], T[0], T + 0.6, -T, T * NAN, T.to("meta")),
    "schedule": ("ddpm", None, [0.9, 0.1], torch.arange(3)),
    "dtypes": (3, ["float32"], [torch.int8]),
    "center": (1.0, X, X[0] * NAN, X[0].long()),
    "xs": (X, None, [X.long()], ["a"]),
    "noises": (X, [X, X], [X[:1]], [X.long()], [None]),
    "loader": (None, 3),
    "images": (
        *(3, torch.zeros(0, 3), X.long(), X.numpy().astype(np.int64), ["a"], META, X.to_sparse()),
        *FINITE[:1],
    ),
    "image": (0.5, True, [0]),
    "path": (None, 3, b"pairs"),
    "num_threads": ("all", 0.5, None, X),
    "pi": (None, [[1.0]], T, torch.zeros(0, 3), np.array([["a"]]), FINITE[0], META),
    "state": ([], None, {"size": 4}),
}
PAIR = {"x": X, "noise": X.flip(0)}
OTHERS = {"labels": PLACE, "conditions": PLACE, "images": PLACE}  # of ``windowed``: places
LISTS = {name: (X, [[0, 1]], [["a"] * 4], [X] * 2) for name in ("labels", "conditions")}
SAMPLER = OTPlanSampler("exact")
POOLS = NoisePool(4), NoisePool(4, labels=True)
BESIDE = {  # what has to come with an argument
    "condition_weight": {"conditions": STEPS},
    "condition_share": {"conditions": STEPS},
    "conditions": {"condition_weight": 1.0},
}


CALLS = {  # function: arguments that it takes, and what it alone refuses
    fast_assign: (PAIR, {"x": SAMPLES + FINITE, "noise": SAMPLES + FINITE + (X[:3],)}),
    assign_noise: (PAIR, {"x": SAMPLES + FINITE, "noise": SAMPLES + FINITE + (X[:3],)}),
    assign_noise_: (PAIR, {"noise": (*SAMPLES, X[:1].expand(4, 3), X.clone().requires_grad_())}),
    pairwise_cost: ({"x": X, "y": X}, {}),
    solve_assignment: ({"cost": COST}, {"method": (*CHOICE, "streaming")}),
    sinkhorn: (
        {"cost": COST, "eps": 1.0},
        {"cost": (*REFUSED["cost"], COST * NAN, COST / 0, COST[:0])},
    ),
    linear_sum_assignment: ({"cost_matrix": COST}, {"cost_matrix": (), "maximize": ()}),
    batch_linear_assignment: ({"cost": COST[None]}, {"cost": (*REFUSED["cost"], COST)}),
    assignment_to_indices: ({"assignment": STEPS[None]}, {}),
    diffuse: ({"x": X, "t": T, "schedule": "flow", "noise": X}, {"x": SAMPLES[:-1]}),
    warmup: ({"dtypes": ()}, {}),
    select_noise: ({"x": X, "k": 2}, {"x": SAMPLES + FINITE}),
    assign_many: ({"xs": [X]}, LISTS),
    NoisePool: ({"size": 4}, {"labels": FLAG, "max_age": (*COUNT, 3)}),
    windowed: ({"loader": [X], "steps": 1}, OTHERS),
    prefetch: ({"loader": [X]}, OTHERS),
    rank_generator: ({"seed": 0}, {"rank": (-1, 0.5, True)}),
    ranks_draw_alike: ({}, {}),
    pair_dataset: ({"images": X, "seed": 0}, {"seed": (-1, 2**64, 0.5, True)}),
    PairedDataset: ({"images": X}, {"images": (3, X[:2], X[:, :2], X.long())}),
    OTPlanSampler: ({"method": "exact"}, {"method": (*CHOICE, "unbalanced", "partial")}),
    POOLS[0].take: ({"x": X}, {"x": SAMPLES + FINITE, "labels": (STEPS,)}),
    POOLS[1].take: ({"x": X, "labels": STEPS}, {"x": SAMPLES[:-2], "labels": (*LABELS, None)}),
    POOLS[0].load_state_dict: ({}, {"state": (*REFUSED["state"], POOLS[1].state_dict())}),
    windowed([X], 1, generator=torch.Generator()).load_state_dict: ({}, {}),
    SAMPLER.get_map: ({"x0": X, "x1": X}, {}),
    OTPlanSampler("sinkhorn").get_map: ({"x0": X, "x1": X}, {"x0": SAMPLES + FINITE}),
    SAMPLER.sample_map: ({"pi": COST, "batch_size": 3}, {}),
    SAMPLER.sample_plan: ({"x0": X, "x1": X}, {"x0": SAMPLES + FINITE, "x1": SAMPLES + FINITE}),
    SAMPLER.sample_plan_with_labels: ({"x0": X, "x1": X}, {}),
    SAMPLER.sample_trajectory: ({"X": X[None]}, {"X": (*SAMPLES, T, FINITE[0][None])}),
}


SEVERAL = (assign_many, windowed, prefetch)


def arguments(call):
    """Names of all arguments, those of ``**options`` included."""
    names = [*inspect.signature(call).parameters]
    if names[-1:] == ["options"]:
        names[-1:] = (OptionsOfAll if call in SEVERAL else AssignOptions).__annotations__
    return names


@pytest.mark.filterwarnings("ignore:immiscible_fast solves tensors on meta")
@pytest.mark.parametrize(
    ("call", "name"),
    [
        pytest.param(call, name, id=f"{call.__name__}({name})")
        for call in CALLS
        for name in arguments(call)
    ],
)
def test_wrong_values_are_refused_in_the_name_of_the_argument(call, name, tmp_path):
    given, refused = CALLS[call]
    if call in (pair_dataset, PairedDataset):
        given = {"path": tmp_path / "pairs", **given}
    if call is PairedDataset:
        pair_dataset(X, seed=0, path=given["path"])
    if call not in SEVERAL:
        given = {**given, **BESIDE.get(name, {})}
    for value in refused[name] if name in refused else REFUSED[name]:
        with pytest.raises((TypeError, ValueError), match=rf"(?s)\b{name}\b.* (got|not) "):
            answer = call(**{**given, name: value})
            list(answer) if call in (windowed, prefetch) else pytest.fail(f"{value} is taken")


def test_every_public_function_is_tried():
    public = {getattr(immiscible_fast, name) for name in immiscible_fast.__all__}
    results = {kind for kind in public if isinstance(kind, type) and issubclass(kind, tuple)}
    assert public - results <= set(CALLS)


def conditioned(x, noise, **options):
    return fast_assign(x, noise, conditions=STEPS, **options)


def case(error, words, call, *args, **options):
    given = "-".join(f"{name}={type(value).__name__}" for name, value in options.items())
    return pytest.param(error, words, call, args, options, id=f"{call.__name__}: {words} {given}")


CASES = [
    *(
        one
        for call in (pairwise_cost, fast_assign, assign_noise)
        for one in (
            case(ValueError, "x and", call, X, X[:, :2]),
            case(ValueError, "x and", call, X, X[:, :, None]),
            case(ValueError, "x and", call, X, META),
            case(ValueError, "x", call, X[0], X[0], batched=True),
            case(ValueError, "x and", call, X[None], X[None].expand(2, 4, 3), batched=True),
            case(TypeError, "positional", call, X, X, "dot"),
        )
    ),
    *(
        one
        for call in (fast_assign, assign_noise)
        for one in (
            case(ValueError, "noise", call, X[None], X[None, :3], batched=True),
            case(ValueError, "labels", call, X[None], X[None], labels=[0, 1, 1, 0], batched=True),
            case(TypeError, "metrics", call, X, X, metrics="dot"),
        )
    ),
    case(TypeError, "t must", diffuse, X, T, ALPHAS, noise=X),
    case(TypeError, "t must", diffuse, X, T.bool(), ALPHAS, noise=X),
    case(TypeError, "t must", diffuse, X, COMPLEX[:, 0], ALPHAS, noise=X),
    case(ValueError, "t must", diffuse, X, STEPS + 10, ALPHAS, noise=X),
    case(ValueError, "t must", diffuse, X, STEPS - 1, ALPHAS, noise=X),
    case(ValueError, "schedule", diffuse, X, STEPS, ALPHAS[None], noise=X),
    case(ValueError, "schedule", diffuse, X, STEPS, ALPHAS + 1, noise=X),
    case(ValueError, "schedule", diffuse, X, STEPS, ALPHAS * NAN, noise=X),
    case(ValueError, "schedule", diffuse, X, STEPS, ALPHAS.to("meta"), noise=X),
    case(ValueError, "noise or generator", diffuse, X, T, "flow"),
    case(ValueError, "noise", diffuse, X, T, "flow", noise=X[:1], assign=False),
    case(TypeError, "noise", diffuse, X, T, "flow", noise=X.tolist(), assign=False),
    case(ValueError, "noise", diffuse, X, T, "flow", noise=META, assign=False),
    case(ValueError, "metric", diffuse, X, T, "flow", noise=X, assign=False, metric="dot"),
    case(ValueError, "t must", diffuse, X[None], T, "flow", noise=X[None], batched=True),
    case(TypeError, "steps", diffuse, X, T, "flow", noise=X, steps=3),
    case(ValueError, "got both", conditioned, X, X, condition_weight=1.0, condition_share=0.5),
    case(ValueError, "got neither", conditioned, X, X),
    case(ValueError, "x must be finite", conditioned, FINITE[0], X, condition_weight=1.0),
    case(ValueError, "must come with conditions", fast_assign, X, X, condition_share=0.5),
    case(ValueError, "xs.1. and noises.1.", assign_many, [X, X], [X, X[:1]]),
    case(TypeError, "unexpected keyword .*'metric'", assign_many, [X], metrc="dot"),
    case(ValueError, "have equal trailing", assign_many, [X, X], conditions=[X, X[:, :2]]),
    case(TypeError, "unexpected keyword", windowed, [X], 1, lables=1),
    case(ValueError, "score_dtype must be float32, bfl", NoisePool, 4, score_dtype=torch.float16),
    case(ValueError, "take torchcfm", OTPlanSampler, "partial"),
    case(ValueError, "needs method='exact'", OTPlanSampler, "sinkhorn", per_label=True),
    case(ValueError, "got 511 and 256", SAMPLER.sample_plan, *map(torch.zeros, (511, 256))),
    case(ValueError, "must both hold samples", SAMPLER.sample_plan, X[:0], X),
]


@pytest.mark.parametrize(("error", "words", "call", "args", "options"), CASES)
def test_wrong_arguments_are_refused(error, words, call, args, options):
    with pytest.raises(error, match=words):
        call(*args, **options)


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
