"""Parse XML safely."""

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat


def parse_xml(data: bytes) -> Element:
    """Parse an XML document.

    Document type declarations are refused, because entities can grow without bounds or read files.

    Raises:
        ValueError: The document has a document type declaration.
        ExpatError: The document is not well-formed.
    """

    def refuse(*_: object) -> None:
        raise ValueError("it has a document type declaration, which is not read")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(data, True)
    return builder.close()
