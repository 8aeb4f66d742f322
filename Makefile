# make run        set everything up and run the pipeline: reports/quick/index.html
# make test       set everything up and run all tests, notebooks included
# make test-browser   run notebooks and the similarity browser in headless Chromium (installs it where apt can)
# make test-package   build wheel and sdist, try them in an empty environment and folder (some minutes)
# make lab        open the notebooks in JupyterLab
# make notebooks  make the committed .ipynb from their .py sources (a default run and a small one: half an hour)
# make docs       make the documentation site: build/site/index.html
# make pages      make docs/parameters.md and docs/data-formats.md from what they describe
# make setup      set up .venv with the versions of lock.txt, and nothing else
# make campaign   try thousands of damaged and hostile inputs (a quarter of an hour; TENTH=1: another tenth every day)
# make coverage   run the unit tests and say which lines no test reaches
# make pictures   make the pictures of the README (after make run; needs Chromium)
# make bench      measure the throughput of the corruptions and of reading APOGEE files
# make lint       check style, types and format of the code
# make lock       renew lock.txt, the exact versions that everything is installed with
# make clean      delete runs, reports and the virtual environment
#
# PARAMS=params/paper.yaml   another parameter file        SET="data.n_stars=1000 seed=3"   change settings
# OBSERVED=folder            observed NIRSpec spectra       PYTHON=python3.12               another Python (3.11 or newer)

PYTHON ?= python3
PARAMS ?= params/quick.yaml
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint lock.txt
FAILED := { echo "error: the installation failed, see above; run the same command again when that is mended" >&2; exit 1; }

.PHONY: run test test-browser test-package campaign chromium coverage lab notebooks pages docs pictures bench lint lock setup clean help

run:
	@echo "make run: set up .venv if needed, then run $(PARAMS) (two cores: a few minutes)"
	@$(MAKE) --silent --no-print-directory .venv/.ready
	@$(BIN)/starclip run $(PARAMS) $(if $(OBSERVED),--observed "$(OBSERVED)") $(foreach s,$(SET),--set $(s))

test:
	@echo "make test: set up .venv if needed, then check style and run all tests and notebooks (a few minutes)"
	@$(MAKE) --silent --no-print-directory .venv/.complete
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/mypy
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

coverage: .venv/.complete
	@$(BIN)/python -m pytest --cov=starclip_lib --cov-report=term-missing:skip-covered \
	  --ignore=tests/test_notebooks.py

campaign:
	@$(MAKE) --silent --no-print-directory .venv/.complete
	@$(BIN)/python tests/campaign/campaign.py $(if $(TENTH),--tenth)

chromium:
	@for program in chromium chromium-browser google-chrome; do command -v $$program >/dev/null && exit 0; done; \
	  echo "installing Chromium"; \
	  { test "$$(id -u)" = 0 && apt-get -qq update && apt-get -qq install -y chromium; } >/dev/null 2>&1 || \
	  { echo "error: no Chromium; on Debian and Ubuntu: apt install chromium" >&2; exit 1; }

test-browser: chromium
	@echo "make test-browser: make the small run, then drive its pages in Chromium (a few minutes)"
	@$(MAKE) --silent --no-print-directory .venv/.complete
	@$(BIN)/starclip run params/small.yaml
	@$(BIN)/python -m pytest tests/browser

test-package:
	@$(MAKE) --silent --no-print-directory .venv/.complete
	@$(BIN)/python -m pytest tests/package -s

lab: .venv/.ready
	@OMP_WAIT_POLICY=$${OMP_WAIT_POLICY:-PASSIVE} $(BIN)/jupyter lab --notebook-dir=notebooks

notebooks: .venv/.complete
	@$(BIN)/python -m starclip_lib.lab.refresh

docs: .venv/.complete
	@rm -rf build/site docs/api
	@$(BIN)/python -m sphinx --builder html --conf-dir docs/site --fail-on-warning --keep-going --quiet . build/site
	@echo "build/site/index.html"

pages: .venv/.complete
	@$(BIN)/python -m starclip_lib.lab.refresh --pages

pictures: .venv/.complete
	@$(BIN)/python docs/make_pictures.py

bench: .venv/.complete
	@$(BIN)/python benchmarks/corruption_throughput.py
	@$(BIN)/python benchmarks/apogee_reading.py
	@$(BIN)/python benchmarks/data_set_reading.py

lint: .venv/.complete
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

lock:
	@$(PYTHON) -m venv .venv-lock && .venv-lock/bin/python -m pip install --quiet --editable '.[test]'
	@{ sed '/^[^#]/,$$d' lock.txt; .venv-lock/bin/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9]*$$//'; } > .lock.part
	@mv .lock.part lock.txt && rm -rf .venv-lock

setup: .venv/.ready

# what runs need; tests, documents and benchmarks need more
.venv/.ready: pyproject.toml lock.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is missing or older than 3.11; name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "setting up .venv: creating a virtual environment and installing packages (one to several minutes)"
	@$(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "error: no virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PIP) --no-compile --editable '.[browse,scale]' || $(FAILED)
	@$(BIN)/python -m compileall -q -j 0 -x '/tests?/' .venv/lib >/dev/null 2>&1 || true  # on all cores, as pip does not
	@touch .venv/.ready

.venv/.complete: .venv/.ready
	@echo "adding what tests and documents need (a minute)"
	@$(PIP) --editable '.[test]' || $(FAILED)
	@touch .venv/.complete

clean:
	rm -rf .venv runs build dist docs/api
	find reports -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^$$/q'
