"""Noise matched to the nearest images of its batch, and the assignment solvers that make it
cheap."""

from .assignment import Assignment, solve_assignment
from .diffusion import Diffused, diffuse
from .pairing import assign_noise, fast_assign
from .pairwise import pairwise_cost

__version__ = "0.1.0"

__all__ = [
    "Assignment",
    "Diffused",
    "assign_noise",
    "diffuse",
    "fast_assign",
    "pairwise_cost",
    "solve_assignment",
]
