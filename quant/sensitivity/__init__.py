"""Sensitivity scores of layers and choices."""
