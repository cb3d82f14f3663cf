"""Triton kernels: costs on tensor cores, Sinkhorn, the auction, its exact finish, certificates."""
