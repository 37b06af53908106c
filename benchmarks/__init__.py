"""Benchmarks of diffcls; ``python -m benchmarks.run`` lists them, see benchmarks/README.md."""
