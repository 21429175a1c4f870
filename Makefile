# Every target sets up .venv first, and again only after a change of what it is made from.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help book pdf offline test sync learner serve bench records records-cpu address clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# One line that says what is missing, instead of a traceback half-way.
define CHECK
import sys
if sys.version_info < (3, 11):
    sys.exit("vit-edu needs Python 3.11 or newer and $(PYTHON) is %d.%d: install a newer one and name it, as in `make $(MAKECMDGOALS) PYTHON=python3.13`" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError:
    sys.exit("$(PYTHON) cannot make virtual environments: install what is missing (Debian, Ubuntu: `sudo apt install python3-venv`)")
endef
export CHECK

$(READY): requirements.txt pyproject.toml tools/setup_env.py
	@$(PYTHON) -c "$$CHECK"
	@echo "setting up .venv (once, a minute or two) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile -r requirements.txt
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests/|/transformers/models/' .venv/lib || true  # on all cores, pip would on one
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python tools/setup_env.py
	@touch $@

book: $(READY)  ## build the pages; prints the file to open
	@log=$$(mktemp); $(BIN)/jupyter-book build . -W -n --keep-going >$$log 2>&1 || { cat $$log; rm $$log; exit 1; }; rm $$log
	@echo $(CURDIR)/_build/html/index.html

pdf: book  ## the whole book as one PDF to print (wants a Chromium)
	@$(BIN)/python tools/pdf.py

offline: book  ## the pages as one zip that opens from disk
	@$(BIN)/python tools/offline.py

test: $(READY)  ## run everything: every chapter, the unit tests, the pages in a real browser
	$(BIN)/pytest --nbval -n 2 --dist loadscope --no-loadscope-reorder -q

sync: $(READY)  ## after editing a chapter: its module, its notebook, its outputs
	$(BIN)/python tools/sync.py
	$(BIN)/python tools/questions.py
	$(BIN)/python tools/import_picture.py

learner: $(READY)  ## each chapter's notebook without its solutions, to work through, and a zip of all
	@$(BIN)/python tools/learner.py

serve: book  ## build the pages, serve them on this machine only, and open them
	@(sleep 1; $(BIN)/python -m webbrowser http://127.0.0.1:$(PORT)/) >/dev/null &
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

bench: $(READY)  ## speed beside timm and torchvision, and of the loaders, on whatever device is there
	$(BIN)/python benchmarks/model_speed.py
	$(BIN)/python benchmarks/loader_speed.py

records: $(READY)  ## run the recorded trainings of the chapters again
	$(BIN)/python -m vit_edu.experiment --all
	$(BIN)/python tools/record.py runs/digits-*

records-cpu: $(READY)  ## work through the laptop's runs of chapter 11, some hours; interrupt it at will
	$(BIN)/python tools/run_list.py tools/laptop_runs.txt --jobs 2

address: $(READY)  ## your own copy's address everywhere: make address OWNER=name
	@test -n "$(OWNER)" || { echo "say whose copy it is: make address OWNER=name"; exit 1; }
	@$(BIN)/python tools/address.py $(OWNER)

clean:  ## remove what was built (not .venv)
	rm -rf _build build dist *.egg-info .pytest_cache
