# GNU make 3.81 and Python 3.11 are all that a machine needs: the rest is made here.
PYTHON   ?= python3.11
BIN      := .venv/bin
UV       := $(BIN)/uv
PACKAGES := $(wildcard packages/*)
INPUTS   := pyproject.toml constraints.txt $(wildcard packages/*/pyproject.toml)
SPEED    := margin_losses classification_losses snr_distance corruptions face_pipeline rppg buildings buildings_vectors
CLAIMS   := face_label_flips label_noise_losses label_errors novel_classes long_tail sdm_rejection snr_retrieval rss_table \
            grokking_phases rppg_domain_shift rppg_realism buildings_adaptation
PYTEST   := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2
export UV_COMPILE_BYTECODE := 1

.PHONY: help setup demo test test-slow lint format bench claims docs models constraints clean

help:
	@echo "make demo        train, evaluate, export and run every domain on synthetic data (minutes)"
	@echo "make test        the tests, and the edge tests in an environment without torch"
	@echo "make test-slow   the tests that take longer"
	@echo "make lint        ruff, mypy, import-linter"
	@echo "make bench       the speed and memory ratios (minutes)"
	@echo "make claims      the studies behind the claims and tables of the docs (hours; the long ones resume)"
	@echo "make models      retrain the small models that ship in the wheels"
	@echo "make docs        the documentation as HTML in docs/_build"
	@echo "make setup       only the environments (.venv, .venv-edge)"

setup: .venv/.stamp .venv-edge/.stamp

$(UV): | constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt uv

.venv/.stamp: $(INPUTS) | $(UV)
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt --group dev $(foreach p,$(PACKAGES),-e '$(p)[train]')
	$(BIN)/python -c "import torch, torchvision, cv2; torchvision.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)"
	touch $@

.venv-edge/.stamp: $(INPUTS) | $(UV)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-edge
	$(UV) pip install --quiet --python .venv-edge/bin/python -c constraints.txt pytest $(foreach p,$(PACKAGES),-e $(p))
	touch $@

demo: .venv/.stamp
	$(BIN)/robustvision demo --out demo-out

test: setup
	$(PYTEST) -m "not slow"
	.venv-edge/bin/python -m pytest tests/edge

test-slow: setup
	$(PYTEST) -m slow

lint: .venv/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.stamp
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt --group bench
	for name in $(SPEED); do $(BIN)/python benchmarks/$$name.py || exit 1; done

claims: .venv/.stamp
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt --group bench
	for name in $(CLAIMS); do $(BIN)/python benchmarks/$$name.py || exit 1; done
	$(BIN)/python benchmarks/buildings_adaptation.py --clean-from everywhere

models: .venv/.stamp
	for domain in $(filter-out core,$(notdir $(PACKAGES))); do $(BIN)/python -m robustvision.$$domain.models || exit 1; done

docs: .venv/.stamp
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt --group docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build

constraints: | $(UV)
	printf -- '-e %s[train]\n' $(PACKAGES) | $(UV) pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
	  $(foreach p,$(PACKAGES),--no-emit-package robustvision-$(notdir $(p))) --group pyproject.toml:dev --group pyproject.toml:docs --group pyproject.toml:bench \
	  --output-file constraints.txt -
	sed -n 's/^opencv-python-headless==/opencv-python==/p' constraints.txt >> constraints.txt

clean:
	rm -rf .venv .venv-edge demo-out docs/_build
