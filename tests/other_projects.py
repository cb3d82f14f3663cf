"""Code that uses other people's packages: run in this process, so that each is imported once."""

from __future__ import annotations

import importlib
import sys
import warnings
from contextlib import contextmanager

import pytest
import torch

PROJECTS = ("accelerate", "denoising_diffusion_pytorch", "diffusers", "lightning", "peft",
            "torchcfm")  # fmt: skip


@contextmanager
def as_a_user(monkeypatch, tmp_path):
    """Their warnings are theirs, a missing one skips the test, and nothing random, no file and no
    variable of the environment stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["example"])
    with monkeypatch.context() as environment, torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        environment.setenv("HF_HUB_OFFLINE", "1")
        try:
            yield
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in PROJECTS:
                raise
            pytest.skip(f"{error.name} is not installed")


def project(name):
    """The module, or a skip of the tests of the file that asks for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            pytest.skip(f"{error.name} is not installed", allow_module_level=True)
