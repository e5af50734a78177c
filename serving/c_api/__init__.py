"""Runs SavedModels with TensorFlow's C API."""
