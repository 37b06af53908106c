"""One file a benchmark; ``python -m benchmarks.run NAME`` runs it and writes ``results/NAME.md``."""
