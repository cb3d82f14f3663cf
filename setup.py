"""Metadata and layout; tool settings are in pyproject.toml, the pins of development in
constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "immiscible_fast/__init__.py").read_text(), re.MULTILINE
).group(1)

REQUIRES = [
    *("filelock>=3.12", "numba>=0.60", "numpy>=1.26", "scipy>=1.11", "torch>=2.4"),
    "typing_extensions>=4.8",
]
DEMO = ["matplotlib>=3.8", "pillow>=10", "rich>=13", "scikit-learn>=1.4"]
TRITON = 'triton>=3.2; platform_system == "Linux"'
# What bench/ reads results with, and settings.
TABLES = ["pandas>=2.2", "pydantic>=2.9", "tyro>=0.9"]
TEST = [
    *("hypothesis>=6.100", "pytest>=8", "pytest-benchmark>=5", "pytest-xdist>=3.8"),
    *(TRITON, *DEMO, *TABLES),
]
BENCH = ["POT>=0.9.5", "fastlap>=0.4", "lapcpp>=1.0", "lapjv>=1.3.29", "lapx>=0.11.1", *TEST]
# The projects that immiscible_fast/adapters speaks to, and what it takes to import them: the set-up
# of the tests leaves out the rest that they ask for (notebooks, torchvision, Lightning twice).
ADAPTERS = [
    "accelerate>=1.15",
    "denoising-diffusion-pytorch>=2.3.4",
    "diffusers>=0.42.1",
    "lightning>=2.6.6",
    "peft>=0.21.2",
    "torchcfm>=1.0.7",
]
ADAPTERS_NEED = [
    *("POT", "einops", "huggingface_hub", "importlib_metadata", "lightning-utilities", "psutil"),
    *("pyyaml", "regex", "requests", "safetensors", "torchmetrics", "tqdm", "transformers"),
]
DOCS = ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"]
# What bench/training needs beside the package; nothing of the library does.
TRAINING = [
    *(*DEMO, *TABLES),
    *("diffusers>=0.42.1", "mlxtend>=0.23", "tensorboard>=2.15"),
    *("torch-fidelity>=0.3", "torchmetrics>=1.4", "tqdm>=4.60"),
    'tomli>=2; python_version < "3.11"',
]
LINT = ["mypy>=1.10", "ruff>=0.6"]

setup(
    name="immiscible-fast",
    version=VERSION,
    description="Match each batch's noise to its images: dense assignment for torch, with a proof",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    package_dir={"immiscible_fast.kernels": "kernels"},
    packages=[
        *find_packages(include=["immiscible_fast", "immiscible_fast.*"]),
        "immiscible_fast.kernels",
        "immiscible_fast.kernels.cpu",
        "immiscible_fast.kernels.gpu",
    ],
    package_data={"immiscible_fast": ["py.typed"]},
    install_requires=REQUIRES,
    extras_require={
        "demo": DEMO,
        "test": TEST,
        "bench": BENCH,
        # For bench.streaming; ott-jax 0.6 does not run with the newest JAX.
        "bench-ott": ["jax<0.8", "ott-jax>=0.6"],
        "lint": LINT,
        "docs": DOCS,
        "training": TRAINING,
        "adapters": ADAPTERS,
        "adapters-need": ADAPTERS_NEED,
    },
    entry_points={"console_scripts": ["immiscible-fast=immiscible_fast.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
