"""Workers on Ray: actors that score a stream of keys, on one machine or on a cluster."""

from __future__ import annotations
