"""Comparisons of networks under one protocol: queue of runs, ledger of results, generated pages.

    python -m benchmarks.evidence --hours 2             do the runs of docs/results/plan.yaml without a record
    python -m benchmarks.evidence --plan                list it, with hours
    python -m benchmarks.evidence --check kat_2x2/kat   run a seed again, and compare it with the records
    python -m benchmarks.evidence --pages               write the tables of the documentation from the records

docs/fair_comparison.md describes the protocol and the files.
"""
