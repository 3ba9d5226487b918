"""Bit-width search as a sequential decision problem: environment, agents and their training."""
