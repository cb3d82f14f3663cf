"""Other projects' interfaces: one module for each, imported by its own name.

``from immiscible_fast.adapters.torchcfm import OTPlanSampler``, and so on. Only the project that a
module adapts to has to be installed, and only where the module needs it.
"""
