# Two commands matter: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/setup.stamp

.DELETE_ON_ERROR:
.PHONY: help setup system demo lab bench bench-control test lint native sanitize peers fuzz clean

help:
	@echo "make demo           two hosts on this machine, talking through flannelette"
	@echo "make lab            what copying packets costs here: a report to open in a browser"
	@echo "make bench          the overlay measured beside kernel VXLAN and flanneld (ARGS=--quick)"
	@echo "make bench-control  one daemon among 10,000 nodes: sync, memory, changes"
	@echo "make test           all tests"
	@echo "make lint           ruff, mypy --strict, and the C with -Wall -Wextra -Werror"
	@echo "make sanitize       the tests of the C code under ASan and UBSan"
	@echo "make peers          build the real flanneld that tests/interop talks to"
	@echo "make fuzz           libFuzzer on the fast path, four targets (SECONDS_EACH=60)"
	@echo "make clean          remove what was built, the virtual environment too"

setup: $(SETUP)

# As root on Debian this installs; elsewhere it names what is missing.
system:
	@.ci/system-packages

$(SETUP): pyproject.toml setup.py $(wildcard native/src/*) | system
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1" "setuptools>=77"
	$(BIN)/python -m pip install -q -e '.[tools]' --group dev
	mkdir -p build/types && ln -sfn ../.. build/types/flannelette
	touch $@

demo: setup
	$(BIN)/flannelette demo $(ARGS)

lab: setup
	$(BIN)/flannelette lab $(ARGS)

bench: setup
	@$(MAKE) --no-print-directory peers || echo "no flanneld: it is left out"
	$(BIN)/flannelette bench $(ARGS)

bench-control: setup
	$(BIN)/flannelette bench-control $(ARGS)

# Besides what is used: a browser, and what reads captures, tables and firewalls.
test: setup
	@.ci/system-packages chromium:chromium tshark:tshark nft:nftables iptables:iptables \
		sqlite3:sqlite3 systemd-analyze:systemd faketime:faketime \
		/usr/lib/cni/bridge:containernetworking-plugins
	@$(MAKE) --no-print-directory peers || echo "no flanneld: tests/interop will skip"
	$(BIN)/python -m pytest -n logical --maxprocesses=4 --dist loadfile $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(CC) $(CFLAGS_LINT) native/src/*.c

CFLAGS_LINT := -std=gnu11 -O2 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -fsyntax-only

sanitize: setup
	.ci/sanitize $(ARGS)

peers: build/peers/flanneld

build/peers/flanneld: tests/interop/build-flanneld
	@.ci/system-packages go:golang-go
	tests/interop/build-flanneld $@

fuzz:
	@.ci/system-packages clang-14:clang-14 clang-14:libclang-rt-14-dev
	tests/fuzz/run $(SECONDS_EACH)

clean:
	rm -rf build dist *.egg-info native/*.so $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache
