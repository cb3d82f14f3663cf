"""What every rank of a group has to find, for groups of any size; see test_distributed.py.

Each case is called on all ranks with a generator in the same state, and so draws the whole batch;
the rank then takes its part of it.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.distributed.fsdp as fsdp
from checks import spread
from samples import METRICS, assert_bijection, naive, total
from torch.distributed.device_mesh import init_device_mesh

from immiscible_fast import assign_noise, assign_noise_, diffuse, fast_assign, rank_generator
from immiscible_fast.distributed import replicated, sharded


def parts(rng, n, group):
    """Slices of the ranks, uneven, with ranks that have nothing."""
    cuts = np.sort(rng.integers(0, n + 1, dist.get_world_size(group) - 1))
    if rng.integers(2):
        cuts[: len(cuts) // 2] = 0
    return [slice(int(a), int(b)) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


def mine(rng, n, group):
    return parts(rng, n, group)[dist.get_rank(group)]


def every(value, group):
    found = [None] * dist.get_world_size(group)
    dist.all_gather_object(found, value, group=group)
    return found


def drawn(rng, *shape, dtype=torch.float32):
    return torch.from_numpy(rng.normal(size=shape)).to(dtype)


def options(rng, k, n):
    """Options of the whole batch, and which of them have a row for each sample."""
    labels = torch.from_numpy(rng.integers(0, 3, n))
    embeddings = drawn(rng, n, 3)
    return [
        ({}, ()),
        ({"labels": labels}, ("labels",)),
        ({"conditions": embeddings, "condition_weight": 0.5}, ("conditions",)),
        ({"conditions": labels, "condition_share": 0.7, "labels": labels // 2},
         ("conditions", "labels")),
        ({"mask": torch.tensor([[1.0], [0.5]])}, ()),
        ({"features": lambda x: x[:, 0]}, ()),
        ({"features": lambda x: x[:, 0], "labels": labels, "mask": torch.tensor([1.0, 0, 2])},
         ("labels",)),
    ][k % 7]  # fmt: skip


def the_answer_is_that_of_one_process(rng, group):
    for k in range(14):
        n = int(rng.integers(1, 40))
        metric, method = [*METRICS][k % 5], ("auto", "exact", "auction", "scipy")[k % 4]
        dtype = (torch.float32, torch.float64, torch.float16, torch.bfloat16)[k % 3 if k % 4 else 3]
        x, noise = drawn(rng, n, 2, 3, dtype=dtype), drawn(rng, n, 2, 3)
        whole, by_row = options(rng, k, n)
        rows = mine(rng, n, group)
        own = {name: value[rows] if name in by_row else value for name, value in whole.items()}
        same = {"metric": metric, "method": method, "return_stats": True}
        wanted, stats = fast_assign(x, noise, **same, **whole)
        index, own_stats = fast_assign(x[rows], noise[rows], process_group=group, **same, **own)
        assert index.equal(wanted[rows]), (k, metric, method)
        assert own_stats == stats
        assert_bijection(torch.cat(every(index, group)), n)
        before = noise.clone()
        assigned = assign_noise(
            x[rows], noise[rows], process_group=group, metric=metric, method=method, **own
        )
        assert assigned.equal(noise[wanted][rows]) and noise.equal(before)
        assert assigned.dtype == noise.dtype


def problems_can_be_batched(rng, group):
    x, noise = drawn(rng, 3, 10, 4), drawn(rng, 3, 10, 4)
    labels = torch.from_numpy(rng.integers(0, 2, (3, 10)))
    rows = mine(rng, 10, group)
    for features in (None, lambda v: v[..., :2]):
        wanted = assign_noise(x, noise, batched=True, labels=labels, features=features)
        found = assign_noise(x[:, rows], noise[:, rows], batched=True, labels=labels[:, rows],
                             features=features, process_group=group)  # fmt: skip
        assert found.equal(wanted[:, rows])
    index = fast_assign(x[:, rows], noise[:, rows], batched=True, process_group=group)
    assert index.equal(fast_assign(x, noise, batched=True)[:, rows])


def noise_is_permuted_in_place(rng, group):
    x, noise = drawn(rng, 17, 5), drawn(rng, 17, 5)
    rows = mine(rng, 17, group)
    own = noise[rows].clone()
    assert assign_noise_(x[rows], own, process_group=group) is own
    assert own.equal(assign_noise(x, noise)[rows])


def shared_noise_is_drawn_and_not_sent(rng, group):
    x = drawn(rng, 20, 2, 4)
    rows = mine(rng, 20, group)
    for extra in ({}, {"features": lambda v: v[:, 0]}):
        seeded = torch.Generator().manual_seed(5)
        wanted = assign_noise(x, torch.Generator().manual_seed(5), **extra)
        assert assign_noise(x[rows], seeded, process_group=group, **extra).equal(wanted[rows])
        assert len(set(map(bytes, every(seeded.get_state().numpy().tobytes(), group)))) == 1
    t = torch.rand(20)[rows]
    seeded = torch.Generator().manual_seed(5)
    found = diffuse(x[rows], t, "flow", generator=seeded, process_group=group)
    assert found.noise.equal(assign_noise(x, torch.Generator().manual_seed(5))[rows])


def own_generators_draw_own_noise(rng, group):
    x = drawn(rng, 20, 4)
    rows = mine(rng, 20, group)
    rank = dist.get_rank(group)
    noise = torch.cat(
        every(torch.randn(x[rows].shape, generator=rank_generator(2, rank=rank)), group)
    )
    found = assign_noise(x[rows], rank_generator(2, rank=rank), process_group=group)
    assert found.equal(assign_noise(x, noise)[rows])
    if dist.get_world_size(group) > 2:
        with pytest.raises(ValueError, match="in one state on all ranks, or in another on each"):
            assign_noise(x[rows], rank_generator(2, rank=rank // 2), process_group=group)


def nothing_and_one_image(rng, group):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing can move
        for n in (0, 1):
            x, rows = drawn(rng, n, 3), mine(rng, n, group)
            assert fast_assign(x[rows], x[rows], process_group=group).equal(torch.arange(n)[rows])
            assert assign_noise(x[rows], x[rows], process_group=group).equal(x[rows])


def all_ranks_can_solve_or_one_for_all(rng, group):
    x, noise = drawn(rng, 30, 4), drawn(rng, 30, 4)
    rows = mine(rng, 30, group)
    wanted, one = fast_assign(x, noise, return_stats=True)
    for everybody in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(replicated, "all_solve", lambda x, words, answer=everybody: answer)
            index, stats = fast_assign(x[rows], noise[rows], process_group=group, return_stats=True)
            assert index.equal(wanted[rows]) and stats == one
            with pytest.raises(ValueError, match="tol must be positive"):
                fast_assign(x[rows], noise[rows], tol=-1, process_group=group)


def equal_noise_is_noticed(rng, group):
    x, noise = drawn(rng, 4, 3), drawn(rng, 4, 3)
    if dist.get_world_size(group) > 1:
        with pytest.warns(UserWarning, match="the noise of ranks 0 and 1 is equal; .*rank_gen"):
            fast_assign(x, noise, process_group=group)


def what_differs_is_named_on_all_ranks(rng, group):
    x, noise = drawn(rng, 4, 3), drawn(rng, 4, 3)
    noise += dist.get_rank(group)
    last = dist.get_rank(group) == dist.get_world_size(group) - 1
    labels = [0, 0, 1, 1]
    if dist.get_world_size(group) == 1:
        return
    for differing, named in (
        ({"metric": "dot"}, "metric must be the same on all ranks .*'sqeuclidean' on rank.*'dot'"),
        ({"method": "auction"}, "method must be"),
        ({"tol": 0.1}, "tol must be the same .*got 0.01 on .*0.1 on rank"),
        ({"check": True}, "check must be"),
        ({"return_stats": True}, "return_stats must be"),
        ({"labels": labels}, "labels must be .*got None on .* and given on rank"),
        ({"conditions": labels, "condition_weight": 1.0}, "conditions must be .*classes"),
        ({"mask": torch.ones(3)}, "mask must be .*SHA-256"),
        ({"features": torch.abs}, "one sample of x must be .* on .*one sample|must be"),
    ):
        own = differing if last else {}
        with pytest.raises(ValueError, match=named):
            fast_assign(x, noise, process_group=group, **own)
    for own_x, own_noise, named in (
        (x[:, :2], noise[:, :2], r"one sample of x must be .*\(3,\).*\(2,\)"),
        (x.double(), noise, "one sample of x must be .*float32.*float64"),
        (x, noise.double(), "noise must be .*float32.*float64"),
    ):
        with pytest.raises(ValueError, match=named):
            fast_assign(*(own_x, own_noise) if last else (x, noise), process_group=group)
    with pytest.raises(ValueError, match="the function called must be"):
        (assign_noise if last else fast_assign)(x, noise, process_group=group)


def bad_input_of_one_rank_is_raised_on_all(rng, group):
    x, noise = drawn(rng, 4, 3), drawn(rng, 4, 3) + dist.get_rank(group)
    last = dist.get_world_size(group) - 1
    here = dist.get_rank(group) == last
    for name, bad in (("x", torch.nan), ("noise", torch.inf)):
        for dtype in (torch.float32, torch.float64):
            given = {"x": x.to(dtype, copy=True), "noise": noise.to(dtype, copy=True)}
            if here:
                given[name][2, 1] = bad
            with pytest.raises(ValueError, match=f"^{name} must be finite, got") as caught:
                fast_assign(**given, process_group=group)
            assert (f"rank {last}" in str(caught.value)) == (last > 0)

    def broken(x):
        raise KeyError("features")

    for own, kind, named in (
        ({"labels": [0, 1]}, ValueError, r"labels must have shape \(4,\), got \(2,\)"),
        ({"features": broken}, KeyError, "features"),
        ({"features": lambda x: x[:2]}, ValueError, "features must keep the leading sizes"),
    ):
        good = {"labels": [0, 1, 0, 1]} if "labels" in own else {"features": torch.abs}
        with pytest.raises(kind if here else RuntimeError, match=named) as caught:
            fast_assign(x, noise, process_group=group, **(own if here else good))
        if not here:
            assert str(caught.value).startswith(
                f"process_group: rank {last} raised {kind.__name__}"
            )
    for bad in ({"metric": "l2"}, {"tol": 0}, {"check": 1}):  # the same on all
        with pytest.raises((TypeError, ValueError), match=f"^{next(iter(bad))} must be"):
            fast_assign(x, noise, process_group=group, **bad)
    if here:  # a tensor elsewhere than on this rank would be an error, too
        noise = noise.tolist()
    with pytest.raises(TypeError if here else RuntimeError, match=r"noise must be a torch\.Tensor"):
        fast_assign(x, noise, process_group=group)


def samples_of_kinds(rng, n):
    """Gaussian ones, equal ones, whole numbers, and such with a large offset."""
    yield drawn(rng, n, 4), drawn(rng, n, 4)
    yield drawn(rng, n // 2 + 1, 4).repeat(2, 1)[:n], drawn(rng, n, 4)
    yield torch.ones(n, 4), drawn(rng, n, 4)
    yield drawn(rng, n, 1).round().abs() + 1, drawn(rng, n, 1).round() + 5
    yield 1000 + drawn(rng, n, 4, dtype=torch.float64), drawn(rng, n, 4)


def costs_can_be_shared(rng, group):
    shift = rng.integers(5, size=2)
    for k in range(10):
        n, metric = int(rng.integers(2, 80)), [*METRICS][k % 5]
        kind = int(k + shift[k // 5]) % 5
        x, noise = list(samples_of_kinds(rng, n))[kind]
        rows = mine(rng, n, group)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few whole numbers may well be equal
            index, stats = fast_assign(x[rows], noise[rows], metric=metric, method="sinkhorn",
                                       return_stats=True, process_group=group)  # fmt: skip
        whole = torch.cat(every(index, group))
        assert_bijection(whole, n)
        cost = naive(x, noise, metric)
        best = total(cost, fast_assign(x.double(), noise.double(), metric=metric))
        rounding = 2e-6 * n * (float(cost.abs().mean()) + (metric == "cosine"))
        paid, gap = total(cost, whole), float(stats.gap)
        assert paid - best <= gap + rounding, (kind, metric, n)
        assert gap <= 0.01 * n * spread(cost) + rounding, (kind, metric, n)
        assert abs(float(stats.cost_after) - paid) <= rounding
        assert abs(float(stats.cost_before) - float(cost.diagonal().sum())) <= rounding
        assert float(stats.moved) == float((whole != torch.arange(n)).double().mean())
        assert int(stats.largest_group) == n


def shared_costs_give_noise_too(rng, group):
    x, noise = drawn(rng, 50, 2, 3), drawn(rng, 50, 2, 3)
    rows = mine(rng, 50, group)
    for extra in ({}, {"features": lambda v: v[:, 0]}):
        same = {"process_group": group, "method": "sinkhorn", **extra}
        index = fast_assign(x[rows], noise[rows], **same)
        assert assign_noise(x[rows], noise[rows], check=True, **same).equal(noise[index])
    seeded = torch.Generator().manual_seed(3)
    found = assign_noise(x[rows], seeded, method="sinkhorn", process_group=group)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    index = fast_assign(x[rows], noise[rows], method="sinkhorn", process_group=group)
    assert found.equal(noise[index])
    if dist.get_world_size(group) == 1:
        return
    with pytest.raises(ValueError, match="x and noise are too large, their sqeuclidean cost over"):
        fast_assign(1e30 * x[rows], 1e30 * noise[rows], method="sinkhorn", process_group=group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded, "MATRIX_BYTES", 0)
        assert fast_assign(x[rows], noise[rows], process_group=group).equal(index)
        bad = np.arange(50), np.zeros(50)
        patch.setattr(sharded, "cheapest", lambda column, value: bad)
        with pytest.raises(RuntimeError, match=r"tol=1e-07 is not reached by sharded Sinkhorn"):
            fast_assign(x[rows], noise[rows], tol=1e-7, check=True, process_group=group)


CASES = (
    the_answer_is_that_of_one_process, problems_can_be_batched,
    noise_is_permuted_in_place, shared_noise_is_drawn_and_not_sent, own_generators_draw_own_noise,
    nothing_and_one_image, all_ranks_can_solve_or_one_for_all,
    equal_noise_is_noticed, what_differs_is_named_on_all_ranks,
    bad_input_of_one_rank_is_raised_on_all, costs_can_be_shared, shared_costs_give_noise_too,
)  # fmt: skip


def all_cases(seed):
    for k, case in enumerate(CASES):
        case(np.random.default_rng([seed, k]), dist.group.WORLD)


def other_groups(seed):
    """Half of the ranks, a mesh of all of them, and one of two nodes."""
    size, rank = dist.get_world_size(), dist.get_rank()
    half = dist.new_group(range(size // 2))
    if rank < size // 2:
        the_answer_is_that_of_one_process(np.random.default_rng(seed), half)
    else:
        with pytest.raises(ValueError, match=r"process_group must .* that this process is in"):
            fast_assign(torch.zeros(2, 1), torch.zeros(2, 1), process_group=half)
    x, noise = torch.randn(size, 3), torch.randn(size, 3)
    own = slice(rank, rank + 1)
    mesh = init_device_mesh("cpu", (size,))
    x, noise = every((x, noise), None)[0]
    assert assign_noise(x[own], noise[own], process_group=mesh).equal(assign_noise(x, noise)[own])
    nodes = init_device_mesh("cpu", (2, size // 2), mesh_dim_names=("node", "local"))
    node = rank // (size // 2)
    of_node = slice(node * (size // 2), (node + 1) * (size // 2))
    wanted = assign_noise(x[of_node], noise[of_node])[rank % (size // 2)]
    for group in (nodes["local"], nodes.get_group("local")):
        assert assign_noise(x[own], noise[own], process_group=group)[0].equal(wanted)
    with pytest.raises(ValueError, match=r"one dimension, got 2 dimensions: pass mesh\[name\]"):
        fast_assign(x, noise, process_group=nodes)


def training_steps(seed):
    """Steps of wrapped models, with noise assigned within a node, are those of one process on the
    batch of all ranks."""
    size, rank = dist.get_world_size(), dist.get_rank()
    nodes = init_device_mesh("cpu", (1, size), mesh_dim_names=("node", "local"))
    rng = np.random.default_rng(seed)
    x, noise = drawn(rng, 2, 4 * size, 3), drawn(rng, 2, 4 * size, 3)
    own = slice(4 * rank, 4 * rank + 4)

    def trained(wrap, rows, group):
        torch.manual_seed(0)
        model = wrap(torch.nn.Linear(3, 3))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for images, drawn_for_them in zip(x, noise, strict=True):
            assigned = assign_noise(images[rows], drawn_for_them[rows], process_group=group)
            optimizer.zero_grad()
            (model(images[rows] + assigned) - assigned).square().mean().backward()
            optimizer.step()
        return [getattr(p, "full_tensor", lambda p=p: p)().detach() for p in model.parameters()]

    wanted = trained(lambda model: model, slice(None), None)
    wraps = {"DDP": torch.nn.parallel.DistributedDataParallel}
    if hasattr(fsdp, "fully_shard"):  # since torch 2.6
        wraps["FSDP2"] = lambda model: fsdp.fully_shard(model, mesh=nodes["local"])
    for name, wrap in wraps.items():
        for found, one in zip(trained(wrap, own, nodes["local"]), wanted, strict=True):
            assert torch.allclose(found, one, atol=1e-6), name
