# Everything a person needs: `make demo`, `make region`, `make test`. All of it installs into .venv and nowhere else.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo region test soak lint format proto lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Papilar needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

demo: setup
	$(BIN)/python -m benchmarks.demo

region: setup
	$(BIN)/python -m benchmarks.region

test: setup lint
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

soak: setup
	$(BIN)/python -m pytest -m soak

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

proto: setup
	$(BIN)/python proto/generate
	$(BIN)/buf lint proto

# Renews the pinned versions within the ranges of pyproject.toml.
lock: setup
	$(BIN)/uv pip compile pyproject.toml --extra postgresql --extra objects --extra cluster --extra benchmarks --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet -o requirements.lock

clean:
	rm -rf .venv build demo region *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
