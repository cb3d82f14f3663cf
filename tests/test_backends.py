"""Which backend takes a tensor."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from immiscible_fast import devices, fast_assign, solve_assignment
from immiscible_fast.cpu import backend as cpu
from immiscible_fast.ops import backend

CPU = torch.zeros(1)
CUDA = SimpleNamespace(device=torch.device("cuda:0"), is_cuda=True, is_cpu=False)
MPS = SimpleNamespace(device=torch.device("mps"), is_cuda=False, is_cpu=False)


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
    monkeypatch.setattr(devices, "why_no_triton", lambda device: "")
    assert devices.on_gpu(tensor) is takes


def test_without_triton_the_cpu_solves(monkeypatch):
    monkeypatch.setattr(devices, "why_no_triton", lambda device: "Triton is not installed")
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
    monkeypatch.setattr(devices, "_WARNED", set())
    monkeypatch.setattr(devices, "why_no_triton", lambda device: "Triton is not installed")
    with pytest.warns(UserWarning, match="tensors on cuda on the CPU.*Triton is not installed"):
        devices.warn_solved_on_cpu(CUDA.device)
    devices.warn_solved_on_cpu(CUDA.device)  # a second one would be an error here


@pytest.fixture
def _fresh():
    devices.why_no_triton.cache_clear()
    yield
    devices.why_no_triton.cache_clear()


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize(
    ("version", "capability", "why"),
    [
        ("3.1.0", (9, 0), "Triton 3.1.0 is older than 3.2"),
        ("3.0.0+git1", (9, 0), r"Triton 3.0.0\+git1 is older than 3.2"),
        ("3.2.0", (9, 0), ""),
        ("3.10.0", (8, 0), ""),
        ("3.7.1", (7, 5), "its compute capability is 7.5, and the kernels take 8.0 or newer"),
        ("3.7.1", (12, 0), ""),
    ],
)
def test_old_tritons_and_devices_are_left_to_the_cpu(monkeypatch, version, capability, why):
    monkeypatch.setattr(pytest.importorskip("triton"), "__version__", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(devices, "_WARNED", set())
    assert (backend(CUDA) is cpu) is bool(why)
    with pytest.warns(UserWarning, match=f"tensors on cuda on the CPU.*{why}"):
        devices.warn_solved_on_cpu(CUDA.device)


def test_setup_names_the_oldest_triton_that_is_taken():
    setup = (Path(__file__).parent.parent / "setup.py").read_text()
    assert f"triton>={'.'.join(map(str, devices.OLDEST_TRITON))};" in setup
