# simreg: `make figures` and `make test` set everything up; nothing else is needed but make and Python 3.11 to 3.13.

# quick, paper, or the path of a YAML file; empty: quick, with a GPU too
PROFILE ?=
# names of notebooks, for these figures alone: ONLY=02_attack_curves
ONLY ?=
# 1: compute everything again instead of drawing from what is there
RECOMPUTE ?=
# 1: draw what is computed so far and compute nothing
COMPUTED ?=
# 1: compute a profile that needs a GPU on a machine that has none
WITHOUT_GPU ?=
# how many tasks run at once; empty: one per core or GPU, four per GPU under MPS
WORKERS ?=
PYTHON ?= python3

# relative folders are of this one, also in JupyterLab, whose kernels run in notebooks/
folders := SIMREG_RUNS SIMREG_FIGURES SIMREG_RECORDS SIMREG_DATA SIMREG_WEIGHTS
$(foreach v,$(folders),$(if $(value $v),$(eval override export $v := $(if $(filter /% ~%,$(firstword $(value $v))),,$$(CURDIR)/)$$(value $v))))

# one word for a shell, whatever is in it; of a variable as it was given, in which make would take a $ for its own
quoted = '$(subst ','\'',$(1))'
given = $(call quoted,$(value $(1)))
each = $(foreach word,$(value $(1)),$(2) $(call quoted,$(word)))
# not for the programs that make starts, which take arguments: to hand them on, make would expand each $ after all
unexport PROFILE ONLY MINUTES

# An active conda environment made from environment.yml is used as it is; else a virtual environment in .venv.
ifeq ($(CONDA_DEFAULT_ENV),simreg)
  BIN := $(CONDA_PREFIX)/bin
  READY := $(CONDA_PREFIX)/simreg-ready
else
  BIN := .venv/bin
  READY := .venv/ready
endif

.PHONY: help lock figures recorded cifar-small gpu-day bench test docs setup lab lint status select publish clean

help:
	@echo "make figures    every figure of PROFILE (quick | paper | path.yaml), RECOMPUTE=1 to compute all again"
	@echo "make recorded   the paper's networks on image sets that need no registration, for one GPU, resumable"
	@echo "make cifar-small  evidence on gray CIFAR-10 at a size for two cores, network by network, resumable"
	@echo "make gpu-day    some MINUTES=9 of a GPU: bench, a check, then cifar-small and recorded; PYTHON may bring its torch"
	@echo "make bench      our training step, attacks and targets against the obvious ones, in ratios"
	@echo "make test       all tests, the notebooks included"
	@echo "make docs       the site, in build/site/index.html; warnings, dead links and missing figures are errors"
	@echo "make lab        JupyterLab on the first notebook"
	@echo "make setup      the environment alone"
	@echo "make status     what is computed, what is missing, how long it will take"
	@echo "make select     choose alpha and the threshold on validation images"
	@echo "make publish    copy records beside the figures, write notebook outputs (before a commit)"
	@echo "make lint       style, format and types"
	@echo "make clean      remove the environment and the caches (not runs/: simreg clean)"

figures: $(READY)
	$(BIN)/python -m simreg_core figures $(if $(value PROFILE),--profile $(call given,PROFILE)) $(if $(filter 1,$(RECOMPUTE)),--recompute) $(if $(filter 1,$(COMPUTED)),--computed) $(if $(filter 1,$(WITHOUT_GPU)),--without-gpu) $(call each,WORKERS,--workers) $(call each,ONLY,--only)

# one after another, so that what is wanted most is whole first; a second call goes on where a first one was stopped
RECORDED := "02_attack_curves 04_regularization_sets" 07_batch_size_study 08_image_count_study \
    03_hyperparameter_selection 11_target_components 06_frequency_spectra 05_common_corruptions 12_other_tasks_and_depths \
    14_white_box 13_protocol_audit 15_architectures
recorded: $(READY)
	for names in $(RECORDED); do $(MAKE) figures PROFILE=recorded ONLY="$$names" || exit; done

# for days: each network is measured in full and its records published before the next; a second call resumes.
# First the selection, on validation images; then, once the profile says what was chosen, all that needs the networks
# of 17 is measured of each, the most wanted ones first.
CIFAR_SMALL := 17_what_protects 02_attack_curves 04_regularization_sets 05_common_corruptions 06_frequency_spectra \
    10_layer_weights 11_target_components 13_protocol_audit 14_white_box
BY_NETWORK = $(BIN)/python -m simreg_core run --profile cifar-small --by-network $(call each,WORKERS,--workers)
cifar-small: $(READY)
	$(BY_NETWORK) --only 03_hyperparameter_selection
	@grep -q '^chosen:' notebooks/profiles/cifar-small.yaml || \
	    { echo "now write alpha, Th and chosen: main into notebooks/profiles/cifar-small.yaml and commit it"; exit 1; }
	$(BY_NETWORK) $(CIFAR_SMALL:%=--only %)

# a borrowed GPU for some minutes, again and again; a PYTHON that has torch is taken as it is
MINUTES ?= 9
ifneq ($(filter gpu-day,$(MAKECMDGOALS)),)
  TORCH := $(shell $(PYTHON) -c 'import torch' 2>/dev/null && echo yes)
  CHOSEN := $(shell grep '^chosen:' notebooks/profiles/cifar-small.yaml)
endif
gpu-day: $(if $(TORCH),,$(READY))
	$(if $(TORCH),$(PYTHON),$(BIN)/python) -m benchmarks.gpu_day --minutes $(call given,MINUTES) \
	    $(if $(filter 1,$(WITHOUT_GPU)),--without-gpu) \
	    --compute "cifar-small: 03_hyperparameter_selection" \
	    $(if $(CHOSEN),--compute "cifar-small: $(CIFAR_SMALL)") --compute "recorded: $(subst ",,$(RECORDED))"

bench: $(READY)
	$(BIN)/python -m benchmarks.bench

# the CPU's kernels differ with its instruction set: what trains, measures and draws is tried once more with AVX2
AVX2_TESTS := tests/test_model.py tests/lab/training/test_loop.py tests/lab/measuring/test_evaluation.py \
    tests/test_figures.py::test_one_figure_from_an_empty_store
test: $(READY)
	$(BIN)/python -m pytest
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest notebooks
	ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest $(AVX2_TESTS)

# the notebooks' committed outputs, nothing is executed; nothing comes from the network
docs: $(READY)
	rm -rf build/site build/jupyter_execute
	$(BIN)/python -m sphinx -W --keep-going -q -j auto -b html -c docs/site . build/site

setup: $(READY)

lab: $(READY)
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

status select publish: $(READY)
	$(BIN)/python -m simreg_core $@ $(if $(value PROFILE),--profile $(call given,PROFILE)) $(if $(filter select1,$@$(WITHOUT_GPU)),--without-gpu)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# needs uv (https://docs.astral.sh/uv/); only after a change of the dependencies in pyproject.toml
lock:
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --extra test \
	    --custom-compile-command "make lock" pyproject.toml -o requirements.lock

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; ok = (3, 11) <= v < (3, 14); sys.exit(0 if ok else "simreg needs Python 3.11, 3.12 or 3.13, this is %d.%d; give another with PYTHON=..." % v[:2])'
	@echo "setting up .venv: about 6 GB of packages, one to two minutes on a fast line"
	.venv/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

$(CONDA_PREFIX)/simreg-ready: pyproject.toml
	$(CONDA_PREFIX)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

clean:
	rm -rf .venv build docs/site/api *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
