"""What ML Metadata knows of a pipeline, and what goes into its cache keys."""
