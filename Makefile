# make setup     what eva_ros needs, in .venv (the other targets call it where they need it)
# make demo      the simulated robot and all nodes, three tasks, a report
# make test      the tests
# make lint      ruff, mypy and the import contracts
# make format    let ruff rewrite the sources as make lint wants them
# make bench     print what is measured
# make soak-gate  a million adversarial chunks through the command gate; goes on where it ended
# make soak-overlap  20,000 tasks in mode overlap through the gate; goes on where it ended
# make soak-bags  20,000 damaged bags; goes on where it ended
# make docs      check the README and the pages in docs/
# make msgs      copy the texts of eva_msgs into the package and build eva_msgs
# make lock      resolve requirements/*.in again
# make clean     remove what builds and tests leave behind; .venv and runs/ stay

SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && exit; done; echo python3)
TEXTS := eva_ros/recordings/eva_msgs_texts
SOURCES := eva_ros launch scripts test setup.py $(wildcard benchmarks)
# With a sourced ROS, eva_msgs is a workspace on top of it; the wheels find it by themselves.
OVERLAY := $(if $(ROS_DISTRO),. .venv/local_setup.sh &&)
VENV := $(OVERLAY) .venv/bin/

# Left behind by the wheels where make is started from another virtual environment.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

.PHONY: setup demo test lint format bench soak-gate soak-overlap soak-bags docs msgs lock clean

setup:
	@$(PYTHON) scripts/set_up.py

demo: setup
	@$(VENV)eva demo $(ARGS)

test: setup
	@OMP_NUM_THREADS=1 $(VENV)python -m pytest -n 2 --dist loadfile $(ARGS)

lint: setup
	$(VENV)ruff check $(SOURCES)
	$(VENV)ruff format --check $(SOURCES)
	$(VENV)mypy
	$(VENV)lint-imports

format: setup
	$(VENV)ruff check --fix $(SOURCES)
	$(VENV)ruff format $(SOURCES)

bench: setup
	@set -e; for script in benchmarks/*.py; do \
		echo "== $$script"; $(VENV)python $$script $(ARGS); done

soak-gate: setup
	@$(VENV)python scripts/soak_gate.py $(ARGS)

soak-overlap: setup
	@$(VENV)python scripts/soak_overlap.py $(ARGS)

soak-bags: setup
	@$(VENV)python scripts/soak_bags.py $(ARGS)

docs: setup
	@$(VENV)python scripts/check_docs.py

msgs:
	@rm -rf $(TEXTS) && mkdir -p $(TEXTS) && cp -r eva_msgs/msg eva_msgs/action $(TEXTS)
	@$(MAKE) --no-print-directory setup

lock: setup
	$(VENV)python scripts/lock.py --upgrade

clean:
	rm -rf build install log dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -rf .import_linter_cache .hypothesis MUJOCO_LOG.TXT
	find eva_ros launch scripts test -name __pycache__ -type d -prune -exec rm -rf {} +
