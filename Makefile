# make run        set everything up and run the pipeline: reports/quick/index.html
# make test       set everything up and run all tests, notebooks included
# make lab        open the notebooks in JupyterLab
# make notebooks  make the committed .ipynb from their .py sources
# make bench      measure the throughput of the corruptions and of reading APOGEE files
# make lint       check and format-check the code
# make clean      delete runs, reports and the virtual environment
#
# PARAMS=params/paper.yaml   another parameter file        SET="data.n_stars=1000 seed=3"   change settings
# OBSERVED=folder            observed NIRSpec spectra       PYTHON=python3.12               another Python (3.11 or newer)

PYTHON ?= python3
PARAMS ?= params/quick.yaml
BIN := .venv/bin

.PHONY: run test lab notebooks bench lint setup clean help

run:
	@echo "make run: set up .venv if needed, then run $(PARAMS) (two cores: a few minutes)"
	@$(MAKE) --silent --no-print-directory .venv/.ready
	@$(BIN)/starclip run $(PARAMS) $(if $(OBSERVED),--observed "$(OBSERVED)") $(foreach s,$(SET),--set $(s))

test:
	@echo "make test: set up .venv if needed, then check style and run all tests and notebooks (a few minutes)"
	@$(MAKE) --silent --no-print-directory .venv/.ready
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/python -m pytest

lab: .venv/.ready
	@$(BIN)/jupyter lab --notebook-dir=notebooks

notebooks: .venv/.ready
	@$(BIN)/python -m starclip_lib.refresh

bench: .venv/.ready
	@$(BIN)/python benchmarks/corruption_throughput.py
	@$(BIN)/python benchmarks/apogee_reading.py

lint: .venv/.ready
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

setup: .venv/.ready

.venv/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is missing or older than 3.11; name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "setting up .venv: creating a virtual environment and installing packages (one to several minutes)"
	@$(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "error: no virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]' || \
	  { echo "error: the installation failed, see above; run the same command again when that is mended" >&2; exit 1; }
	@touch .venv/.ready

clean:
	rm -rf .venv runs build *.egg-info
	find reports -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^$$/q'
