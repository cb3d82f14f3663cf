"""The GPU's forests, turn by turn on a CPU: what kernels are compared with, and work counted by.

The steps are those of kernels/gpu/lists.py, matching.py and forest.py for one square problem, with
the same arithmetic, the same ties and so the same bits; only what programs do side by side is done
one after another here. Costs and prices are float64, in units of the scale.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from immiscible_fast.kernels.gpu.schedule import CROWD, MOST_ROUNDS
from numba import njit
from numpy.typing import NDArray

FAR = 1 << 30
INFINITE_BITS = 0x7F800000
LOW, SPREAD, MIX = 0xFFFFFFFF, 0x9E3779B1, 0x85EBCA6B
COUNTERS = ("bids", "rounds", "phases", "turns", "list_scans", "row_scans", "ticks")
Real = NDArray[np.float64]
Whole = NDArray[np.int64]


class State(NamedTuple):
    """What lists and matchings hold; see the kernels' Workspace."""

    listed: Whole  # (n, K)
    value: Real  # (n, K)
    bound: Real
    least: Real
    paid: Real
    price: Real
    column: Whole
    owner: Whole


@njit(cache=True)
def rank(j, i):
    return j - i if j >= i else j - i + FAR


@njit(cache=True)
def cheapest(cost, price, i):
    best, at = np.inf, -1
    for j in range(price.size):
        value = cost[i, j] + price[j]
        if value < best or (value == best and (at < 0 or rank(j, i) < rank(at, i))):
            best, at = value, j
    return best, at


@njit(cache=True)
def fill_list(cost, state, i, least):
    m, length = state.price.size, state.listed.shape[1]
    safe = least if least < np.inf else 0.0
    bits = np.maximum(cost[i] + state.price - safe, 0.0).astype(np.float32).view(np.int32)
    low, high, listed = -1, INFINITE_BITS, 0
    if m <= length:
        low = INFINITE_BITS - 1
    while high - low > 1 and listed < length - length // 4:
        middle = (low + high) >> 1
        count = (bits <= middle).sum()
        if count <= length:
            listed, low = count, middle
        else:
            high = middle
    low, listed, bound = max(low, 0), 0, np.inf
    for j in range(m):
        value = cost[i, j] + state.price[j]
        if value < np.inf and bits[j] <= low and listed < length:
            state.listed[i, listed] = j
            state.value[i, listed] = cost[i, j]
            listed += 1
        else:
            bound = min(bound, value)
    state.listed[i, listed:] = 0
    state.value[i, listed:] = np.inf
    state.bound[i] = bound


@njit(cache=True)
def claim(cost, state):
    """Lists, claims, and what ``settle_kernel`` makes of them."""
    n = cost.shape[0]
    for i in range(n):
        least, j = cheapest(cost, state.price, i)
        fill_list(cost, state, i, least)
        state.least[i], state.column[i] = 0.0, -1
        if least < np.inf:
            state.least[i], state.paid[i] = least, cost[i, j]
            if state.owner[j] < 0:  # rows come in order: the smallest has it
                state.owner[j], state.column[i] = i, j


@njit(cache=True)
def bid_in_rounds(state, rounds):
    """Returns (bids, looks at the free rows)."""
    n, length = state.listed.shape
    won, rise_of = np.full(n, -1), np.zeros(n, np.float32)
    total, turn = 0, 0
    while True:
        bids = 0
        free = np.flatnonzero(state.column < 0)
        bidding = turn < rounds or (turn < MOST_ROUNDS and free.size * CROWD > n)
        for i in free if bidding or turn > 0 else free[:0]:
            first, k_first = np.inf, -1
            for k in range(length):
                j, value = state.listed[i, k], state.value[i, k] + state.price[state.listed[i, k]]
                if value < np.inf and (
                    value < first
                    or (
                        value == first
                        and (j - i & 0x7FFFFFFF) < (state.listed[i, k_first] - i & 0x7FFFFFFF)
                    )
                ):
                    first, k_first = value, k
            if first > state.bound[i] or first == np.inf:
                continue
            second = state.bound[i]
            for k in range(length):
                if k != k_first:
                    second = min(second, state.value[i, k] + state.price[state.listed[i, k]])
            rise = second - first if second < np.inf else 0.0
            j = state.listed[i, k_first]
            state.least[i] = first
            if bidding and (rise > 0 or state.owner[j] == -1):
                state.least[i] = first + rise
                state.paid[i] = state.value[i, k_first]
                bids += 1
                if won[j] < 0 or np.float32(rise) > rise_of[j]:
                    won[j], rise_of[j] = i, np.float32(rise)
        for j in np.flatnonzero(won >= 0):
            i = won[j]
            state.price[j] = max(state.price[j], state.least[i] - state.paid[i])
            state.least[i] = state.paid[i] + state.price[j]
            if state.owner[j] >= 0:
                state.column[state.owner[j]] = -1
            state.owner[j], state.column[i], won[j] = i, j, -1
        total += bids
        turn += 1
        if bids == 0:
            return total, turn


