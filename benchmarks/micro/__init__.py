"""Micro-benchmarks for airspeed velocity: `asv run`, `asv continuous main HEAD`; see asv.conf.json."""
