"""iNaturalist's API, version 1: taxa by name and observations by taxon; its answers are read with care.

Source: api.inaturalist.org/v1/docs.
"""

from __future__ import annotations

import io
import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetunekit import Client, ConfigError, Refused, Unreachable, did_you_mean
from finetunekit_inaturalist import FetchError
from finetunekit_inaturalist.responses import Candidate, Taxon, is_id, read_candidate, read_taxon
from finetunekit_inaturalist.spec import ClassSpec, FetchSpec

SERVER = "https://api.inaturalist.org/v1"
PER_PAGE = 200
MAX_ANSWER_BYTES = 50_000_000
ADVICE = "Is there a network? Run the same command again: it continues where it stopped."


@dataclass(frozen=True, slots=True)
class Api:
    """Asks the API of a server, such as `SERVER`."""

    client: Client
    server: str

    def find_taxon(self, name: str, where: str) -> Taxon:
        """The active taxon of exactly this scientific name; the one with most observations where kingdoms share it.

        Raises:
            ConfigError: If there is none; the nearest name is suggested.
            FetchError: If the API gives no usable answer.
        """
        results = self._ask("taxa", q=name, is_active="true", per_page=30)
        found = [taxon for result in results if (taxon := read_taxon(result))]
        wanted = " ".join(name.split()).removesuffix(" spp.").casefold()
        exact = [taxon for taxon in found if taxon.name.casefold() == wanted]
        if not exact:
            hint = did_you_mean(name, [taxon.name for taxon in found])
            raise ConfigError(f"{where}: iNaturalist knows no taxon '{name}'.{hint} Give its scientific name.")
        return max(exact, key=lambda taxon: taxon.observations)

    def pages(self, taxon: Taxon, of: ClassSpec, spec: FetchSpec, above: int) -> Iterator[tuple[list[Candidate], int]]:
        """Pages of candidates, oldest observations first, each with the number of its last observation.

        Args:
            taxon: What is to be seen.
            of: Its class, for the grades that are taken.
            spec: Licences and size.
            above: Observations with this number or a smaller one have been looked at.

        Yields:
            One candidate an observation at most.

        Raises:
            FetchError: If the API gives no usable answer.
        """
        while True:
            results = self._ask(
                "observations",
                taxon_id=taxon.id,
                photos="true",
                photo_license=",".join(spec.licences),
                quality_grade=",".join(of.quality),
                id_above=above,
                order_by="id",
                order="asc",
                per_page=PER_PAGE,
            )
            ids = [found["id"] for found in results if is_id(found.get("id")) and found["id"] > above]
            if not ids:
                return
            above = max(ids)
            read = (read_candidate(found, taxon, of, spec, server=self.server) for found in results)
            yield [candidate for candidate in read if candidate], above

    def _ask(self, what: str, **parameters: str | int) -> list[dict[str, Any]]:
        """Results of an answer: a JSON map with a list of maps. A login page of a hotel is none."""
        out, host = io.BytesIO(), urllib.parse.urlsplit(self.server).netloc
        url = f"{self.server}/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            received = self.client.get(url, out, max_bytes=MAX_ANSWER_BYTES, headers={"Accept": "application/json"})
        except (Refused, Unreachable) as exc:
            raise FetchError(f"{host}: {exc}. {ADVICE}") from exc
        try:
            document = json.loads(out.getvalue())
        except (ValueError, RecursionError) as exc:
            raise FetchError(
                f"{host}: answers with {received.media_type or 'something'} that is not JSON. Is there a login page in between?"
            ) from exc
        results = document.get("results") if isinstance(document, dict) else None
        if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
            raise FetchError(f"{host}: its answer has no list of results. Is this iNaturalist's API, version 1?")
        return results
