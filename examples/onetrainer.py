"""OneTrainer with assigned noise. In a checkout of it, in the place of
`python scripts/train.py --config-path ...`:

    python /path/to/onetrainer.py scripts/train.py --config-path ...
"""

import runpy
import sys

sys.path.insert(0, ".")  # where the script's own modules are
from modules.modelSetup.mixin.ModelSetupNoiseMixin import ModelSetupNoiseMixin

from immiscible_fast.adapters import onetrainer

onetrainer.patch(ModelSetupNoiseMixin)
print("noise is assigned to the latents of its batch")
if len(sys.argv) > 1:
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
