"""Figures made: what is missing, what is stale, notebooks drawn, records published."""
