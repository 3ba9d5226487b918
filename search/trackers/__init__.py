"""Handing finished studies to other tools: one file each, none needed for a search."""
