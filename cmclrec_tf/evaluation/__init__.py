"""Ranks the whole catalogue for every user and reports the metrics by segment."""

from cmclrec_tf.evaluation.report import Report, evaluate, table

__all__ = ["Report", "evaluate", "table"]
