"""Keras layers of the mapper and of the backbones."""