@njit(cache=True)
def scrambled(i, j):
    return ((i * MIX) & LOW) ^ ((j * SPREAD) & LOW)


@njit(cache=True)
def offer(near, offered, parent, i, j, distance, cap):
    if distance < near[j] and distance <= cap and distance < np.inf:
        better = distance == offered[j] and scrambled(i, j) > scrambled(parent[j], j)
        if distance < offered[j] or better:
            offered[j], parent[j] = distance, i


@njit(cache=True)
def pays(state, i):
    j = state.column[i]
    return state.paid[i] + state.price[j] if j >= 0 else state.least[i]


@njit(cache=True)
def grow_phase(cost, state, patience, kept, near, parent, counts):
    """One phase's search; returns (farthest distance of interest, whether nothing can get nearer).
    It begins with the distances that are ``kept``, whose parents are known. ``patience`` 0 is for
    an exact forest."""
    n, length = state.listed.shape
    near[:] = np.inf
    scanned, offered, by = np.full(n, np.inf), kept.copy(), parent.copy()
    before = near.copy()
    cap, step, whole, first = np.inf, 0, False, True
    while True:
        counts[3] += 1
        counts[6] += 1
        before[:] = near  # what rows that reach out in this turn know
        nearer = np.flatnonzero(offered < near)
        near[nearer], parent[nearer] = offered[nearer], by[nearer]
        active = state.owner[nearer]
        active = active[active >= 0]
        if first:
            active = np.concatenate((active, np.flatnonzero(state.column < 0)))
        far = 0.0
        for j in range(n):
            if state.owner[j] == -1:
                far = max(far, near[j])
        offered[:] = np.inf
        by[:] = -1
        rows = active.size
        if whole:
            rows = 0
            for i in range(n):
                reach = near[state.column[i]] if state.column[i] >= 0 else 0.0
                slack = state.bound[i] - pays(state, i)
                if reach < cap and reach + slack < cap and reach < scanned[i]:
                    rows += 1
                    scanned[i] = reach
                    base = pays(state, i)
                    for j in range(n):
                        value = cost[i, j] + state.price[j]
                        if value < np.inf:
                            distance = reach + max(value - base, 0.0)
                            offer(before, offered, by, i, j, distance, cap)
                    fill_list(cost, state, i, cheapest(cost, state.price, i)[0])
            counts[5] += rows
        elif patience == 0 or step < patience:
            for i in active:
                reach = near[state.column[i]] if state.column[i] >= 0 else 0.0
                if reach < cap:
                    counts[4] += 1
                    base = pays(state, i)
                    for k in range(length):
                        j = state.listed[i, k]
                        value = state.value[i, k] + state.price[j]
                        if value < np.inf:
                            distance = reach + max(value - base, 0.0)
                            offer(before, offered, by, i, j, distance, cap)
        cap = min(cap, far)
        step += 1
        first, done = False, rows == 0
        if patience > 0:
            if done or step > patience:
                return cap, done
        elif done:
            if whole:
                return cap, done
            whole = True
        else:
            whole = False


@njit(cache=True)
def find_root(state, parent, j):
    i = parent[j]
    while state.column[i] >= 0:
        i = parent[state.column[i]]
    return i


