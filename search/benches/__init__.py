"""Benchmark suites, one file each, found by `bitfront-bench SUITE`."""
