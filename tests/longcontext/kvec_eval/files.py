"""The data files that a suite reads: named in its `data`, none of them part of the project."""

import pathlib


class DataError(ValueError):
    """A file that is missing or not as described, and which field names it."""


class Files:
    """Paths by name; relative ones are beside the suite."""

    def __init__(self, folder=".", paths=None):
        self._folder = pathlib.Path(folder)
        self._paths = dict(paths or {})

    def path(self, name, wanted_by):
        """The path of an existing file or folder."""
        if name not in self._paths:
            raise DataError(f"data.{name}: missing; {wanted_by} reads it (--data {name}=PATH)")
        path = self._folder / self._paths[name]
        if not path.exists():
            raise DataError(f"data.{name}: {path} is not there; {wanted_by} reads it")
        return path

    def has(self, name):
        return name in self._paths
