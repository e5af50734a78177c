"""Exports a trained model as a SavedModel with its signatures."""
