"""Differentiable architecture search over bit-widths: relaxations, mixtures, budgets, training."""
