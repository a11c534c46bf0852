# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv when it is missing
# or pyproject.toml changed, and start at once when it is there.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test test-fast test-oldest check pictures chaos clean

demo: .venv/installed
	$(BIN)/restyle demo --out demo

# Files in their order: what is slow lies early and apart. A process that is lost is an error at once.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder --max-worker-restart=0

# Twice, for Ray leaves threads behind in a process, and a process that forks beside them may abort. Where there is
# Ray, one of three processes is always waiting for it.
test: .venv/installed-dev
	$(PYTEST) -n 3 -m "not ray"
	$(PYTEST) -n 3 -m ray

test-fast: .venv/installed-dev
	$(PYTEST) -n 2 -m "not ray and not browser and not slow"

# The oldest torch that pyproject.toml allows, in an environment of its own (about 7 GB), networks and one demo.
OLDEST := .venv-oldest
OLDEST_TORCH := $(shell sed -n 's/.*"torch>=\([0-9.]*\),.*/\1/p' pyproject.toml)

test-oldest: $(OLDEST)/installed
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest tests/generators tests/encoders -m "not slow"
	$(OLDEST)/bin/restyle demo --out $(OLDEST)/demo --portraits 6

$(OLDEST)/installed: pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install -q -e . "torch==$(OLDEST_TORCH).*" pytest pytest-timeout pytest-xdist hypothesis
	@touch $@

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -q -e .
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -q -e '.[dev]'
	@touch .venv/installed $@

# The pictures of the README, out of a demo; needs a Chromium.
pictures: demo
	$(BIN)/python docs/pictures.py demo

# Every fault many times, about 20 minutes; the numbers go to docs/reliability.md.
chaos: .venv/installed-dev
	$(BIN)/python -m benchmarks.chaos

clean:
	rm -rf .venv $(OLDEST) build *.egg-info demo
