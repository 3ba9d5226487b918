"""Quantizers with parameters of their own that training moves."""
