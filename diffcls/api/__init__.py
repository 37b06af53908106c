"""Public classes: the zero-shot pipeline and the scikit-learn estimator."""

from __future__ import annotations
