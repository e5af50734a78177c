"""Full ranking, metrics and reports by segment."""

from cmclrec_tf.evaluation.report import Report, evaluate, table

__all__ = ["Report", "evaluate", "table"]
