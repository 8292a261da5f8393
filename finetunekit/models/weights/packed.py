"""Pretrained arrays as a wheel that holds nothing else, for a private package index: written here, and read where a plan names it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from finetunekit._version import __version__
from finetunekit.config.pixel_contract import contract_from, describe_contract
from finetunekit.errors import WeightsError
from finetunekit.models.weights.cache import arrays_digest
from finetunekit.models.weights.safetensors import SafeArrays, write_safetensors
from finetunekit.types import Arrays, BackboneSpec, PixelContract, WeightSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREFIX = "finetunekit-weights-"
FILE = "arrays.safetensors"
_FORMAT = "finetunekit-weights-1"
_VERSION = re.compile(r"\d+(\.\d+){0,4}")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Contract:
    """What packed arrays are, beside their numbers: all of it text or plain values.

    Attributes:
        backbone: Name that their backbone is registered under.
        options: Of the backbone, as its own Options dump them.
        size_px: Side of the input that they were written for.
        pixels: What they expect to be fed.
        licence: Of the arrays.
        attribution: Line that must travel with what is made of them.
        pretrained_on: Data set of the pretraining.
        origin: Where they were before they were packed.
        arrays_sha256: Digest of the arrays themselves.
    """

    backbone: str
    options: Mapping[str, Any]
    size_px: int
    pixels: PixelContract
    licence: str
    attribution: str
    pretrained_on: str
    origin: str
    arrays_sha256: str

    def texts(self) -> dict[str, str]:
        """What the file of arrays says of itself."""
        values = {key: value for key, value in dataclasses.asdict(self).items() if isinstance(value, str)}
        options, pixels = json.dumps(dict(self.options)), json.dumps(dataclasses.asdict(self.pixels))
        return {**values, "format": _FORMAT, "options": options, "pixels": pixels, "size_px": str(self.size_px)}

    @classmethod
    def read(cls, texts: Mapping[str, str]) -> Self:
        """Raises ValueError if these are not the texts of packed arrays."""
        if texts.get("format") != _FORMAT:
            raise ValueError(f"its metadata does not say {_FORMAT}; finetunekit weights pack writes such files")
        names = [field.name for field in dataclasses.fields(cls)]
        lacking = [name for name in names if name not in texts]
        if lacking:
            raise ValueError(f"its metadata lacks {', '.join(lacking)}")
        options = json.loads(texts["options"])
        if not isinstance(options, dict):
            raise ValueError("its options are not a map")
        try:
            pixels = contract_from(json.loads(texts["pixels"]))
        except (KeyError, TypeError) as exc:
            raise ValueError("its pixel contract cannot be read") from exc
        plain = {name: texts[name] for name in names if name not in ("options", "pixels", "size_px")}
        return cls(options=options, pixels=pixels, size_px=int(texts["size_px"]), **plain)


class PackedArrays(Mapping[str, "NDArray[np.float32]"]):
    """Arrays with their contract, their digest compared.

    Attributes:
        contract: What they are.
    """

    def __init__(self, path: Path) -> None:
        """Open a file that `pack_weights` wrote.

        Raises:
            WeightsError: If it cannot be read, or is not such a file.
        """
        self._arrays = SafeArrays(path)
        try:
            self.contract = Contract.read(self._arrays.about)
        except (ValueError, RecursionError) as exc:
            raise WeightsError(f"{path.name}: {exc}.") from exc
        if arrays_digest(self._arrays) != self.contract.arrays_sha256:
            raise WeightsError(f"{path.name}: its arrays are not those that its metadata names.")

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def distribution_of(name: str) -> str:
    """Name of the distribution that holds the arrays called `name`.

    Raises:
        WeightsError: If a distribution cannot be called so.
    """
    normal = re.sub(r"[-_.+]+", "-", name).lower().strip("-")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,80}[a-z0-9])?", normal):
        raise WeightsError(f"'{name}' cannot name a package: use letters, digits and '-', at most 80.")
    return PREFIX + normal


def packed_source(package: str, checksum: str) -> WeightSource:
    """The source that a plan names by `weights.package` and `weights.checksum`."""
    module = package.partition("==")[0].replace("-", "_")
    return WeightSource("package_index", package, checksum, PackedArrays, member=f"{module}/{FILE}")


def is_packed(source: WeightSource) -> bool:
    """Whether a source is a wheel that `pack_weights` wrote."""
    return source.member is not None and source.member.endswith(f"/{FILE}")


def packed_member(wheel: Path) -> str | None:
    """The file of arrays in a wheel that `pack_weights` wrote; None where there is none."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return None
    module = PREFIX.replace("-", "_")
    return next((name for name in names if name.startswith(module) and name.endswith(f"/{FILE}")), None)


