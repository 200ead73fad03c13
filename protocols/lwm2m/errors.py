"""Errors of the LwM2M client."""

from __future__ import annotations

from protocols.coap.numbers import Code

__all__ = ["OperationRefused"]


class OperationRefused(Exception):
    """An operation of the server that the client answers with an error; ``code`` says which."""

    def __init__(self, code: Code, text: str = "") -> None:
        super().__init__(text or code.name)
        self.code = code
        self.text = text
