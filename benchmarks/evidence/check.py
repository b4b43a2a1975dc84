"""Check of a row: one seed is run again, as a stranger would run it, and compared with the records."""

from __future__ import annotations

import math
import statistics

from kanvision.statistics import mean_interval

from .plan import Item
from .queue import Queue, train_elsewhere

__all__ = ["check_row", "prediction_bounds"]


def prediction_bounds(values: list[float]) -> tuple[float, float]:
    """Return the bounds that one more value keeps with 95 %: mean ± t s √(1 + 1/n).

    The interval of the mean has t s / √n, hence the factor √(n + 1).
    """
    interval = mean_interval(values)
    if interval is None:
        raise ValueError("two or more values are needed")
    mean, half = statistics.fmean(values), (interval.high - interval.low) / 2
    return mean - half * math.sqrt(len(values) + 1), mean + half * math.sqrt(len(values) + 1)


def check_row(queue: Queue, table: str, row: str, seed: int | None) -> bool:
    """Run a seed of a row again, print its score beside the records, and return True if it agrees.

    Args:
        queue: Plan and ledger.
        table: Table of the row.
        row: The row.
        seed: Seed that is run; None: the first recorded one.

    Raises:
        ValueError: The row has fewer than two records, or the run fails.
    """
    comparison, ledger = queue.plan.tables[table], queue.ledger
    items = [Item(table, row, seed) for seed in comparison.seeds]
    records = {item.seed: ledger.read(item, queue.plan.tuning(item)) for item in items}
    scores = {seed: 100 * found["metrics"][comparison.metric] for seed, found in records.items() if found}
    if len(scores) < 2:
        raise ValueError(
            f"{table}/{row}: two records or more are needed for an interval, found {len(scores)}"
        )
    item = Item(table, row, next(iter(scores)) if seed is None else seed)
    words = queue.words(item)
    try:
        score = 100 * float(train_elsewhere(words, queue.repository)[comparison.metric])
    except ValueError as error:
        raise ValueError(f"{item} failed:\n{error}") from None
    low, high = prediction_bounds(list(scores.values()))
    agrees = low <= score <= high
    print(f"{item}: {comparison.metric} {score:.2f} %, recorded {scores.get(item.seed, math.nan):.2f} %")
    print(f"interval of one run by {len(scores)} records: {low:.2f} to {high:.2f} %")
    print("inside" if agrees else "outside")
    return agrees
