"""Colours, names and orders of what the pictures show."""

from __future__ import annotations

# Okabe and Ito's palette, told apart by any eye
OURS, SCIPY, HEURISTIC, FLOOR = "#D55E00", "#0072B2", "#009E73", "0.25"
OTHERS = ("#56B4E9", "#CC79A7", "#E69F00", "0.45", "#7F6FB0", "#8C6D46", "#3B9C9C", "#B0B000")
FIT_FROM = 256  # below, the cost of a call hides the growth of the work
LEAST_LOST = 1e-6  # of the gain: where the optimum stands on a log axis
STAGES = {
    "distance product": "#0072B2",
    "statistics": "#56B4E9",
    "set-up": "#B3D9EE",
    "auction": "#D55E00",
    "exact finish": "#E69F00",
    "certificate": "#009E73",
    "other": "#EEEEEE",
}
FAMILIES = {
    "photo": "photo patches",
    "digits": "digits 8x8",
    "onef": "1/f images",
    "latents": "latents 4x64x64",
    "wide_latents": "latents 16x128x128",
    "duplicates": "photo patches, each twice",
    "uniform": "uniform random costs",
    "integers": "integer costs < 100",
    "machol_wien": "Machol-Wien, i x j",
}
LINES = {
    "solve": [
        ("exact", "ours, exact", OURS, "-"),
        ("auction 0.01", "ours, auction to 0.01 sd", OURS, "--"),
        ("scipy, raw L2", "SciPy, raw L2 (papers)", SCIPY, "-"),
        ("scipy", "SciPy, centred costs", SCIPY, "--"),
        ("lapjv", "lapjv", OTHERS[0], "-"),
        ("lapx lapjv", "lapx lapjv", OTHERS[1], "-"),
        ("lapx lapjvr", "lapx lapjvr", OTHERS[1], "--"),
        ("lapcpp", "lapcpp", OTHERS[2], "-"),
        ("fastlap auction", "fastlap auction", OTHERS[4], "-"),
        ("POT emd", "POT emd", OTHERS[3], "-"),
    ],
    "pair": [
        ("exact", "ours, exact", OURS, "-"),
        ("auction 0.01", "ours, auction to 0.01 sd", OURS, "--"),
        ("cdist + scipy", "cdist + SciPy (today)", SCIPY, "-"),
        ("official broadcast fp16 + scipy", "papers' broadcast + SciPy", SCIPY, ":"),
        ("product + scipy", "product + SciPy", SCIPY, "--"),
        ("product + lapx lapjvr", "product + lapx lapjvr", OTHERS[1], "--"),
        ("product + lapcpp", "product + lapcpp", OTHERS[2], "-"),
        ("product + lapjv", "product + lapjv", OTHERS[0], "-"),
        ("torchcfm exact", "torchcfm, exact plan", OTHERS[3], "-"),
        ("best of 4, L2", "best of 4 (no permutation)", HEURISTIC, "-"),
    ],
    "memory": [
        ("exact", "ours, exact", OURS, "-"),
        ("auction 0.01", "ours, auction to 0.01 sd", OURS, "--"),
        ("cdist + scipy", "cdist + SciPy (today)", SCIPY, "-"),
        ("product + scipy", "product + SciPy", SCIPY, "--"),
        ("product + lapjv", "product + lapjv", OTHERS[0], "-"),
        ("official broadcast fp16 + scipy", "papers' broadcast", SCIPY, ":"),
    ],
}
