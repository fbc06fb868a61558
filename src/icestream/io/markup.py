"""Parse XML of instruments: small, and nothing in it is expanded or fetched."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, NoReturn
from xml.parsers import expat

from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.io.access import read_at, reading

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BadXml", "parse_xml", "parse_xml_bytes"]

_LARGEST_BYTES = 4 << 20
_CUT_SHORT = {
    expat.errors.codes[text]
    for text in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
    )
}


class BadXml(ValueError):
    """Bytes that are no XML of an instrument; says why, and whether they end early."""

    def __init__(self, why: object, *, is_cut_short: bool = False) -> None:
        super().__init__(str(why))
        self.is_cut_short = is_cut_short


class _Plain(ET.TreeBuilder):
    """A tree of a document without a document type."""

    def doctype(self, *_: object) -> NoReturn:
        raise BadXml("it declares a document type")


def parse_xml_bytes(content: bytes) -> ET.Element:
    """Return the root of XML, 4 MiB at most.

    Returns
    -------
    Element
        With tags as ``{namespace}name``, wherever the namespaces are declared.

    Raises
    ------
    BadXml
        It is not well-formed, too large, of an encoding that Python does not know or
        cannot use here, or declares a document type: those can hold entities that
        expand without end.
    """
    if len(content) > _LARGEST_BYTES:
        raise BadXml(f"it is larger than {_LARGEST_BYTES >> 20} MiB")
    try:
        return ET.XML(content, ET.XMLParser(target=_Plain()))
    except ET.ParseError as error:
        raise BadXml(error, is_cut_short=error.code in _CUT_SHORT) from error
    except (ValueError, LookupError) as error:
        raise BadXml(error) from error


def parse_xml(path: Path) -> ET.Element:
    """Return the root of an XML file, as `parse_xml_bytes` does.

    Raises
    ------
    UnreadableFile
        It is no XML of an instrument.
    IncompleteFile
        It is empty or ends too early.
    """
    with reading(path) as file:
        content = read_at(file, 0, _LARGEST_BYTES + 1)
    try:
        return parse_xml_bytes(content)
    except BadXml as error:
        if error.is_cut_short:
            raise IncompleteFile(
                f"{path} ends too early: {error}.",
                hint="Wait until it is written, or transfer it again.",
            ) from error
        raise UnreadableFile(
            f"{path} is no XML of an instrument: {error}.",
            hint="Transfer it again; without it the exposure has fewer metadata.",
        ) from error
