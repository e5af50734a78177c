"""Exports a trained model as a SavedModel with four signatures."""
