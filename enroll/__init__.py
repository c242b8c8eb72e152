"""Images and transactions in, templates and quality out. Knows no person and no network."""

import os

# From 1.29 on ONNX Runtime reports on its use to its maker, on Linux too, unless this says no before it is
# loaded. What reads a country's fingerprints tells nobody, not even that it runs.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