@njit(cache=True)
def flip(cost, state, kept, near, parent, cap, exact):
    """Flip the nearest path of every tree; returns how many. The others' distances are kept."""
    n = near.size
    best, end, root = np.full(n, np.inf), np.full(n, -1), np.full(n, -1)
    for j in np.flatnonzero(near < np.inf):
        root[j] = i = find_root(state, parent, j)
        if state.owner[j] == -1 and near[j] <= cap and near[j] < best[i]:
            best[i], end[i] = near[j], j
    far = 0.0
    for i in range(n):
        if end[i] >= 0:
            far = max(far, best[i])
    if exact and cap < np.inf:
        far = cap
    kept[:] = np.inf
    if exact:
        for i in range(n):
            if state.column[i] < 0:
                state.least[i] += far
        for j in range(n):
            state.price[j] += max(far - near[j], 0.0)
            if root[j] >= 0 and end[root[j]] < 0:
                kept[j] = max(near[j] - far, 0.0)
    roots = np.flatnonzero(end >= 0)
    for start in roots:
        j, i = end[start], -1
        while i != start:
            i = parent[j]
            left = state.column[i]
            state.owner[j], state.column[i], state.paid[i] = i, j, cost[i, j]
            j = left
    return roots.size


@njit(cache=True)
def grow(cost, state, patience, limit, counts):
    """Forests until nothing is free, or nothing can be done; ``patience`` 0 is exact."""
    n = cost.shape[0]
    kept, near, parent = np.full(n, np.inf), np.empty(n), np.empty(n, np.int64)
    now = patience
    while counts[6] < limit:
        if not (state.column < 0).any():
            counts[3] += 1
            counts[6] += 1
            return
        cap, exhausted = grow_phase(cost, state, now, kept, near, parent, counts)
        found = flip(cost, state, kept, near, parent, cap, patience == 0)
        counts[2] += 1
        counts[6] += 3
        if found == 0 and (patience == 0 or exhausted):
            return
        now = patience if found > 0 else 2 * now


def solve(
    cost: Real, price: Real, *, length: int, rounds: int, patience: int
) -> tuple[State, dict[str, int]]:
    """Lists, bids and forests of one square problem from given prices; what was done, by name."""
    n = len(cost)
    state = State(
        np.zeros((n, length), np.int64), np.zeros((n, length)),
        np.zeros(n), np.zeros(n), np.zeros(n), price.copy(),
        np.full(n, -1), np.full(n, -1),
    )  # fmt: skip
    counts = np.zeros(len(COUNTERS), np.int64)
    claim(cost, state)
    counts[:2] = bid_in_rounds(state, rounds)
    grow(cost, state, patience, 1 << 40, counts)
    return state, dict(zip(COUNTERS, counts.tolist(), strict=True))


@njit(cache=True, fastmath=True)
def masses(cost, price, rate):
    """What every column gets of the rows, which split one unit each."""
    n, m = cost.shape
    total, share = np.zeros(m, np.float32), np.empty(m, np.float32)
    for i in range(n):
        top, whole = np.float32(-np.inf), np.float32(0)
        for j in range(m):
            share[j] = -rate * (cost[i, j] + price[j])
            top = max(top, share[j])
        for j in range(m):
            share[j] = np.exp(share[j] - top)
            whole += share[j]
        for j in range(m):
            total[j] += share[j] / whole
    return total


def sinkhorn_prices(cost: NDArray[np.float32], updates: int, omega: float, at_last: int) -> Real:
    """Prices as those of kernels/gpu/sinkhorn.py, for square costs of unit deviation; their last
    bits are not the same."""
    price = -cost.mean(0, dtype=np.float64).astype(np.float32)
    for step in range(updates):
        eps = 0.003 ** min(step / max(updates - at_last, 1), 1.0)
        mass = np.maximum(masses(cost, price, np.float32(1 / eps)), np.float32(1e-6))
        price = price + np.float32((omega if step < updates - 1 else 1.0) * eps) * np.log(mass)
    return price.astype(np.float64)
