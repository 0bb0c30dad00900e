"""The line of each key in a TOML text, which tomllib does not tell."""

import tomllib
from typing import Any, TypeAlias

#: Names of tables and keys, and the numbers of elements in arrays of tables.
KeyPath: TypeAlias = tuple[str | int, ...]


class KeyLines:
    """Finds lines by giving tomllib the text statement by statement, so that there is no second grammar."""

    def __init__(self, text: str) -> None:
        """Raises: ValueError: the text is not TOML."""
        tomllib.loads(text)
        self._lines: dict[KeyPath, int] = {}
        #: How many elements each array of tables has until now.
        self._elements: dict[KeyPath, int] = {}
        self._table: KeyPath = ()
        statement, begins_at = "", 1
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
            statement, begins_at = (f"{statement}\n{line}", begins_at) if statement else (line, number)
            try:
                content = tomllib.loads(statement)
            except ValueError:
                # It goes on in the next line.
                continue
            if statement.lstrip().startswith("["):
                self._table = self._open_table(content, begins_at)
            else:
                self._note(self._table, content, begins_at)
            statement = ""

    def line_of(self, path: KeyPath) -> int:
        """Where a key or table begins, or the innermost table around it that has a line."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _open_table(self, header: Any, line: int) -> KeyPath:
        """The path of `[a.b]` or `[[a.b]]`, which tomllib gives as tables with one key each."""
        path: KeyPath = ()
        while header:
            ((name, header),) = header.items()
            path = (*path, name)
            self._lines.setdefault(path, line)
            if isinstance(header, list):
                self._elements[path] = self._elements.get(path, 0) + 1
                header = header[0]
            if path in self._elements:
                path = (*path, self._elements[path] - 1)
                self._lines.setdefault(path, line)
        return path

    def _note(self, path: KeyPath, value: Any, line: int) -> None:
        self._lines.setdefault(path, line)
        if isinstance(value, dict):
            for name, inner in value.items():
                self._note((*path, name), inner, line)
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                self._note((*path, number), inner, line)
