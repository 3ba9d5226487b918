"""Solvers of the additive problem: integer programs and orders of evaluation. No torch."""
