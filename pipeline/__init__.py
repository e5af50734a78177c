"""The TFX pipeline: from raw files to a pushed model."""
