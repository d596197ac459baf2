# Two commands are enough: `make demo` shows that everything works, `make lab` opens the lessons.

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= notebooks,test
# More options for JupyterLab: make lab LAB="--allow-root --no-browser" in a container.
LAB ?=
RUN := runs/demo
BIN := $(VENV)/bin

.PHONY: help demo test lab notebooks reproduce clean

help:
	@echo "make demo       train the tiny detector on drawn shapes, evaluate it, draw its detections (a few minutes)"
	@echo "make lab        open JupyterLab on the lessons"
	@echo "make notebooks  run all lessons again and store what they print and draw"
	@echo "make test       style, types and all tests"
	@echo "make reproduce  train the shipped tiny checkpoint again"
	@echo "make clean      remove the environment, the drawn shapes and the demo's run"

# One stamp for the environment: made anew when the list of requirements changes.
$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$($(PYTHON) --version) is too old; Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --editable '.[$(EXTRAS)]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m rcnn_edu.train --data shapes --output $(RUN) --overwrite
	$(BIN)/python -m rcnn_edu.detect datasets/shapes-2000-400/JPEGImages/val_0000*.jpg --model $(RUN) --output $(RUN)/pictures
	@echo
	@echo "The loss curves:   $(RUN)/losses.png"
	@echo "Detections:        $(RUN)/detections.png, and one by one in $(RUN)/pictures/"
	@echo "The model:         $(RUN)/model.pt"
	@echo "Next:              make lab                                   the lessons, step by step"
	@echo "                   $(BIN)/python -m rcnn_edu.detect PHOTO --model $(RUN)"
	@echo "                   $(BIN)/python -m rcnn_edu.train --help     every number, and what it does"

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest --nbval notebooks

lab: $(VENV)/.installed
	@mkdir -p $(VENV)/share/jupyter/lab/settings
	@cp notebooks/jupyterlab.json $(VENV)/share/jupyter/lab/settings/overrides.json
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/README.md $(LAB)

notebooks: $(VENV)/.installed
	$(BIN)/python notebooks/execute.py

reproduce: $(VENV)/.installed
	$(BIN)/python -m rcnn_edu.train --data shapes --output runs/reproduce --overwrite

clean:
	rm -rf $(VENV) datasets/shapes-* $(RUN)
