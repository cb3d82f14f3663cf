"""Which backend takes a tensor."""

from types import SimpleNamespace

import pytest
import torch

from immiscible_fast import fast_assign, solve_assignment
from immiscible_fast.backends import cpu, select
from immiscible_fast.ops import backend

CPU = torch.zeros(1)
CUDA = SimpleNamespace(device=torch.device("cuda:0"))
MPS = SimpleNamespace(device=torch.device("mps"))


@pytest.mark.parametrize(
    ("tensor", "wanted", "takes"),
    [
        (CPU, "", False),
        (CPU, "cpu", False),
        (CPU, "triton", True),
        (CUDA, "", True),
        (CUDA, "triton", True),
        (CUDA, "cpu", False),
        (MPS, "triton", False),
    ],
)
def test_the_device_and_the_environment_choose(monkeypatch, tensor, wanted, takes):
    monkeypatch.setenv("IMMISCIBLE_BACKEND", wanted)
    monkeypatch.setattr(select, "has_triton", lambda: True)
    assert select.on_gpu(tensor) is takes


def test_without_triton_the_cpu_solves(monkeypatch):
    monkeypatch.setattr(select, "has_triton", lambda: False)
    assert backend(CUDA) is cpu


def test_scipy_is_on_the_cpu_wherever_the_tensor_is(monkeypatch):
    monkeypatch.setenv("IMMISCIBLE_BACKEND", "triton")
    assert backend(CPU, "scipy") is cpu
    assert solve_assignment(torch.eye(3), method="scipy").index.shape == (3,)


def test_an_unknown_backend_is_an_error(monkeypatch):
    monkeypatch.setenv("IMMISCIBLE_BACKEND", "cuda")
    with pytest.raises(ValueError, match="IMMISCIBLE_BACKEND must be 'cpu' or 'triton'"):
        fast_assign(torch.zeros(3, 2), torch.zeros(3, 2))


def test_the_warning_comes_once_and_names_the_device(monkeypatch):
    monkeypatch.setattr(select, "_WARNED", set())
    monkeypatch.setattr(select, "has_triton", lambda: False)
    with pytest.warns(UserWarning, match="tensors on cuda on the CPU.*Triton is not installed"):
        select.warn_solved_on_cpu(CUDA.device)
    select.warn_solved_on_cpu(CUDA.device)  # a second one would be an error here
