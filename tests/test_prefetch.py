"""prefetch: what windowed gives, to the bit, with the assignment on another thread."""

from __future__ import annotations

import gc
import random
import threading
import weakref

import pytest
import torch
from fresh import run
from loops import LoaderError, Stateful, batches_of, generator, same, take
from samples import draw
from torch.utils.data import DataLoader

from immiscible_fast import prefetch, windowed

LOOPS = {
    "windowed": windowed,
    "prefetch": lambda loader, steps, **options: prefetch(loader, steps=steps, **options),
}


def flat(pairs):
    return [z for pair in pairs for z in pair]


def workers():
    return [one for one in threading.enumerate() if "immiscible_fast" in one.name]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind():
    yield
    assert not workers()


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_it_gives_the_bits_of_windowed(steps, rng):
    loader = batches_of(rng, 4, 4, 3, 5, 4, 4, 2)
    plain, ahead = windowed(loader, steps, generator=generator(1)), generator(1)
    loop = prefetch(loader, steps=steps, generator=ahead)
    assert len(loop) == 7
    for _ in range(2):  # epochs
        assert same(flat(loop), flat(plain))


def test_it_works_on_the_next_window_while_one_is_given_and_reads_no_further(rng):
    read, started = [], threading.Event()

    def loader():
        for batch in batches_of(rng, *[3] * 9):
            read.append(batch)
            yield batch

    def features(z):
        if threading.current_thread() is not threading.main_thread() and len(read) >= 4:
            started.set()
        return z

    pairs = iter(prefetch(loader(), steps=2, generator=generator(1), features=features))
    assert not read
    next(pairs)
    assert len(read) == 4
    assert started.wait(60)  # without the loop asking for more
    assert len(workers()) == 1
    take(pairs, 2)
    assert len(read) == 6
    pairs.close()


def test_the_loader_is_read_by_the_thread_that_asks(rng):
    seen = set()

    def loader():
        for batch in batches_of(rng, *[3] * 5):
            seen.add(threading.current_thread())
            yield batch

    state = torch.get_rng_state()
    assert len(list(prefetch(loader(), generator=generator(1)))) == 5
    assert seen == {threading.main_thread()}
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("failing", range(7))
def test_what_the_loader_raises_comes_after_the_batches_before_it(loop, failing, rng):
    batches = batches_of(rng, *[3] * failing)

    def loader():
        yield from batches
        raise LoaderError

    want = list(windowed(batches, 2, generator=generator(1)))
    got = []
    with pytest.raises(LoaderError):
        for pair in LOOPS[loop](loader(), 2, generator=generator(1)):
            got.append(pair)
    assert same(flat(got), flat(want))


@pytest.mark.parametrize("loop", LOOPS)
def test_what_the_assignment_raises_comes_after_the_windows_before_it(loop, rng):
    batches = batches_of(rng, *[3] * 6)
    batches[4][0, 0] = float("nan")
    got = []
    with pytest.raises(ValueError, match="x must be finite"):
        for pair in LOOPS[loop](batches, 2, generator=generator(1)):
            got.append(pair)
    assert same(flat(got), flat(list(windowed(batches[:4], 2, generator=generator(1)))))


class Reading:
    """An iterator of batches that can be asked whether somebody still has it."""

    def __init__(self, batches):
        self.batches = iter(batches)

    def __iter__(self):
        return self

    def __next__(self):
        batch = next(self.batches)
        if batch is None:
            raise LoaderError
        return batch


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("bad", [None, torch.tensor([[float("nan")]])])
def test_after_an_error_the_loader_is_let_go_at_once(loop, bad, rng):
    """And its processes with it, not when garbage is collected."""
    gc.disable()
    try:
        loader = Reading([*batches_of(rng, 3, 3, 3), bad])
        gone = weakref.ref(loader)
        with pytest.raises((LoaderError, ValueError)) as caught:
            for _ in LOOPS[loop](loader, 2, generator=generator(1)):
                pass
        del caught, loader
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("loop", LOOPS)
def test_two_loops_at_once_each_see_all(loop, rng):
    batches = batches_of(rng, *[3] * 7)
    both = LOOPS[loop](batches, 3, generator=generator(1))
    first, second = iter(both), iter(both)
    found = [take(first, 2), take(second, 4), [*first], [*second]]
    assert same([x for x, _ in found[0] + found[2]], batches)
    assert same([x for x, _ in found[1] + found[3]], batches)


def test_breaking_failing_and_forgetting_end_the_thread(rng):
    batches = batches_of(rng, *[3] * 6)
    for _ in prefetch(batches, steps=2):
        assert workers()
        break
    assert not workers()
    with pytest.raises(ZeroDivisionError):
        for _ in prefetch(batches, steps=2):
            raise ZeroDivisionError
    assert not workers()
    pairs = iter(prefetch(batches, steps=2))
    next(pairs)
    cycle = [pairs]
    cycle.append(cycle)
    del pairs, cycle
    gc.collect()
    assert not workers()


