"""What `data audit` finds of planted defects, how many pairs it calls copies falsely, and what it costs per photo.

    python benchmarks/bench_audit.py --photos DIR [--each 100] [--seed 0] [--side 320] [--network]
    python benchmarks/bench_audit.py --photos DIR --libraries      (pip install imagehash cleanlab)
    python benchmarks/bench_audit.py --scale 1000,10000,100000

DIR is any tree whose folders nearest to the photos are classes. Its photos are copied to a temporary folder, at most `--side` pixels long,
into train, valid and test; then defects are planted, each from a photo of its own, and the audit is asked. Groups that were not planted
are printed by name: look at them, real sets hold real duplicates. `--network` also swaps a twentieth of the training labels. `--scale`
draws photos of `--drawn-width` pixels and audits ever more of them, each number in a process of its own; a hundredth is planted.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from common import describe_machine, new_parser
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from finetunekit.config.planning import prepare
from finetunekit.data.audit.audit import audit_listing
from finetunekit.data.audit.audited_photos import AuditedPhotos, audited_photos
from finetunekit.data.audit.findings import AuditReport
from finetunekit.data.audit.labels import suspect_labels
from finetunekit.data.known_photos import KnownPhotos, measure_photos, open_known_photos
from finetunekit.evaluation.label_audit import check_features, choose_backbone
from finetunekit.statistics import softmax, wilson_interval
from finetunekit.system.progress import Progress
from finetunekit.types import PhotoListing, PhotoRecord

QUIET = Progress(is_quiet=True)
LIMIT = 100_000_000
SWAPPED = 0.05
Change = Callable[[Image.Image, random.Random], bytes]


def jpeg(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def resized(image: Image.Image, rng: random.Random) -> bytes:
    scale = rng.uniform(0.5, 1.5)
    size = (round(image.width * scale), round(image.height * scale))
    return jpeg(image.resize(size, Image.Resampling.BICUBIC), rng.randint(30, 95))


def crop_of(part: float) -> Change:
    """This part of each side, anywhere."""

    def crop(image: Image.Image, rng: random.Random) -> bytes:
        return jpeg(_cropped(image, part, rng), rng.randint(50, 95))

    return crop


def _cropped(image: Image.Image, part: float, rng: random.Random) -> Image.Image:
    width, height = round(image.width * part), round(image.height * part)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def mirrored_crop(image: Image.Image, rng: random.Random) -> bytes:
    return jpeg(ImageOps.mirror(_cropped(image, 0.8, rng)), rng.randint(50, 95))


def turned_by(turn: Image.Transpose) -> Change:
    return lambda image, rng: jpeg(image.transpose(turn), rng.randint(30, 95))


def border_of(part: float) -> Change:
    """On every side, in black, white or any colour."""

    def frame(image: Image.Image, rng: random.Random) -> bytes:
        width, height = round(image.width * part), round(image.height * part)
        colour = rng.choice([(0, 0, 0), (255, 255, 255), tuple(rng.randint(0, 255) for _ in range(3))])
        framed = Image.new("RGB", (image.width + 2 * width, image.height + 2 * height), colour)
        framed.paste(image, (width, height))
        return jpeg(framed, rng.randint(50, 95))

    return frame


def watermarked(image: Image.Image, rng: random.Random) -> bytes:
    """One or three lines of text across the photo, white, black or dark, half to nearly opaque, sometimes slanted."""
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    drawing, size, lines = ImageDraw.Draw(layer), image.width / 6, rng.choice([1, 3])
    colour = (rng.choice([255, 255, 0]),) * 3 + (rng.randint(110, 220),)
    for line in range(lines):
        place = (image.width * rng.uniform(0, 0.15), image.height * (line + 0.5) / lines - size / 2)
        drawing.text(place, "SAMPLE PHOTO", fill=colour, font=ImageFont.load_default(size))
    if rng.random() < 0.4:
        layer = layer.rotate(rng.uniform(-30, 30))
    return jpeg(Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB"), rng.randint(50, 95))


def covered(image: Image.Image, rng: random.Random) -> bytes:
    """A rectangle of a quarter of the area, of any proportions between 1:3 and 3:1, anywhere, black, white or grey."""
    width = min(1.0, max(0.25, 0.5 * rng.uniform(0.58, 1.73)))
    size = (round(image.width * width), round(image.height * 0.25 / width))
    left, top = rng.randint(0, image.width - size[0]), rng.randint(0, image.height - size[1])
    hidden = image.copy()
    hidden.paste((rng.choice([0, 128, 255]),) * 3, (left, top, left + size[0], top + size[1]))
    return jpeg(hidden, rng.randint(50, 95))


def rotated(keep: str) -> Change:
    """By 3 to 15 degrees either way; `corners`: black ones in the same frame, `all`: in a larger one, `inner`: cut away."""

    def rotate(image: Image.Image, rng: random.Random) -> bytes:
        degrees = rng.uniform(3, 15) * rng.choice([-1, 1])
        whole = image.rotate(degrees, Image.Resampling.BICUBIC, expand=keep == "all")
        return jpeg(_inner(whole, degrees) if keep == "inner" else whole, rng.randint(50, 95))

    return rotate


def _inner(image: Image.Image, degrees: float) -> Image.Image:
    """The largest rectangle of the photo's proportions that a rotation by a few degrees leaves whole."""
    angle, aspect = math.radians(abs(degrees)), max(image.width / image.height, image.height / image.width)
    part = 1 / (math.cos(angle) + aspect * math.sin(angle))
    left, top = round(image.width * (1 - part) / 2), round(image.height * (1 - part) / 2)
    return image.crop((left, top, image.width - left, image.height - top))


