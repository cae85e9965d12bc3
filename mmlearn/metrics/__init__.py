"""Metrics, each our own code and checked against the reference implementation."""
