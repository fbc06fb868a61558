"""Algorithms: pure functions, tensors in and tensors out."""
