# `make` alone explains itself.
PYTHON ?= python3
EXPERIMENT ?= quick
DATA ?=
DOWNLOAD ?=
SETS ?=
ARCHIVES ?=
RETRY ?=
SEEDS ?=
CLUSTER ?=
CORES ?=

# In the conda environment of environment.yml nothing is installed anew.
ifeq ($(CONDA_DEFAULT_ENV),hpsed)
BIN = $(CONDA_PREFIX)/bin
INSTALLED =
else
BIN = .venv/bin
INSTALLED = .venv/installed
endif

.PHONY: help reproduce compare publish cite status plan site report learning-rate directions mlms8 dcase2017-audio test browser latex slurm bench gpu carried mutants lab notebooks readme lint clean lock

help: ## this text
	@echo "usage: make TARGET [VARIABLE=VALUE ...]"
	@echo
	@echo "targets:"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "variables:"
	@echo "  EXPERIMENT   name of a file in params/ (default: quick)"
	@echo "  DATA         folder of recordings, where the experiment needs one; remembered"
	@echo "  DOWNLOAD     1: fetch the recordings if they are not there"
	@echo "  SETS         dcase2017-audio: of training, development and evaluation (default: the first two)"
	@echo "  ARCHIVES     dcase2017-audio: published zip files that you have, or folders of them"
	@echo "  RETRY        dcase2017-audio: 1 asks again for clips known to be out of reach"
	@echo "  SEEDS        number of seeds, 0 to SEEDS - 1 (default: those of the experiment)"
	@echo "  CLUSTER      slurm, or your folder in workflow/profiles/: run on that cluster"
	@echo "  CORES        runs at a time (default: all cores; on a cluster, see its profile)"
	@echo "  PYTHON       Python, 3.11 to 3.13, that .venv is made from (default: python3)"

reproduce: $(INSTALLED) ## run every notebook of EXPERIMENT and print its table of results
	@HPSED_LAUNCHER_PID=$$PPID exec $(BIN)/python -m hpsed_lib.launch.workflow "$(EXPERIMENT)" \
	  $(if $(DATA),--data "$(DATA)") $(if $(filter-out 0,$(DOWNLOAD)),--download) \
	  $(if $(SEEDS),--seeds $(SEEDS)) $(if $(CLUSTER),--cluster "$(CLUSTER)") $(if $(CORES),--cores $(CORES))

compare: $(INSTALLED) ## set what was reproduced of EXPERIMENT beside what is published of it, run by run
	@$(BIN)/python -m hpsed_lib.launch compare "$(EXPERIMENT)" $(if $(SEEDS),--seeds $(SEEDS))

publish: $(INSTALLED) ## put what was reproduced of EXPERIMENT into results/, if it is complete and of one piece
	@$(BIN)/python -m hpsed_lib.launch publish "$(EXPERIMENT)" $(if $(SEEDS),--seeds $(SEEDS))

cite: $(INSTALLED) ## print the BibTeX, and the sentence to write, for numbers of EXPERIMENT
	@$(BIN)/python -m hpsed_lib.launch cite "$(EXPERIMENT)" $(if $(SEEDS),--seeds $(SEEDS))

status: $(INSTALLED) ## say how far EXPERIMENT is, at any time, from any terminal
	@$(BIN)/python -m hpsed_lib.launch status "$(EXPERIMENT)" $(if $(SEEDS),--seeds $(SEEDS))

plan: $(INSTALLED) ## measure a few steps of EXPERIMENT here and say what all of it will take
	@$(BIN)/python -m hpsed_lib.launch plan "$(EXPERIMENT)" $(if $(SEEDS),--seeds $(SEEDS)) $(if $(CORES),--cores $(CORES))

# Not among the pinned packages: nothing that is computed needs them.
site: $(INSTALLED) ## write reproduced/site/EXPERIMENT/: notebooks, sortable tables, clips to hear, a page per run; needs no network
	$(BIN)/python -m pip install --quiet --constraint requirements.lock furo==2025.12.19 latex2mathml==3.81.1 myst-nb==1.4.0 sphinx==9.0.4
	@$(BIN)/python -m hpsed_lib.launch site "$(EXPERIMENT)"

report: $(INSTALLED) ## write Snakemake's report of EXPERIMENT's results, one HTML file: graph, run times, tables, figures
	@$(BIN)/python -m hpsed_lib.launch report "$(EXPERIMENT)" $(if $(SEEDS),--seeds $(SEEDS))

learning-rate: $(INSTALLED) ## compare schedules on EXPERIMENT's validation clips (notebook 09), for linear softmax and attention
	for pooling in linear attention; do $(BIN)/python -m hpsed_lib.launch.execution notebooks/09_learning_rate.ipynb \
	  reproduced/$(EXPERIMENT)/notebooks/09_learning_rate-$$pooling.ipynb -p experiment "$(EXPERIMENT)" -p pooling $$pooling || exit; done

directions: $(INSTALLED) ## which frames the gradients of single and appendix push in EXPERIMENT (notebook 10), for linear softmax and attention
	for pooling in linear attention; do $(BIN)/python -m hpsed_lib.launch.execution notebooks/10_directions.ipynb \
	  reproduced/$(EXPERIMENT)/notebooks/10_directions-$$pooling.ipynb -p experiment "$(EXPERIMENT)" -p pooling $$pooling || exit; done

