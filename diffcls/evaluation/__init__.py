"""Evaluation: from options to rows."""

from __future__ import annotations
