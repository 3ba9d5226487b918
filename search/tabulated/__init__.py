"""Small nets whose every policy was evaluated once, so that regret is exact.

``python -m search.tabulated.build`` trains the nets and rebuilds every table in ``data/``.
"""