def spec_of_packed(spec: BackboneSpec, contract: Contract) -> BackboneSpec:
    """What is known of a backbone with these arrays: licence and origin are theirs."""
    return dataclasses.replace(
        spec,
        licence=contract.licence,
        attribution=contract.attribution,
        pretrained_on=contract.pretrained_on,
    )


def check_contract(contract: Contract, backbone: str, options: Mapping[str, Any], spec: BackboneSpec) -> None:
    """Refuse arrays that were packed for another backbone, or for other pixels.

    Raises:
        WeightsError: In one line.
    """
    if contract.backbone != backbone:
        raise WeightsError(f"these arrays are for the backbone '{contract.backbone}', the plan's is '{backbone}'.")
    compared = {
        key: value for key, value in contract.options.items() if not key.startswith("lora_")
    }  # adds weights of its own
    odd = [key for key, value in compared.items() if _last_part(options.get(key)) != _last_part(value)]
    if odd:
        key = odd[0]
        raise WeightsError(
            f"these arrays were packed for backbone.{key}: {contract.options[key]}, the plan has {options.get(key)}."
        )
    if contract.pixels != spec.pixels:
        raise WeightsError(
            f"these arrays expect pixels as {describe_contract(contract.pixels)}, '{backbone}' is fed {describe_contract(spec.pixels)}."
        )


def _last_part(value: Any) -> Any:
    """Of a path, what it is called: a folder may lie elsewhere on another machine."""
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if isinstance(value, str) else value


def pack_weights(name: str, version: str, arrays: Arrays, contract: Contract, folder: Path) -> Path:
    """Write a wheel with arrays and their contract, and no code: equal arrays make equal wheels.

    Args:
        name: Of the arrays; the distribution is called `finetunekit-weights-<name>`.
        version: Numbers with dots.
        arrays: By `<layer path>/<variable name>`; read one at a time.
        contract: What they are.
        folder: Where the wheel is written; made where it is not there.

    Returns:
        The wheel.

    Raises:
        WeightsError: If the name or the version is impossible, the wheel is there already, or it cannot be written.

    Source: https://packaging.python.org/en/latest/specifications/binary-distribution-format/.
    """
    distribution = distribution_of(name)
    if not _VERSION.fullmatch(version):
        raise WeightsError(f"--version: numbers with dots, such as 1.0. Received: {version}")
    module = distribution.replace("-", "_")
    wheel, partial = folder / f"{module}-{version}-py3-none-any.whl", folder / f".{module}.partial"
    if wheel.exists():
        raise WeightsError(f"{wheel}: already exists. Give the next --version, or delete it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_safetensors(partial, arrays, contract.texts())
        _write_wheel(partial.with_suffix(".whl"), partial, module, distribution, version, contract)
        partial.with_suffix(".whl").rename(wheel)
    except OSError as exc:
        raise WeightsError(f"{folder}: cannot be written ({exc.strerror or exc}). Choose another with --into.") from exc
    finally:
        partial.unlink(missing_ok=True)
        partial.with_suffix(".whl").unlink(missing_ok=True)
    return wheel


def _write_wheel(target: Path, arrays: Path, module: str, distribution: str, version: str, contract: Contract) -> None:
    info = f"{module}-{version}.dist-info"
    texts = {
        f"{info}/METADATA": _metadata(distribution, version, contract),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: finetunekit {__version__}\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        with arrays.open("rb") as source, archive.open(_entry(f"{module}/{FILE}"), "w", force_zip64=True) as out:
            shutil.copyfileobj(source, out, _CHUNK_BYTES)
        with arrays.open("rb") as source:
            rows = [_record(f"{module}/{FILE}", hashlib.file_digest(source, "sha256").digest(), arrays.stat().st_size)]
        for name, text in texts.items():
            archive.writestr(_entry(name), text)
            rows.append(_record(name, hashlib.sha256(text.encode()).digest(), len(text.encode())))
        archive.writestr(_entry(f"{info}/RECORD"), "".join([*rows, f"{info}/RECORD,,\n"]))


def _entry(name: str) -> zipfile.ZipInfo:
    """Without a time, so that equal content makes equal files."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o644 << 16
    return entry


def _record(name: str, digest: bytes, size_bytes: int) -> str:
    return f"{name},sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()},{size_bytes}\n"


def _metadata(distribution: str, version: str, contract: Contract) -> str:
    """For people who look at the index; what counts is in the file of arrays."""
    lines = (
        "Metadata-Version: 2.1",
        f"Name: {distribution}",
        f"Version: {version}",
        f"Summary: Pretrained arrays for finetunekit's backbone {_line(contract.backbone)}; data only, no code.",
        f"License: {_line(contract.licence)}",
        "",
        f"{_line(contract.attribution)}",
        "",
        f"Pretrained on: {_line(contract.pretrained_on)}. From: {_line(contract.origin)}.",
        "",
    )
    return "\n".join(lines)


def _line(text: str) -> str:
    return " ".join(text.split())
