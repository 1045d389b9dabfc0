"""Tests of what needs processes, packages or pages: `make test-integration`."""