mlms8: $(INSTALLED) ## score published outputs of a system of Table 3 again; its files and labels from DATA, or DOWNLOAD=1
	@$(BIN)/python -m hpsed_lib.theory.systems $(if $(DATA),--data "$(DATA)") $(if $(filter-out 0,$(DOWNLOAD)),--download)

# The newest yt-dlp, not the pinned one: it follows the sites, and an old one fetches nothing.
dcase2017-audio: $(INSTALLED) ## fill DATA with the audio of DCASE 2017 Task 4, from ARCHIVES and from YouTube
	$(BIN)/python -m pip install --quiet --upgrade "yt-dlp[default,deno]"
	$(BIN)/python -m hpsed_lib.data.dcase2017.audio $(if $(DATA),--data "$(DATA)") $(if $(SETS),--sets $(SETS)) \
	  $(if $(ARCHIVES),--archives $(ARCHIVES)) $(if $(filter-out 0,$(RETRY)),--retry)

test: $(INSTALLED) ## run the tests, two at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

browser: $(INSTALLED) ## check the site of EXPERIMENT in Chromium, with the network off (Debian: apt install chromium)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock playwright==1.65.2
	$(MAKE) site
	HPSED_SITE=reproduced/site/$(EXPERIMENT) $(BIN)/python -m pytest tests/test_site.py

latex: $(INSTALLED) ## compile every LaTeX table and look for boxes that stick out; installs pdflatex (root, Debian)
	apt-get install --yes --no-install-recommends texlive-latex-recommended texlive-fonts-recommended
	$(BIN)/python -m pytest tests/test_tables.py -k Latex

slurm: $(INSTALLED) ## run a sweep on a Slurm cluster of this machine's own, and kill it (root, Debian; some minutes)
	tests/slurm/cluster $(BIN)/python -m pytest tests/slurm/killed_sweep.py

bench: $(INSTALLED) ## time our ways, memory and all of quick beside what else there is; writes reproduced/bench/ (some 20 minutes; leave the machine alone)
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(BIN)/python -m hpsed_lib.bench
	$(BIN)/python -m hpsed_lib.launch.execution notebooks/06_performance.ipynb reproduced/bench/notebooks/06_performance.ipynb

gpu: ## check and time training on this machine's GPU, in at most eight minutes; writes reproduced/bench/gpu.json
	PYTHONPATH=.:cache/carried $(if $(wildcard $(INSTALLED)),$(BIN)/python,$(PYTHON)) -m hpsed_lib.bench.gpu

carried: $(INSTALLED) ## put into cache/carried/ what `make gpu` needs beside PyTorch and numpy on a machine without network (Linux, Python 3.12)
	$(BIN)/python -m pip install --quiet --target cache/carried --python-version 3.12 --only-binary=:all: --no-deps --upgrade \
	  $$(grep -E '^(pydantic|pydantic-core|annotated-types|typing-extensions|typing-inspection|pyyaml|tqdm|psutil|threadpoolctl)==' requirements.lock | cut -d' ' -f1)

lab: $(INSTALLED) ## open JupyterLab on 00_start_here: what to read, what each notebook takes, what is there already
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	  --ContentsManager.pre_save_hook=hpsed_lib.launch.lab.keep_source

notebooks: $(INSTALLED) ## write notebooks/*.ipynb, without outputs, from notebooks/*.py
	$(BIN)/jupytext --update --to ipynb notebooks/*.py
	$(BIN)/jupyter nbconvert --clear-output --inplace notebooks/*.ipynb

readme: $(INSTALLED) ## put the result tables into README.md
	$(BIN)/python -m hpsed_lib.tables

# Of scoring.py the part that counts; the rest is compared with sed_eval and psds_eval, which takes too long a mutant.
COUNTING = segment_activity event_activity _event_arrays _refuse clip_counts _count segment_counts class_counts f_score \
  error_rate threshold_curve best_constant_guess active_runs

mutants: $(INSTALLED) ## change pooling, its gradients, decoding and counting bit by bit; print what no test notices (half an hour)
	$(BIN)/python -m pip install --quiet mutmut==3.8.1
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/mutmut run "hpsed_lib.pooling.*" "hpsed_lib.theory.gradients.*" "hpsed_lib.decoding.*" \
	  $(COUNTING:%="hpsed_lib.scoring.x_%__mutmut_*")
	$(BIN)/mutmut results | sed '/not checked/d'

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove cache/: downloads, prepared data, checkpoints, DATA as remembered; reproduced/ stays
	@echo "removing cache/ (downloads, prepared data, checkpoints, DATA as remembered); reproduced/ stays"
	@rm -rf cache

lock: $(INSTALLED) ## resolve requirements.lock again; pins that still fit pyproject.toml stay
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --extra dev \
	  --no-header --no-annotate pyproject.toml --output-file requirements.lock
	@{ echo "# Every package this bundle runs with, pinned, for Python 3.11 to 3.13. Made by 'make lock'."; \
	  echo "# The CUDA packages are left out (nvidia-*, cuda-*, triton): torch asks for those its platform needs."; \
	  grep -v -E '^(nvidia|cuda|triton)' requirements.lock; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock

# The stamp comes last: an interrupted installation is done again.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
	  "Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is %d.%d; name another one: make PYTHON=python3.12" % v[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
