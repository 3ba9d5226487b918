"""Settings of the whole suite: no wall-clock deadlines, reproducible examples."""

import logging
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

try:
    from absl import logging as absl_logging
except ImportError:
    pass
else:
    # OpenVINO brings absl along. Its handler closes the stream it was made with when logging is
    # configured anew, as Hydra does for a job; in this suite that stream is pytest's.
    absl_logging.PythonHandler.close = logging.Handler.close

# Machines are shared and noisy: a slow example is not a failure.
settings.register_profile("bitfront", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("bitfront")
