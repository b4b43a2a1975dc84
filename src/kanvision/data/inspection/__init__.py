"""Looks at every file of a data set and says what is wrong with each.

inspection = Inspection(reader)
for seen in inspection.look(num_workers=2):
    ...                                  # the samples, in their order
inspection.findings()                    # of all of them together
"""

from .findings import Finding, write_findings
from .run import Inspection

__all__ = ["Finding", "Inspection", "write_findings"]
