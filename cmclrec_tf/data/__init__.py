"""Reads prepared datasets, or small tables in memory, as batches of `tf.data`."""
