"""Rules across the keys of a configuration."""
