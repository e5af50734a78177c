"""Reads and writes files, on this machine and on remote file systems."""
