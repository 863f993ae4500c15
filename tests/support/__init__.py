"""Helpers of tests, benchmarks and scripts."""
