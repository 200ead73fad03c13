"""The journal as a file of JSON Lines. A disk that is full ends the journal, not the run."""

from __future__ import annotations

from types import TracebackType


class JournalFile:
    """A context manager whose `write` takes finished lines."""

    __slots__ = ("_file", "error", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.error: str | None = None
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - open as long as the run

    def __enter__(self) -> JournalFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError as failure:
            self._failed(failure)

    def write(self, line: str) -> None:
        if self.error is None:
            try:
                self._file.write(line + "\n")
            except OSError as failure:
                self._failed(failure)

    def _failed(self, failure: OSError) -> None:
        if self.error is None:
            self.error = f"journal {self.path}: {failure.strerror or failure}"
