"""Loaders for training loops: what a loop saw, and loaders that fail or keep a state."""

from __future__ import annotations

from itertools import islice

import torch
from samples import draw


def generator(seed):
    return torch.Generator().manual_seed(seed)


def batches_of(rng, *counts):
    """Batches of so many samples, each with two numbers."""
    return [draw(rng, n, 2) for n in counts]


def take(iterator, count):
    return list(islice(iterator, count))


def same(got, want):
    return len(got) == len(want) and all(map(torch.equal, got, want))


class LoaderError(Exception):
    pass


class Stateful:
    """A loader that says where it is, and notes what it read."""

    def __init__(self, batches):
        self.batches, self.place, self.read = batches, 0, []
        self.resumes = False

    def __iter__(self):
        if not self.resumes:
            self.place = 0
        self.resumes = False
        while self.place < len(self.batches):
            self.read.append(self.place)
            self.place += 1
            yield self.batches[self.place - 1]
        self.place = 0  # a state of the end is the start of the next epoch, as in torchdata

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place, self.resumes = state["place"], True
