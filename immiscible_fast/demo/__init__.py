"""``python -m immiscible_fast demo``: two models that differ in the pairing of noise and images."""
