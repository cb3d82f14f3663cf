"""Noise matched to the nearest images of its batch, and the solvers that make it cheap."""

from .assignment import Assignment, solve_assignment
from .diffusion import Diffused, diffuse
from .drop_in import assignment_to_indices, batch_linear_assignment, linear_sum_assignment
from .pairing import assign_noise, fast_assign
from .pairwise import pairwise_cost

__version__ = "0.1.0"

__all__ = [
    "Assignment",
    "Diffused",
    "assign_noise",
    "assignment_to_indices",
    "batch_linear_assignment",
    "diffuse",
    "fast_assign",
    "linear_sum_assignment",
    "pairwise_cost",
    "solve_assignment",
]
