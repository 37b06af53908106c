"""Reports: result rows as text for people."""

from __future__ import annotations
