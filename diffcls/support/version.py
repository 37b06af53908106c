"""The version of diffcls: its one place, read by the build as well."""

from __future__ import annotations

__version__ = "0.2.0"
