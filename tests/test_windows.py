"""assign_many and windowed: several batches assigned as one, each sample once, and resumed."""

from __future__ import annotations

import pytest
import torch
from loops import Stateful, batches_of, generator, same, take
from samples import draw

from immiscible_fast import assign_many, assign_noise, windowed


def test_batches_of_one_shape_are_one_problem(rng):
    xs = [draw(rng, n, 3, 2) for n in (4, 1, 6)]
    noises = [draw(rng, n, 3, 2) for n in (4, 1, 6)]
    want = assign_noise(torch.cat(xs), torch.cat(noises))
    assert torch.equal(torch.cat(assign_many(xs, noises)), want)


def test_each_shape_dtype_and_order_is_its_own(rng):
    shapes = [(5, 2, 3), (4, 3, 2), (3, 2, 3), (2, 3, 2), (4, 6)]
    xs = [draw(rng, *shape) for shape in shapes] + [draw(rng, 3, 6, dtype=torch.float32)]
    noises = [draw(rng, *x.shape, dtype=x.dtype) for x in xs]
    got = assign_many(tuple(xs), tuple(noises), metric="euclidean")
    assert [(z.shape, z.dtype) for z in got] == [(x.shape, x.dtype) for x in xs]
    for members in ([0, 2], [1, 3], [4], [5]):
        x, noise = (torch.cat([z[i] for i in members]) for z in (xs, noises))
        want = assign_noise(x, noise, metric="euclidean")
        assert torch.equal(torch.cat([got[i] for i in members]), want)


