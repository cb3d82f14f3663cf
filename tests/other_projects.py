"""Code that uses other people's packages: run in this process, so that each is imported once."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from contextlib import contextmanager
from importlib.machinery import ModuleSpec

import pytest
import stand_ins
import torch

PROJECTS = ("accelerate", "denoising_diffusion_pytorch", "diffusers", "lightning", "peft",
            "torchcfm")  # fmt: skip


@contextmanager
def imports_of_others(names):
    """Their warnings are theirs, and torchvision may be missing: denoising-diffusion-pytorch
    imports two modules of it to read images from files, which no test does."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        if "denoising_diffusion" in names and importlib.util.find_spec("torchvision") is None:
            for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):
                module = types.ModuleType(name)
                module.__spec__ = ModuleSpec(name, None)
                patch.setitem(sys.modules, name, module)
            sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
            sys.modules["torchvision"].utils = sys.modules["torchvision.utils"]
        yield


def forget_accelerate():
    """Its settings are those of the process, whoever made them."""
    if "accelerate" in sys.modules:
        state = importlib.import_module("accelerate.state")
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()


@contextmanager
def as_a_user(monkeypatch, tmp_path, code):
    """Where ``code`` can be run: a missing project skips the test, and nothing random, no file and
    no variable of the environment stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["example"])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, module in stand_ins.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    with torch.random.fork_rng(), imports_of_others(code):
        try:
            yield
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in PROJECTS:
                raise
            pytest.skip(f"{error.name} is not installed")
        finally:
            forget_accelerate()


def project(name):
    """The module, or a skip of the tests of the file that asks for it."""
    with imports_of_others(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            pytest.skip(f"{error.name} is not installed", allow_module_level=True)
