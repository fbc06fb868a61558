"""Protocols for tests and benchmarks of the stream itself."""
