"""iNaturalist's API through pyinaturalist, its requests sent by our own transport, its answers taken with care.

pyinaturalist writes the address of the API into each of its functions and has no option for another one; its own session pauses and
repeats in ways that can be neither seen nor shortened. What its functions do take is a session. So they build requests and read answers,
and the session that they are given sends them.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from finetunekit.data.inaturalist.http_errors import Refused, Unreachable, check_web_url, host_of
from finetunekit.data.inaturalist.responses import Candidate, Taxon, is_id, read_candidate, read_taxon
from finetunekit.data.inaturalist.spec import ClassSpec, FetchSpec
from finetunekit.data.inaturalist.transport import Transport
from finetunekit.errors import ConfigError, FetchError, did_you_mean

SERVER = "https://api.inaturalist.org/v1"
PER_PAGE = 200
MAX_ANSWER_BYTES = 50_000_000


class Api:
    """Taxa by name and observations by taxon."""

    def __init__(self, transport: Transport, server: str = SERVER) -> None:
        try:
            check_web_url(server)
        except Refused as exc:
            raise ConfigError(f"--server: {exc}. Name the API's address, such as {SERVER}.") from exc
        self.server = server.rstrip("/")
        self._session = _Session(transport, self.server)

    def find_taxon(self, name: str, where: str) -> Taxon:
        """The active taxon of exactly this scientific name; the one with most observations where kingdoms share it.

        Raises:
            ConfigError: If there is none; the nearest name is suggested.
            FetchError: If the API gives no usable answer.
        """
        from pyinaturalist.v1.taxa import get_taxa

        results = self._results(get_taxa, q=name, is_active=True, per_page=30)
        found = [taxon for result in results if (taxon := read_taxon(result))]
        wanted = " ".join(name.split()).removesuffix(" spp.").casefold()
        exact = [taxon for taxon in found if taxon.name.casefold() == wanted]
        if not exact:
            hint = did_you_mean(name, [taxon.name for taxon in found])
            raise ConfigError(f"{where}: iNaturalist knows no taxon '{name}'.{hint} Give its scientific name.")
        return max(exact, key=lambda taxon: taxon.observations)

    def page(self, taxon: Taxon, of: ClassSpec, spec: FetchSpec, *, above: int) -> tuple[list[Candidate], int | None]:
        """One page of candidates, oldest observations first, and the number after which the next page begins.

        Args:
            taxon: What is to be seen.
            of: Its class, for the grades that are taken.
            spec: Licences and size.
            above: Observations with this number or a smaller one have been looked at.

        Returns:
            One candidate an observation at most, and None in place of the number where there is no further page.

        Raises:
            FetchError: If the API gives no usable answer.
        """
        from pyinaturalist.v1.observations import get_observations

        results = self._results(
            get_observations,
            taxon_id=taxon.id,
            photos=True,
            photo_license=[licence.upper() for licence in spec.licences],
            quality_grade=list(of.quality),
            id_above=above,
            order_by="id",
            order="asc",
            per_page=PER_PAGE,
        )
        ids = [found["id"] for found in results if is_id(found.get("id")) and found["id"] > above]
        taken = [found for result in results if (found := read_candidate(result, taxon, of, spec, server=self.server))]
        return taken, max(ids) if ids else None

    def _results(self, function: Callable[..., Any], **parameters: Any) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = function(**parameters, session=self._session)["results"]
        return results


class _Session:
    """What pyinaturalist's functions take for a session: sends their requests to `server` by way of the transport."""

    def __init__(self, transport: Transport, server: str) -> None:
        self._transport, self._server = transport, server

    def request(self, method: str, url: str, **parameters: Any) -> _Reply:
        from pyinaturalist.constants import API_V1
        from pyinaturalist.request_params import preprocess_request_params

        if method != "GET" or not url.startswith(API_V1):
            raise FetchError(f"pyinaturalist asks for {method} {url[:80]}: another version of it than this one knows.")
        query = urllib.parse.urlencode({k: _query(v) for k, v in preprocess_request_params(parameters).items()})
        asked = f"{self._server}{url.removeprefix(API_V1)}?{query}"
        try:
            answer = self._transport.get(asked, max_bytes=MAX_ANSWER_BYTES, headers={"Accept": "application/json"})
        except (Refused, Unreachable) as exc:
            raise FetchError(f"{host_of(asked)}: {exc}. {_ADVICE}") from exc
        return _Reply(_checked(answer.content, answer.media_type, host_of(asked)))


def _query(value: Any) -> Any:
    """As the API documents its values. pyinaturalist leaves truth to requests, and wants licences in capitals."""
    if isinstance(value, bool):
        return str(value).lower()
    return value.lower() if isinstance(value, str) and value.startswith("CC") else value


_ADVICE = "Is there a network? Give the same command again: it goes on where it stopped."


@dataclass(frozen=True, slots=True)
class _Reply:
    document: dict[str, Any]

    def json(self) -> dict[str, Any]:
        return self.document


def _checked(content: bytes, media_type: str, host: str) -> dict[str, Any]:
    """An answer of the API: a JSON map with a list of maps. A login page of a hotel is none."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise FetchError(
            f"{host}: answers with {media_type or 'something'} that is no JSON. Is a login page between?"
        ) from exc
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise FetchError(f"{host}: its answer has no list of results. Is this iNaturalist's API, version 1?")
    return {"results": results}


def pages(api: Api, taxon: Taxon, of: ClassSpec, spec: FetchSpec, above: int) -> Iterator[tuple[list[Candidate], int]]:
    """Pages of candidates until there is none left, each with the number where it ends."""
    while True:
        candidates, end = api.page(taxon, of, spec, above=above)
        if end is None:
            return
        above = end
        yield candidates, end
