"""Reports: result rows as readable text."""

from __future__ import annotations
