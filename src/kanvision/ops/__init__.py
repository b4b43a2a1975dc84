"""Pure functions with exact derivatives."""
