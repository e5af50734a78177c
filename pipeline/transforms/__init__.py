"""Beam transforms from raw tables to user records."""
