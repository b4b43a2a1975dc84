"""Contract tests of plugins: `python -m pytest --pyargs kanvision.testing --plugin my_package`.

They run over everything that the plugin registers and over every file in its folder of configurations. pytest
is needed, and not installed with kanvision.
"""
