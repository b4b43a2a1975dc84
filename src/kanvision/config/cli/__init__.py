"""Command line: parsing, composition, sweeps, help."""
