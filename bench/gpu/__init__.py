"""Parts of ``python -m bench.gpu_check``: what is measured on a GPU, and how."""
