"""Configuration keys: types, legal values, defaults and meaning."""
