"""A file system in memory for Beam, which to the code under test is as remote as gs://."""

import io

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

ROOT = "ram://bucket"


class RamFileSystem(FileSystem):
    """Read-only files by path; like an object store it has no folders."""

    files: dict[str, tuple[bytes, float]] = {}

    @classmethod
    def scheme(cls):
        return "ram"

    @classmethod
    def hold(cls, folder, at=0.0, below=ROOT):
        """Copies all files of a local folder; returns the remote folder."""
        cls.files = {
            f"{below}/{path.relative_to(folder)}": (path.read_bytes(), at)
            for path in folder.rglob("*")
            if path.is_file()
        }
        return below

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        for path in self.files:
            if path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def metadata(self, path):
        if path not in self.files:
            raise BeamIOError(f"{path} is not held")
        content, at = self.files[path]
        return FileMetadata(path, len(content), at)

    def size(self, path):
        return self.metadata(path).size_in_bytes

    def last_updated(self, path):
        return self.metadata(path).last_updated_in_seconds

    def exists(self, path):
        return path in self.files

    def open(self, path, mime_type=None, compression_type="auto"):
        self.metadata(path)
        return io.BytesIO(self.files[path][0])

    def _refuse(self, *args, **kwargs):
        raise BeamIOError("these files cannot be changed")

    mkdirs = create = copy = rename = delete = _refuse