def test_where_no_thread_can_be_had_it_gives_the_same(rng, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    batches = batches_of(rng, *[3] * 5)
    want = list(windowed(batches, 2, generator=generator(1)))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert same(flat(prefetch(batches, steps=2, generator=generator(1))), flat(want))


def test_pinned_batches_get_pinned_noise(rng, monkeypatch):
    batches = batches_of(rng, 3, 3)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda x: x.data_ptr() == batches[1].data_ptr())
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x) or x)
    pairs = list(prefetch(batches, steps=2))
    assert [any(noise is one for one in pinned) for _, noise in pairs] == [False, True]


class Images(torch.utils.data.Dataset):
    """Images and their numbers."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], i


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("processes", [0, 1])
def test_a_shuffled_loader_gives_each_image_once(loop, processes, rng):
    images = draw(rng, 23, 2)

    def loader():
        seeded = generator(9)
        return DataLoader(Images(images), 4, shuffle=True, num_workers=processes, generator=seeded)

    pairs = list(LOOPS[loop](loader(), 2, generator=generator(1)))
    assert torch.cat([i for (_, i), _ in pairs]).sort().values.tolist() == list(range(23))
    assert same([x for (x, _), _ in pairs], [x for x, _ in loader()])
    assert all(torch.equal(x, images[i]) for (x, i), _ in pairs)


def test_a_crashed_worker_is_an_error_in_the_loop():
    """torch raises it in whatever the main thread is at, so this one is a process of its own."""
    program = """
import os, threading, time, torch
from torch.utils.data import DataLoader, Dataset
from immiscible_fast import prefetch
class Crashing(Dataset):
    def __len__(self):
        return 24
    def __getitem__(self, i):
        return torch.ones(3) if i != 17 else os._exit(1)
found = []
try:
    for x, noise in prefetch(DataLoader(Crashing(), 4, num_workers=1), steps=3):
        found.append(len(x))
except RuntimeError as error:
    print("exited unexpectedly" in str(error), set(found) <= {4}, len(found) <= 4)
deadline = time.monotonic() + 60  # torch may have interrupted the wait for the thread's end, too
while alive := any("immiscible" in thread.name for thread in threading.enumerate()):
    if time.monotonic() > deadline:
        break
    time.sleep(0.01)
print(alive)
"""
    assert run(program, "default").split() == ["True", "True", "True", "False"]


@pytest.mark.parametrize("loader", [list, Stateful])
@pytest.mark.parametrize("second", range(3))
def test_windows_that_are_not_read_again_before_the_next_state_are_not_forgotten(
    loader, second, rng
):
    """prefetch had read two, and windowed, which goes on from there, has read one of these."""
    batches, got = batches_of(rng, *[3] * 5), []
    want = list(windowed(batches, 2, generator=generator(1)))
    loop = prefetch(loader(batches), steps=2, generator=generator(1))
    for limit in (1, second, 5):
        got += take(iter(loop), limit)
        state = loop.state_dict()
        loop = windowed(loader(batches), 2, generator=generator(0))
        loop.load_state_dict(state)
    assert same(flat(got), flat(want))


@pytest.mark.parametrize("trial", range(20))
def test_loops_that_are_stopped_and_resumed_at_random_see_each_batch_once(trial, rng):
    """Saved anywhere, by either loop, with what else draws from the generator between batches;
    broken off, or ended by an exception; loaded by either: the bits of one that runs through."""
    dice = random.Random(int(rng.integers(2**32)))
    loader_kind = dice.choice([list, Stateful])
    batches = batches_of(rng, *rng.integers(1, 5, dice.randrange(1, 12)).tolist())
    steps, epochs, shared = dice.randrange(1, 5), 2, dice.random() < 0.5
    kind = dice.choice(list(LOOPS))

    def epoch(loop, source, limit):
        found = []
        for batch, noise in loop:
            found += [batch, noise]
            if shared:  # times for the model, say
                found.append(torch.rand(1, generator=source))
            if len(found) >= limit * (2 + shared):
                break
        return found

    source = generator(trial)
    loop = LOOPS[kind](loader_kind(batches), steps, generator=source)
    want = [epoch(loop, source, len(batches) + 1) for _ in range(epochs)]

    source, got, left = generator(trial), [[]], len(batches)
    loop = LOOPS[kind](loader_kind(batches), steps, generator=source)
    while True:
        limit = dice.randrange(1, len(batches) + 2)
        got[-1] += epoch(loop, source, limit)
        ended = limit > left
        left = len(batches) if ended else left - limit
        if ended and len(got) == epochs:
            break
        if ended:
            got.append([])
        state, source = loop.state_dict(), generator(0)
        if not shared:  # for else they draw in another order
            kind = dice.choice(list(LOOPS))
        loop = LOOPS[kind](loader_kind(batches), steps, generator=source)
        loop.load_state_dict(state)
        assert same([loop.state_dict()["generator"]], [state["generator"]])
    for one, other in zip(got, want, strict=True):
        assert same(one, other)
