# Two commands: `make demo` and `make test`. Each does all of its own set-up. `make help` lists the others.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help

.PHONY: demo test test-fast soak matrix fuzz fuzz-files fuzz-verdicts fuzz-sending invariants mutants smt sweep slither \
  lint docs setup lock clean help

demo:            ## a paid, routed completion on a local network
	@$(PYTHON) scripts/setup.py
	@$(BIN)/hc-testnet demo

test:            ## lint, types and every test, the slow ones too
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python scripts/check.py

test-fast:       ## the same without the slow tests
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python scripts/check.py --fast

KILLS ?= 500
soak:            ## kill -9 over a whole market, 500 times (KILLS=N), then all books compared
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python scripts/soak.py --kills $(KILLS)

WHAT ?= crossed
PART ?= 1/1
matrix:          ## the features of the data plane beside each other, or WHAT=triples or whole; a part, PART=2/8
	@$(PYTHON) scripts/setup.py --dev
	@HC_MATRIX=$(WHAT) HC_MATRIX_PART=$(PART) $(BIN)/python -m pytest tests/matrix -n 3 --dist worksteal

MINUTES ?= 60
fuzz:            ## every decoder given wrong input for an hour on all cores (MINUTES=N)
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

PAIRS ?= 100000
fuzz-verdicts:   ## try to have an honest verifier convicted, with 100,000 pairs of transcripts (PAIRS=N)
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python scripts/fuzz_verdicts.py --pairs $(PAIRS)

SCHEDULES ?= 1000
fuzz-sending:    ## transfers over a way to the chain that loses, delays and repeats, 1,000 times (SCHEDULES=N)
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python scripts/fuzz_sending.py --schedules $(SCHEDULES)

FILES ?= 100000
fuzz-files:      ## a hundred thousand hostile model files, judged, loaded and run (FILES=N)
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python scripts/fuzz_files.py --files $(FILES) --processes 2

CALLS ?= 10000000
invariants:      ## ten million random calls to the contracts beside a model of them (CALLS=N)
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python scripts/invariants.py --calls $(CALLS)

sweep:           ## tiny models of all architectures, cut and compared with the whole bit by bit; writes docs/models.md
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python scripts/sweep_models.py --write

mutants:         ## every require and every signed field of the contracts, left out one by one
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python scripts/mutate_contracts.py

smt:             ## proofs of the contracts' arithmetic by an SMT solver, in an environment of its own
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python scripts/smt.py

slither:         ## Slither over the contracts, in an environment of its own; each finding that is none has its reason
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python scripts/slither.py

lint:            ## formatting, lint and types alone
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python scripts/check.py --lint

docs:            ## the documentation as pages, in .build/site
	@$(PYTHON) scripts/setup.py --dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

setup:           ## what the commands above do first
	@$(PYTHON) scripts/setup.py --dev

UV := $(BIN)/uv pip compile -q pyproject.toml --overrides overrides.txt --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock"

lock:            ## resolve pyproject.toml again and write both lock files
	@$(BIN)/pip install -q uv
	@$(UV) --group dev -o requirements-dev.lock
	@$(UV) --constraints requirements-dev.lock -o requirements.lock

clean:           ## remove everything that set-up made
	rm -rf .venv contracts/node_modules contracts/.solc .ruff_cache .mypy_cache .pytest_cache .hypothesis

help:            ## this list
	@awk -F ': *## ' '/^[a-z-]+: *## /{printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
