"""Looks at every file of a data set and says what is wrong with each.

inspection = Inspection(reader)
for seen in inspection.look(num_workers=2):
    ...                                  # the samples, in their order
inspection.issues()                    # of all of them together
"""

from .issues import DataIssue, write_issues
from .run import Inspection

__all__ = ["DataIssue", "Inspection", "write_issues"]
