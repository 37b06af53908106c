"""The classes that people import."""

from __future__ import annotations
