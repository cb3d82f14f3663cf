"""A training script of kohya-ss/sd-scripts with assigned noise. In a checkout of it, in the place
of `accelerate launch flux_train_network.py ...`:

    accelerate launch /path/to/kohya.py flux_train_network.py ...
"""

import runpy
import sys

sys.path.insert(0, ".")  # where the script's own modules are
from library import flux_train_utils, train_util  # or sd3_train_utils, lumina_train_util

from immiscible_fast.adapters import kohya

kohya.patch(train_util, flux_train_utils)
print("noise is assigned to the latents of its batch")
if len(sys.argv) > 1:
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
