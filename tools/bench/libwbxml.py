"""libwbxml through ctypes: the yardstick of our WBXML, and its oracle in tests/interop.

A conversion is what its own programs do for a file: make a converter, set it up, run it, copy the
result, drop both.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from tools.bench.errors import BenchError

__all__ = ["LibWbxml"]

LIBRARY = "libwbxml2.so.1"
"""Debian's libwbxml2-1."""
COMPACT = 0
"""WBXML_GEN_XML_COMPACT: no blanks of its own between elements."""

_Pointer = ctypes.c_void_p
_Size = ctypes.c_uint32


class LibWbxml:
    """Raises BenchError where the library is missing, ValueError for what it cannot convert."""

    def __init__(self) -> None:
        try:
            self._library = library = ctypes.CDLL(LIBRARY)
        except OSError:
            raise BenchError(
                f"{LIBRARY} is not installed (Debian: libwbxml2-1); tests/interop/setup.sh does it"
            ) from None
        self._free = ctypes.CDLL(None).free
        self._free.argtypes = [_Pointer]
        self._free.restype = None
        library.wbxml_conv_wbxml2xml_set_gen_type.argtypes = [_Pointer, ctypes.c_int]
        library.wbxml_conv_wbxml2xml_set_gen_type.restype = None
        library.wbxml_conv_xml2wbxml_disable_string_table.argtypes = [_Pointer]
        library.wbxml_conv_xml2wbxml_disable_string_table.restype = None
        self._to_xml = self._functions("wbxml2xml")
        self._to_wbxml = self._functions("xml2wbxml")

    def _functions(self, way: str) -> tuple[Callable[..., int], ...]:
        create = getattr(self._library, f"wbxml_conv_{way}_create")
        create.argtypes = [ctypes.POINTER(_Pointer)]
        run = getattr(self._library, f"wbxml_conv_{way}_run")
        run.argtypes = [
            *(_Pointer, ctypes.c_char_p, _Size),
            *(ctypes.POINTER(_Pointer), ctypes.POINTER(_Size)),
        ]
        destroy = getattr(self._library, f"wbxml_conv_{way}_destroy")
        destroy.argtypes = [_Pointer]
        destroy.restype = None
        return create, run, destroy

    def to_xml(self, document: bytes) -> bytes:
        converter = self._create(self._to_xml)
        self._library.wbxml_conv_wbxml2xml_set_gen_type(converter, COMPACT)
        return self._run(self._to_xml, converter, document)

    def to_wbxml(self, document: bytes, *, string_table: bool = False) -> bytes:
        converter = self._create(self._to_wbxml)
        if not string_table:
            self._library.wbxml_conv_xml2wbxml_disable_string_table(converter)
        return self._run(self._to_wbxml, converter, document)

    @staticmethod
    def _create(functions: tuple[Callable[..., int], ...]) -> _Pointer:
        converter = _Pointer()
        if functions[0](ctypes.byref(converter)):
            raise MemoryError("libwbxml made no converter")
        return converter

    def _run(
        self, functions: tuple[Callable[..., int], ...], converter: _Pointer, document: bytes
    ) -> bytes:
        _, run, destroy = functions
        result, size = _Pointer(), _Size()
        try:
            error = run(
                converter, document, len(document), ctypes.byref(result), ctypes.byref(size)
            )
        finally:
            destroy(converter)
        if error:
            raise ValueError(f"libwbxml: error {error}")
        try:
            return ctypes.string_at(result, size.value)
        finally:
            self._free(result)
