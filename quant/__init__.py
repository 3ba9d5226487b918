"""Numerics: formats, quantizers, calibration, sensitivity. torch and numpy only."""
