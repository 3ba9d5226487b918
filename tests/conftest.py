"""Settings of the whole suite: no wall-clock deadlines, reproducible examples."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

# Machines are shared and noisy: a slow example is not a failure.
settings.register_profile("bitfront", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("bitfront")
