"""Benchmarks in and out of the store, and replays run on Ray."""