def collage_of(photos: int, *, is_squeezed: bool = False) -> Change:
    """Of two photos, side by side or one above the other, or of four; the others are textures. Squeezed: in the frame of one."""

    def paste(image: Image.Image, rng: random.Random) -> bytes:
        across = 2 if photos == 4 or rng.random() < 0.5 else 1
        whole = Image.new("RGB", (across * image.width, photos // across * image.height))
        place = rng.randrange(photos)
        for number in range(photos):
            other = _filling(image.size, rng) if number != place else image
            whole.paste(other, (number % across * image.width, number // across * image.height))
        return jpeg(whole.resize(image.size) if is_squeezed else whole, rng.randint(50, 95))

    return paste


def _filling(size: tuple[int, int], rng: random.Random) -> Image.Image:
    pixels = texture(np.random.default_rng(rng.randrange(2**32)), 160)
    return Image.fromarray(pixels).resize(size)


CHANGES: dict[str, Change] = {
    "saved again, quality 30 to 95": lambda image, rng: jpeg(image, rng.randint(30, 95)),
    "resized by 0.5 to 1.5": resized,
    "brightness by 0.8 to 1.2": lambda image, rng: jpeg(
        ImageEnhance.Brightness(image).enhance(rng.uniform(0.8, 1.2)), 85
    ),
    "mirrored": lambda image, rng: jpeg(ImageOps.mirror(image), rng.randint(30, 95)),
    "flipped upside down": lambda image, rng: jpeg(ImageOps.flip(image), rng.randint(30, 95)),
    "turned by 90 degrees": turned_by(Image.Transpose.ROTATE_90),
    "turned by 180 degrees": turned_by(Image.Transpose.ROTATE_180),
    "turned by 270 degrees": turned_by(Image.Transpose.ROTATE_270),
    "rotated by 3 to 15, black corners": rotated("corners"),
    "rotated by 3 to 15, frame enlarged": rotated("all"),
    "rotated by 3 to 15, corners cut off": rotated("inner"),
    "cropped to 90 % of each side": crop_of(0.9),
    "cropped to 80 % of each side": crop_of(0.8),
    "cropped to 70 % of each side": crop_of(0.7),
    "cropped to 50 % of each side": crop_of(0.5),
    "mirrored and cropped to 80 %": mirrored_crop,
    "border of 10 %": border_of(0.1),
    "border of 25 %": border_of(0.25),
    "watermark": watermarked,
    "a quarter covered": covered,
    "collage of 2": collage_of(2),
    "collage of 2 in the frame of 1": collage_of(2, is_squeezed=True),
    "collage of 4": collage_of(4),
    "inverted": lambda image, rng: jpeg(ImageOps.invert(image), rng.randint(50, 95)),
}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--each", type=int, default=100, help="planted defects of each kind, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the splits, and of what is planted")
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--network", action="store_true")
    parser.add_argument("--scale", help="numbers of drawn photos, separated by commas")
    parser.add_argument("--libraries", action="store_true", help="imagehash and cleanlab beside what is used here")
    parser.add_argument("--drawn-width", type=int, default=320)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.draw:
        draw_photos(arguments.draw, int(arguments.draw.name), arguments.drawn_width)
        return
    if arguments.one:
        measure_drawn(arguments.one)
        return
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FINETUNEKIT_CACHE"] = (
            os.environ.get("FINETUNEKIT_CACHE", "") if arguments.network else f"{folder}/cache"
        )
        if arguments.photos:
            measure_planted(arguments.photos, Path(folder), arguments)
        for count in map(int, arguments.scale.split(",")) if arguments.scale else ():
            # both in processes of their own: a parent's memory would be counted into its child's peak
            for step in ("--draw", "--one"):
                width = ("--drawn-width", str(arguments.drawn_width))
                subprocess.run([sys.executable, __file__, *width, step, f"{folder}/{count}"], check=True)
            shutil.rmtree(Path(folder) / str(count))


# ---- planted defects among real photos ---------------------------------------------------------------------------------------------


def copy_photos(source: Path, root: Path, side_px: int, rng: random.Random) -> list[Path]:
    """Every photo of `source` in `root/<split>/<class>/`: six tenths train, two valid, two test."""
    copied = []
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for number, path in enumerate(paths):
        split = rng.choices(("train", "valid", "test"), (6, 2, 2))[0]
        target = root / split / path.parent.name / f"{number:05d}-{path.stem}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            if image.format == "JPEG" and max(image.size) <= side_px:
                shutil.copy(path, target)
            else:
                image.draft("RGB", (side_px, side_px))
                small = image.convert("RGB")
                small.thumbnail((side_px, side_px))
                target.write_bytes(jpeg(small, 90))
        copied.append(target)
    return copied


def plant(
    root: Path, sources: Sequence[Path], kinds: Sequence[str], each: int, rng: random.Random
) -> dict[str, list[tuple[str, str]]]:
    """Copies of valid and test photos among the training photos; kind → (source, copy) as the audit shows them."""
    planted: dict[str, list[tuple[str, str]]] = {}
    for position, kind in enumerate(kinds):
        for source in sources[position * each : (position + 1) * each]:
            target = root / "train" / source.parent.name / f"planted-{position}-{source.name}"
            if kind in CHANGES:
                with Image.open(source) as image:
                    target.write_bytes(CHANGES[kind](image.convert("RGB"), rng))
            else:
                shutil.copy(source, target)
            planted.setdefault(kind, []).append(tuple(path.relative_to(root).as_posix() for path in (source, target)))
    return planted


def truncate(root: Path, sources: Sequence[Path], rng: random.Random) -> set[str]:
    """Train files cut short, anywhere from a twentieth to the last byte."""
    cut = set()
    for source in sources:
        content = source.read_bytes()
        target = root / "train" / source.parent.name / f"cut-{source.name}"
        target.write_bytes(content[: rng.randint(len(content) // 20, len(content) - 1)])
        cut.add(target.relative_to(root).as_posix())
    return cut


def measure_planted(photos: Path, folder: Path, arguments: argparse.Namespace) -> None:
    rng = random.Random(arguments.seed)
    root = folder / "photos"
    copied = copy_photos(photos, root, arguments.side, rng)
    measure_rate(list_folder(root))
    before = groups_of(look(root))
    print(f"{len(copied)} photos before planting: {len(before)} groups of copies, to be looked at:")
    for group in before:
        print(f"    {' = '.join(sorted(group))}")
    if arguments.libraries:
        compare_imagehash(copied, rng)
        compare_cleanlab()
    if arguments.network:
        measure_labels(root, rng)
    scored = [path for path in copied if path.relative_to(root).parts[0] != "train"]
    rng.shuffle(scored)
    cut = truncate(root, rng.sample([path for path in copied if path not in scored], arguments.each), rng)
    unreadable = {
        seen.path for finding in look(root).findings if finding.kind == "unreadable" for (seen,) in finding.groups
    }
    show_share("truncated", len(cut & unreadable), len(cut))
    show_share("whole files called unreadable", len(unreadable - cut), len(copied))
    kinds, at_once = ["the same file", *CHANGES], max(1, len(scored) // arguments.each)
    for start in range(0, len(kinds), at_once):
        measure_kinds(root, scored, kinds[start : start + at_once], before, arguments.each, rng)


def measure_kinds(
    root: Path, sources: list[Path], kinds: Sequence[str], before: Sequence[set[str]], each: int, rng: random.Random
) -> None:
    """Plant some kinds, each in photos of its own, look, and take them away again."""
    rng.shuffle(sources)
    planted = plant(root, sources, kinds, min(each, len(sources) // len(kinds)), rng)
    found = groups_of(look(root))
    for kind, pairs in planted.items():
        show_share(kind, sum(any({*pair} <= group for group in found) for pair in pairs), len(pairs))
    copies = {copy: source for pairs in planted.values() for source, copy in pairs}
    new = [group for group in found if len({copies.get(path, path) for path in group}) > 1]
    new = [group for group in new if not any({copies.get(path, path) for path in group} <= known for known in before)]
    print(
        f"    of {len(copies)} planted: groups that join unlike photos and were not there before: {len(new)}",
        flush=True,
    )
    for group in new:
        print(f"        {' = '.join(sorted(group))}")
    for copy in copies:
        (root / copy).unlink()


def compare_imagehash(copied: Sequence[Path], rng: random.Random) -> None:
    """Bits of 64 by which perceptual hashes of planted copies, and of unlike photos, differ."""
    import imagehash

    paths = rng.sample(list(copied), min(200, len(copied)))
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    hashes = [imagehash.phash(image) for image in images]
    for kind, change in CHANGES.items():
        copies = [imagehash.phash(Image.open(io.BytesIO(change(image, rng)))) for image in images]
        bits = [int(one - other) for one, other in zip(hashes, copies, strict=True)]
        print(f"imagehash.phash, {kind}: median {np.median(bits):.0f} bits, largest {max(bits)}")
    print(f"imagehash.phash, unlike photos: least {min(a - b for i, a in enumerate(hashes) for b in hashes[:i])} bits")


def compare_cleanlab() -> None:
    """Whether both implementations of confident learning suspect the same photos, on simulated labels and probabilities."""
    from cleanlab.filter import find_label_issues

    for seed in range(4):
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 4, 1000)
        logits = generator.normal(0, 1, (1000, 4))
        logits[np.arange(1000), labels] += 3
        probabilities = softmax(logits)
        is_swapped = generator.random(1000) < SWAPPED
        labels[is_swapped] = (labels[is_swapped] + generator.integers(1, 4, is_swapped.sum())) % 4
        ours = set(suspect_labels(probabilities, labels)[0].tolist())
        theirs = set(
            np.flatnonzero(find_label_issues(labels, probabilities, filter_by="prune_by_noise_rate", n_jobs=1)).tolist()
        )
        print(
            f"confident learning, simulation {seed}: {len(ours)} suspects here, {len(theirs)} by cleanlab, {len(ours & theirs)} in both"
        )


def list_folder(root: Path) -> PhotoListing:
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return PhotoListing(tuple(PhotoRecord(path, path.parent.name, path.parent.parent.name) for path in paths), root)


def look(root: Path) -> AuditReport:
    with open_known_photos(print) as known:
        return audit_listing(list_folder(root), max_pixels=LIMIT, known=known, progress=QUIET)


def read_photos(listing: PhotoListing, known: KnownPhotos, workers: int = 2) -> AuditedPhotos:
    paths = [record.path for record in listing.photos]
    return audited_photos(listing, measure_photos(paths, max_pixels=LIMIT, known=known, workers=workers))


def groups_of(report: AuditReport) -> list[set[str]]:
    kinds = ("leak", "duplicate", "conflict")
    return [
        {seen.path for seen in group}
        for finding in report.findings
        if finding.kind in kinds
        for group in finding.groups
    ]


def measure_rate(listing: PhotoListing) -> None:
    """One thread, an empty cache, files read a moment before: time of the processor, which other processes do not lengthen."""
    for record in listing.photos:
        record.path.read_bytes()
    with tempfile.TemporaryDirectory() as cache:
        kept, os.environ["FINETUNEKIT_CACHE"] = os.environ.get("FINETUNEKIT_CACHE"), cache
        with open_known_photos(print) as known:
            started = time.process_time()
            read = read_photos(listing, known, workers=1)
            seconds = time.process_time() - started
        os.environ["FINETUNEKIT_CACHE"] = kept or ""
    print(
        f"hashed and measured: {read.decoded} photos in {seconds:.2f} s of one core, {read.decoded / seconds:.0f} photos/s"
    )


def measure_labels(root: Path, rng: random.Random) -> None:
    """A twentieth of the training photos under another class; then the network is asked."""
    train = sorted((root / "train").rglob("*.jpg"))
    classes = sorted({path.parent.name for path in train})
    swapped = set()
    for path in rng.sample(train, round(SWAPPED * len(train))):
        wrong = rng.choice([name for name in classes if name != path.parent.name])
        target = path.parent.parent / wrong / f"swapped-{path.name}"
        path.rename(target)
        swapped.add(target)
    plan, host = prepare("small-data", settings=[f"data.root='{root}'"], progress=QUIET)
    plan = choose_backbone(plan, host)
    if plan is None:
        print("labels: no pretrained weights are here; finetunekit weights fetch NAME")
    else:
        listing = list_folder(root)
        with open_known_photos(print) as known:
            read = read_photos(listing, known)
        started = time.perf_counter()
        findings = {finding.kind: finding for finding in check_features(read, listing, plan, QUIET)}
        named = [group[0].path for group in findings["label"].groups] if "label" in findings else []
        hit = {path.relative_to(root).as_posix() for path in swapped} & set(named)
        show_share(f"labels swapped, by {plan.spec.title}", len(hit), len(swapped))
        print(
            f"    named besides: {len(named) - len(hit)} of {len(read.readable)}; {time.perf_counter() - started:.1f} s"
        )
        print("    " + ", ".join(path for path in named if path not in hit))
        outliers = findings["outlier"].groups if "outlier" in findings else ()
        print(f"    outliers: {', '.join(group[0].path for group in outliers)}")
    for target in swapped:  # as they were, for what follows
        name = target.name.removeprefix("swapped-")
        home = next(path.parent for path in train if path.name == name)
        target.rename(home / name)


def show_share(what: str, found: int, planted: int) -> None:
    interval = wilson_interval(found, planted)
    print(
        f"{what:<36} {found} of {planted} = {found / planted:.1%} (95 % interval {interval.low:.1%} to {interval.high:.1%})"
    )


# ---- drawn photos by the hundred thousand ------------------------------------------------------------------------------------------


def draw_photos(root: Path, count: int, width: int) -> None:
    """Mixtures of windows of 200 textures, no two alike; a hundredth is copied into train: mirrored, cropped, resized, saved again."""
    generator, rng = np.random.default_rng(0), random.Random(0)
    textures = [texture(generator, width) for _ in range(200)]
    for number in range(count):
        split, label = ("train", "valid", "test")[max(0, number % 5 - 2)], f"class {number % 4}"
        target = root / split / label / f"{number:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(window(generator, textures) // 2 + window(generator, textures) // 2)
        target.write_bytes(jpeg(image, 75))
        if number % 100 == 4:
            kind = sorted(CHANGES)[number // 100 % len(CHANGES)]
            copy = root / "train" / label / f"planted-{target.name}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(CHANGES[kind](image, rng))


def texture(generator: np.random.Generator, width: int) -> np.ndarray:
    """Noise at several scales, twice as large as a photo on each side."""
    size = (2 * width, 2 * width * 3 // 4)
    pixels = np.zeros((size[1], size[0], 3), np.float32)
    for cells, strength in ((4, 70), (8, 45), (16, 30), (32, 20), (64, 14), (128, 8)):
        noise = generator.normal(0, strength, (cells, cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(noise[..., channel]).resize(size, Image.Resampling.BICUBIC)
            pixels[..., channel] += np.asarray(layer)
    return np.clip(pixels + 128, 0, 255).astype(np.uint8)


def window(generator: np.random.Generator, textures: Sequence[np.ndarray]) -> np.ndarray:
    of = textures[generator.integers(len(textures))]
    height, width = of.shape[0] // 2, of.shape[1] // 2
    top, left = generator.integers(0, height), generator.integers(0, width)
    return of[top : top + height, left : left + width]


def measure_drawn(root: Path) -> None:
    listing = list_folder(root)
    planted = [record.path for record in listing.photos if record.path.name.startswith("planted-")]
    before_mb = peak_mb()
    started, cpu = time.perf_counter(), time.process_time()
    report = look(root)
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    again = time.process_time()
    look(root)
    again_s = time.process_time() - again
    found = groups_of(report)
    pairs = set(planted_pairs(planted, root))
    hit = sum(any(pair <= group for group in found) for pair in pairs) if len(found) < 5000 else -1
    others = [group for group in found if not any(pair >= group for pair in pairs)]
    print(
        f"{len(listing.photos):7,} photos: {cpu_s:.1f} s of processor ({len(listing.photos) / cpu_s:.0f} photos/s), {wall_s:.1f} s by the "
        f"clock; again, known by content: {again_s:.1f} s; peak memory {peak_mb():.0f} MB, {before_mb:.0f} MB of it before"
    )
    print(f"        planted {hit} of {len(pairs)} found; other groups: {len(others)}", flush=True)


def planted_pairs(planted: Sequence[Path], root: Path) -> Iterator[frozenset[str]]:
    for copy in planted:
        name = copy.name.removeprefix("planted-")
        sources = [root / split / copy.parent.name / name for split in ("train", "valid", "test")]
        source = next(path for path in sources if path.exists())
        yield frozenset(path.relative_to(root).as_posix() for path in (source, copy))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
