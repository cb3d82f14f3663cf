"""Optima that other libraries publish for their problems, and SciPy's own tests run against ours.

Small matrices are data of the tests of SciPy, of lap and lapx (T. Kazmar, BSD 2-clause; the random
ones follow from their seed), and of torch-linear-assignment (I. Karpukhin, Apache 2.0). Files that
are too large to be kept here are read from the folder in ``IMMISCIBLE_DATA``, if there is one:
``cost_eps.csv.gz`` from the source distribution of lap, ``assign100.txt`` to ``assign800.txt`` from
J. E. Beasley's OR-Library.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from immiscible_fast import linear_sum_assignment, solve_assignment

INF = np.inf
DTYPES = ("float32", "float64", "int64")
SCIPY_TESTS = "scipy.optimize.tests.test_linear_assignment"
SEED = 1299821  # of the random problems of lap
EIGHT = [
    [1000, 2, 11, 10, 8, 7, 6, 5],
    [6, 1000, 1, 8, 8, 4, 6, 7],
    [5, 12, 1000, 11, 8, 12, 3, 11],
    [11, 9, 10, 1000, 1, 9, 8, 10],
    [11, 11, 9, 4, 1000, 2, 10, 9],
    [12, 8, 5, 2, 11, 1000, 11, 9],
    [10, 11, 12, 10, 9, 12, 1000, 3],
    [10, 10, 10, 10, 6, 3, 1, 1000],
]
SMALL = [  # costs, and what the pairs of an optimum cost
    ([[400, 150, 400], [400, 450, 600], [300, 225, 300]], 850),
    ([[400, 150, 400, 1], [400, 450, 600, 2], [300, 225, 300, 3]], 452),
    ([[10, 10, 8], [9, 8, 1], [9, 7, 4]], 18),
    ([[10, 10, 8, 11], [9, 8, 1, 1], [9, 7, 4, 10]], 15),
    ([[10, INF, INF], [INF, INF, 1], [INF, 7, INF]], 18),
    ([[1000, 4, 1], [1, 1000, 3], [5, 1, 1000]], 3),
    ([[5, 1000, 3], [1000, 2, 2], [1, 5, 1000]], 6),
    ([[1000, 1001, 1000], [1000, 1000, 1001], [1, 2, 3]], 2001),
    ([[10, 10, 13], [4, 8, 8], [8, 5, 8]], 22),
    ([[11, 10, 6], [10, 11, 11], [11, 12, 15]], 28),
    ([[12, 4, 9], [16, 15, 14], [19, 13, 17]], 37),
    ([[2, 5, 7], [7, 10, 12], [1, 5, 9]], 18),
    ([[10, 6, 14, 1], [17, 18, 17, 15], [14, 17, 15, 8], [11, 13, 11, 4]], 41),
    (
        [
            [11, 20, INF, INF, INF],
            [12, INF, 12, INF, INF],
            [INF, 11, 10, 15, 9],
            [15, INF, INF, 22, INF],
            [13, INF, INF, INF, 15],
        ],
        71,
    ),
    ([[-28, -26, -24, -22], [-29, -28, -26, -22]], -56),
    ([[INF, 11, 8], [8, INF, 7]], 16),
    (EIGHT, 17),
]
RUN_SCIPYS_TESTS = """
import sys
import pytest, scipy.optimize, immiscible_fast
scipy.optimize.linear_sum_assignment = immiscible_fast.linear_sum_assignment
sys.exit(pytest.main(["--pyargs", "-q", "-p", "no:cacheprovider", "-c", sys.argv[1], sys.argv[2]]))
"""


@pytest.mark.slow
def test_scipys_own_tests_pass_unchanged(tmp_path):
    if importlib.util.find_spec(SCIPY_TESTS) is None:
        pytest.skip("SciPy came without its tests")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    run = subprocess.run(
        [sys.executable, "-c", RUN_SCIPYS_TESTS, str(tmp_path / "pytest.ini"), SCIPY_TESTS],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cost", "best"), SMALL)
def test_small_problems_have_their_known_optima(cost, best, dtype):
    cost = np.array(cost, float)
    if np.isinf(cost).any() and dtype == "int64":
        pytest.skip("no integer is infinite")
    cost = cost.astype(dtype)
    for given in (cost, cost.T):
        rows, columns = linear_sum_assignment(given)
        assert given[rows, columns].sum() == best
        assert len(rows) == min(given.shape)
    rows, columns = linear_sum_assignment(-cost, maximize=True)
    assert cost[rows, columns].sum() == best


def random_of_lap(n, largest, hard):
    """The random integer problems of lap; the hard ones hide them under random potentials."""
    state = np.random.RandomState(SEED)
    cost = state.randint(1, largest + 1, size=(n, n))
    if hard:
        rows = [state.randint(0, largest) for _ in range(n)]
        columns = [state.randint(0, largest) for _ in range(n)]
        cost = cost + np.array(rows)[:, None] + np.array(columns)
    return cost


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "hard", "best"),
    [(100, False, 198), (100, True, 11399), (1000, False, 1000), (1000, True, 101078)],
)
def test_random_integer_problems_of_lap(n, hard, best, dtype):
    cost = random_of_lap(n, 100, hard).astype(dtype)
    answer = solve_assignment(torch.from_numpy(cost))
    assert float(answer.cost) == best
    assert abs(float(answer.gap)) < 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocked_pairs_do_not_swallow_small_costs(dtype):
    """11 x 12, 0.01 (i + 1) on the diagonal and a blocking 1e6 elsewhere (lapx, issue 20)."""
    cost = np.full((11, 12), 1e6, dtype)
    np.fill_diagonal(cost, 0.01 * np.arange(1, 12))
    cost[0, 0] = 0.0057
    for given in (cost, cost.T):
        rows, columns = linear_sum_assignment(given)
        assert rows.tolist() == columns.tolist() == list(range(11))
