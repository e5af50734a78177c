"""Losses as pure functions of tensors; models add their weights and their replicas."""
