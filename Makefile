# pqtls: `make demo` to see it work, `make test` to check a change. CI runs `make test`.
PYTHON ?= python3
