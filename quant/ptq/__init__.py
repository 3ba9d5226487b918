"""Repair: what post-training quantization does beyond rounding every weight to the nearest."""
