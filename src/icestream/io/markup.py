"""Parse XML of instruments: small, and nothing in it is expanded or fetched."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, NoReturn
from xml.parsers import expat

from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.io.access import read_at, reading

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["parse_xml"]

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


class _Refused(Exception):
    """What an instrument never writes."""


class _Plain(ET.TreeBuilder):
    """A tree of a document without a document type."""

    def doctype(self, *_: object) -> NoReturn:
        raise _Refused("it declares a document type")


def parse_xml(path: Path) -> ET.Element:
    """Return the root of an XML file.

    Parameters
    ----------
    path
        The file, 4 MiB at most.

    Returns
    -------
    Element
        With tags as ``{namespace}name``, wherever the namespaces are declared.

    Raises
    ------
    UnreadableFile
        It is no well-formed XML, too large, or declares a document type: those can
        hold entities that expand without end.
    IncompleteFile
        It is empty or ends too early.
    """
    with reading(path) as file:
        content = read_at(file, 0, _LARGEST_BYTES + 1)
    try:
        return _parse(content)
    except ET.ParseError as error:
        if error.code in _CUT_SHORT:
            raise IncompleteFile(
                f"{path} ends too early: {error}.",
                hint="Wait until it is written, or transfer it again.",
            ) from error
        raise _unreadable(path, error) from error
    except (_Refused, ValueError, LookupError) as error:
        # The last two: an encoding that Python does not know, or cannot use here.
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UnreadableFile:
    return UnreadableFile(
        f"{path} is no XML of an instrument: {error}.",
        hint="Transfer it again; without it the exposure has fewer metadata.",
    )


def _parse(content: bytes) -> ET.Element:
    if len(content) > _LARGEST_BYTES:
        raise _Refused(f"it is larger than {_LARGEST_BYTES >> 20} MiB")
    return ET.XML(content, ET.XMLParser(target=_Plain()))
