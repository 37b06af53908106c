"""One file a benchmark; ``python -m benchmarks.run NAME`` runs it, writes ``results/NAME.md``."""
