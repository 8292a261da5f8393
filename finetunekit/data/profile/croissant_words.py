"""The vocabulary of Croissant 1.0: its context, its names of splits, and how a field and a citation are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

#: Source: docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html, appendix 1 (JSON-LD context).
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
#: Split → its name in Croissant. Source: the same specification, "ML-specific features", splits.
SPLIT_TYPES: Mapping[str, str] = {
    "train": "http://mlcommons.org/croissant/TrainingSplit",
    "valid": "http://mlcommons.org/croissant/ValidationSplit",
    "test": "http://mlcommons.org/croissant/TestSplit",
}


def field(
    of: str,
    name: str,
    data_type: str | Sequence[str],
    source: Mapping[str, Any],
    references: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A field of a record set that takes its value from somewhere, and may be equal to something else."""
    written = {
        "@type": "cr:Field",
        "@id": f"{of}/{name}",
        "name": name,
        "dataType": data_type,
        "source": source,
        "references": references,
    }
    return {key: value for key, value in written.items() if value is not None}


def table_field(of: str, name: str, data_type: str) -> dict[str, Any]:
    """A field of a record set whose records stand in the metadata."""
    return {"@type": "cr:Field", "@id": f"{of}/{name}", "name": name, "dataType": data_type}


def cite_as(name: str, authors: Sequence[str]) -> str | None:
    """A BibTeX entry that names every author once, most photos first; None where no author is known."""
    counted = Counter(filter(None, authors))
    if not counted:
        return None
    ranked = sorted(counted, key=lambda author: (-counted[author], author))
    listed = " and ".join("{" + _plain(author) + "}" for author in ranked)
    note = f"{counted.total()} photos, each with its own licence: see ATTRIBUTION.csv"
    return f"@misc{{{name}, title = {{{_plain(name)}}}, author = {{{listed}}}, note = {{{note}}}}}"


def _plain(text: str) -> str:
    """Without the characters that BibTeX would take for its own."""
    return "".join(c for c in text if c not in '{}\\"')
