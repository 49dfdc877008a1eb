"""Audits as tables and figures."""
