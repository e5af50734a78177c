"""Files as they lie on any file system that Beam knows."""

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems


def open_bytes(path):
    """Opens a file for reading, whatever its name says of compression."""
    return FileSystems.open(str(path), compression_type=CompressionTypes.UNCOMPRESSED)


def size(path):
    """Bytes of a file."""
    # Not `FileSystems.match`, which would take a bracket in the path for a pattern.
    return FileSystems.get_filesystem(path).size(path)
