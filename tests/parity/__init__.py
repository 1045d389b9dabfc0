"""The experiments that take a minute each, whole: `make test-parity`."""
