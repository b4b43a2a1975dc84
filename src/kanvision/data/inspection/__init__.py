"""Inspection of every file of a data set.

inspection = Inspection(reader)
for sample in inspection.inspect_samples(num_workers=2):
    ...                                  # the samples in their order
inspection.collect_issues()            # the issues about single samples and about the whole data set
"""

from .issues import DataIssue, write_issues
from .run import Inspection

__all__ = ["DataIssue", "Inspection", "write_issues"]