def test_noise_stays_in_its_class_of_all_batches(rng):
    xs, noises = ([draw(rng, 6, 4) for _ in range(3)] for _ in range(2))
    labels = [torch.from_numpy(rng.integers(0, 3, 6)), rng.integers(0, 3, 6), [0, 1, 2, 0, 1, 2]]
    joined = torch.cat([torch.as_tensor(part) for part in labels])
    want = assign_noise(torch.cat(xs), torch.cat(noises), labels=joined)
    assert torch.equal(torch.cat(assign_many(xs, noises, labels=labels)), want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_noise_is_drawn_batch_after_batch_whatever_their_shapes(dtype, rng):
    xs = [draw(rng, 2, 3, dtype=dtype), draw(rng, 4, 2, dtype=dtype), draw(rng, 3, 3, dtype=dtype)]
    state = torch.get_rng_state()
    got = assign_many(xs, generator=generator(3))
    assert torch.equal(torch.get_rng_state(), state)
    again, wide = generator(3), torch.float64 if dtype == torch.float64 else torch.float32
    noises = [torch.randn(x.shape, generator=again, dtype=wide).to(dtype) for x in xs]
    assert same(got, assign_many(xs, noises))
    torch.manual_seed(3)
    assert same(got, assign_many(xs))


def test_gradients_to_the_noise_are_kept(rng):
    xs = [draw(rng, 3, 2), draw(rng, 2, 2)]
    noises = [draw(rng, 3, 2).requires_grad_(), draw(rng, 2, 2).requires_grad_()]
    torch.cat(assign_many(xs, noises)).sum().backward()
    assert all(torch.equal(noise.grad, torch.ones_like(noise)) for noise in noises)


def test_nothing_is_assigned_to_nothing():
    assert assign_many([]) == []
    xs = [torch.ones(0, 3), torch.ones(2, 3)]
    for options in ({}, {"labels": [[], [0, 0]]}, {"conditions": [[], [0, 1]]}):
        weight = {"condition_weight": 1.0} if "conditions" in options else {}
        assert [z.shape for z in assign_many(xs, **options, **weight)] == [(0, 3), (2, 3)]


def test_a_window_is_what_assign_many_gives_and_the_last_may_be_short(rng):
    loader = batches_of(rng, 3, 4, 2, 5, 3)
    pairs = list(windowed(loader, 2, generator=generator(1), metric="dot"))
    again = generator(1)
    want = []
    for window in (loader[:2], loader[2:4], loader[4:]):
        want += assign_many(window, generator=again, metric="dot")
    assert same([batch for batch, _ in pairs], loader)
    assert same([noise for _, noise in pairs], want)
    assert len(windowed(loader, 2)) == 5


def test_it_reads_a_window_before_its_first_batch_and_no_more(rng):
    read = []

    def loader():
        for batch in batches_of(rng, *[2] * 7):
            read.append(batch)
            yield batch

    pairs = iter(windowed(loader(), 3, generator=generator(1)))
    assert not read
    for _ in range(3):
        next(pairs)
        assert len(read) == 3
    next(pairs)
    assert len(read) == 6


@pytest.mark.parametrize(
    "form, images, labels",
    [
        (lambda x, y: (x, y), None, 1),
        (lambda x, y: [x, y], 0, 1),
        (lambda x, y: {"x": x, "y": y}, "x", "y"),
        (
            lambda x, y: {"x": x, "y": y},
            lambda batch: batch["x"],
            lambda batch: batch["y"].tolist(),
        ),
    ],
)
def test_images_and_labels_are_found_and_stay_together(form, images, labels, rng):
    xs = batches_of(rng, 6, 6, 6)
    ys = [torch.from_numpy(rng.integers(0, 2, 6)) for _ in xs]
    loader = [form(x, y) for x, y in zip(xs, ys, strict=True)]
    pairs = list(windowed(loader, 3, images=images, labels=labels, generator=generator(2)))
    assert all(batch is given for (batch, _), given in zip(pairs, loader, strict=True))
    assert same([noise for _, noise in pairs], assign_many(xs, labels=ys, generator=generator(2)))


def test_bad_places_are_named(rng):
    x = draw(rng, 2, 3)
    with pytest.raises(TypeError, match=r"images must say where a batch has them, .* dict"):
        next(iter(windowed([{"x": x}], 1)))
    with pytest.raises(ValueError, match=r"images must be where .* no 'y' in this dict"):
        next(iter(windowed([{"x": x}], 1, images="y")))
    with pytest.raises(ValueError, match=r"labels must be where .* no 1 in this list"):
        next(iter(windowed([[x]], 1, labels=1)))


def test_resuming_is_refused_where_it_cannot_give_the_same_bits(rng):
    loader = batches_of(rng, 2, 2, 2)
    with pytest.raises(ValueError, match="generator must be given"):
        windowed(loader, 2).state_dict()
    loop = windowed(loader, 2, generator=generator(1))
    with pytest.raises(ValueError, match="state must be what state_dict returned, got one without"):
        loop.load_state_dict({"start": 0})
    pairs = iter(loop)
    take(pairs, 3)
    state = loop.state_dict()
    with pytest.raises(ValueError, match="generator must be given"):
        windowed(loader, 2).load_state_dict(state)
    short = windowed(loader[:1], 2, generator=generator(1))
    short.load_state_dict(state)
    with pytest.raises(ValueError, match="loader must have the 3 batches of the state, got 1"):
        next(iter(short))


def test_a_loader_with_a_state_of_its_own_is_told_to_go_on(rng):
    batches = batches_of(rng, *[3] * 7)
    want = list(windowed(batches, 3, generator=generator(5)))
    loop = windowed(Stateful(batches), 3, generator=generator(5))
    take(iter(loop), 4)
    state = loop.state_dict()
    resumed = Stateful(batches)
    loop = windowed(resumed, 3, generator=generator(0))
    loop.load_state_dict(state)
    rest = list(loop)
    assert resumed.read == [3, 4, 5, 6]  # what was before its window is not read again
    assert same([z for pair in rest for z in pair], [z for pair in want[4:] for z in pair])


class Epochs(Stateful):
    """One that notes in its state which epoch it is in, and begins the next when it is iterated."""

    def __init__(self, batches):
        super().__init__(batches)
        self.epoch = -1

    def __iter__(self):
        self.epoch += not self.resumes
        self.resumes = False
        return iter(self.batches[self.epoch :])

    def state_dict(self):
        return {"epoch": self.epoch}

    def load_state_dict(self, state):
        self.epoch, self.resumes = state["epoch"] + 1, True


def test_a_loader_that_was_at_its_end_begins_the_next_epoch(rng):
    batches = batches_of(rng, *[3] * 4)
    loop = windowed(Epochs(batches), 3, generator=generator(5))
    pairs = iter(loop)
    take(pairs, 4)
    state = loop.state_dict()
    assert not list(pairs)
    want = list(loop)
    resumed = windowed(Epochs(batches), 3, generator=generator(0))
    resumed.load_state_dict(state)
    assert not list(resumed)
    rest = list(resumed)
    assert same([z for pair in rest for z in pair], [z for pair in want for z in pair])
    assert same([x for x, _ in rest], batches[1:])
