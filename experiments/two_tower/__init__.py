"""The two-tower model of TensorFlow Recommenders: a row that is trained in a process of its own."""
