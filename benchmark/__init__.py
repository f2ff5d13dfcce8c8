"""Experiments, runs, records and tables."""
