# Two targets do all the set-up. A machine needs Python (3.10 or newer) and make.
#   make train                                   the default model on the default data
#   make train ARGS="model=kat data=cifar10"     any overrides of train.py
#   make test                                    the test suite
#   make test ARGS="-m slow"                     the tests that it leaves out: every published experiment
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: train test

train: $(STAMP)
	$(BIN)/python train.py $(ARGS)

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Exact versions with hashes; the package itself is linked without looking anything up.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "kanvision needs Python 3.10 or newer; set PYTHON=<path>")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
