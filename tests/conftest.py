"""Settings of the whole suite: no wall-clock deadlines, reproducible examples."""

import logging
import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Training takes two threads; without this they spin against the other worker of the suite.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if "PYTEST_XDIST_WORKER" not in os.environ:
    # One cache of trained weights and latency tables for the whole run, workers included: what
    # several tests need is made once. A test of measuring or training itself sets its own.
    shared_cache = tempfile.TemporaryDirectory(prefix="bitfront-tests-")
    os.environ["BITFRONT_CACHE"] = shared_cache.name

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
