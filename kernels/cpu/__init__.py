"""Numba kernels: the eps-scaling auction, its exact finish and the certificate, on a CPU."""
