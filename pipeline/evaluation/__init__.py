"""Metrics and bounds for the Evaluator, and the model card that reports them."""
