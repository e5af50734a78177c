"""Exports, serves and queries models."""
