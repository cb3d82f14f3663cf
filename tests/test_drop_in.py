"""The calls of other libraries: their contracts, against SciPy itself."""

import numpy as np
import pytest
import scipy.optimize
import torch

from immiscible_fast import assignment_to_indices, batch_linear_assignment, linear_sum_assignment


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(
    "dtype", ["float64", ">f8", "float32", "float16", "int32", "uint8", "bool"]
)
@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (9, 5), (1, 4), (4, 1), (0, 3), (3, 0)])
def test_linear_sum_assignment_costs_what_scipy_finds(
    shape: tuple[int, int], dtype: str, maximize: bool
) -> None:
    cost = np.random.default_rng().integers(0, 20, shape).astype(dtype)
    rows, columns = linear_sum_assignment(cost, maximize)
    expected = scipy.optimize.linear_sum_assignment(cost.astype(float), maximize)
    assert rows.dtype == columns.dtype == np.int64
    assert rows.shape == columns.shape == (min(shape),)
    assert (np.diff(rows) > 0).all()
    assert len(set(columns.tolist())) == min(shape)
    assert cost[rows, columns].astype(float).sum() == cost[expected].astype(float).sum()


def test_linear_sum_assignment_takes_lists_and_keyword() -> None:
    rows, columns = linear_sum_assignment([[1, 2], [3, 5]], maximize=True)
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [0, 1])


def test_tensors_give_tensors_and_batches_give_batches() -> None:
    cost = torch.rand(4, 6, 9)
    rows, columns = linear_sum_assignment(cost)
    assert rows.shape == columns.shape == (4, 6)
    for b in range(4):
        single = linear_sum_assignment(cost[b])
        assert torch.equal(single[0], rows[b])
        assert torch.equal(single[1], columns[b])
    tall = linear_sum_assignment(cost.mT, maximize=True)
    assert tall[0].shape == (4, 6)


def invalid_matrices() -> list[tuple[object, bool]]:
    forbidden = [[np.inf, 1.0], [np.inf, 2.0]]
    return [
        ([[np.nan, 1.0], [1.0, 2.0]], False),
        ([[-np.inf, 1.0], [1.0, 2.0]], False),
        ([[np.inf, 1.0], [1.0, 2.0]], True),
        (forbidden, False),
        ([1.0, 2.0], False),
        (np.ones((2, 2, 2)), False),
        ([[1j, 2.0], [1.0, 2.0]], False),
        (np.array([["a", "b"], ["c", "d"]]), False),
    ]


@pytest.mark.parametrize(("cost", "maximize"), invalid_matrices())
def test_errors_are_those_of_scipy(cost: object, maximize: bool) -> None:
    with pytest.raises((TypeError, ValueError)) as expected:
        scipy.optimize.linear_sum_assignment(cost, maximize)
    with pytest.raises(expected.type) as raised:
        linear_sum_assignment(cost, maximize)
    if expected.type is ValueError:
        assert str(raised.value) == str(expected.value)


def test_minus_infinity_forbids_a_pair_when_maximizing() -> None:
    cost = np.array([[5.0, 1.0], [-np.inf, 2.0]])
    assert linear_sum_assignment(cost, maximize=True)[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    "shape", [(3, 8, 8), (3, 5, 8), (3, 8, 5), (2, 150, 140), (0, 4, 4), (2, 0, 3)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_batch_linear_assignment_marks_the_unmatched(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    cost = (torch.rand(shape) * 100).to(dtype)
    index = batch_linear_assignment(cost)
    assert index.shape == shape[:2]
    assert index.dtype == torch.int64
    for matrix, columns in zip(cost.numpy(), index.numpy(), strict=True):
        matched = np.flatnonzero(columns >= 0)
        assert len(matched) == min(shape[1:])
        assert (columns[columns < 0] == -1).all()
        expected = scipy.optimize.linear_sum_assignment(matrix)
        total = matrix[matched, columns[matched]].astype(float).sum()
        assert total == pytest.approx(matrix[expected].astype(float).sum(), rel=1e-12)


def test_assignment_to_indices_gives_the_pairs_in_order() -> None:
    rows, columns = assignment_to_indices(torch.tensor([[2, -1, 0], [-1, 1, 2]]))
    assert rows.tolist() == [[0, 2], [1, 2]]
    assert columns.tolist() == [[2, 0], [1, 2]]
