"""Questions asked from Python: what `data audit`, `probe` and `compare` answer, as values that show themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.config.own_photos import choose_preset
from finetunekit.config.planning import prepare
from finetunekit.config.preset import setting_texts
from finetunekit.errors import ConfigError
from finetunekit.plugins.host import load_plugins
from finetunekit.reports.notebook import Told, default_progress
from finetunekit.system.progress import Progress

if TYPE_CHECKING:
    from finetunekit.data.audit.findings import AuditReport
    from finetunekit.experiments.probe_ranking import Ranking
    from finetunekit.runs.comparison import Comparison

Settings = Mapping[str, Any] | Sequence[str]


def audit(
    data: str | Path,
    *,
    settings: Settings = (),
    network: bool | None = None,
    progress: Progress | None = None,
) -> Told[AuditReport]:
    """Check photos before anything is trained on them: broken files, copies, leaks between splits, likely wrong
    labels.

    Args:
        data: A folder with one folder per class, a table or an archive; or a preset.
        settings: Changes to the preset, as in `run`.
        network: Look for wrong labels and odd photos with a pretrained network; None: only if its weights are on this
            machine.
        progress: Where progress is printed; default: stderr, or a live line in a notebook.

    Raises:
        DataError: If the photos cannot be listed.
        ConfigError: If the preset is wrong.
    """
    from finetunekit.evaluation.photo_audit import audit_photos
    from finetunekit.reports.audit_text import audit_lines

    progress = progress or default_progress()
    preset, texts = _asked(data, None, settings)
    plan, host = prepare(preset, settings=texts, progress=progress)
    report, _ = audit_photos(plan, host, fed_px=plan.config.pixels.size_px, has_network=network, progress=progress)
    return Told(report, tuple(audit_lines(report)))


def probe(
    data: str | Path | None = None,
    *,
    preset: str | Path | None = None,
    backbones: Sequence[str] = (),
    settings: Settings = (),
    folds: int = 5,
    progress: Progress | None = None,
) -> Told[Ranking]:
    """Rank backbones for photos by a linear probe on frozen features; no network is trained, and no test photo is looked at.

    Args:
        data: A folder with one folder per class, a table or an archive; None: the preset's own photos.
        preset: Preset whose pixels and seed are used; None: `small-data`.
        backbones: Registered names; none: those whose weights are on this machine, and the preset's.
        settings: Changes to the preset, as in `run`.
        folds: Outer and inner folds of the nested cross-validation.
        progress: Where progress is printed; default: stderr, or a live line in a notebook.

    Raises:
        ConfigError: If there is nothing to probe, or a name is unknown.
        DataError: If the photos cannot be read.
    """
    from finetunekit.data.listing import index_listing, list_photos
    from finetunekit.experiments.backbone_search import list_candidates
    from finetunekit.experiments.probe_ranking import rank_probes
    from finetunekit.experiments.probe_text import ranking_lines

    progress = progress or default_progress()
    name, texts = _asked(preset, data, settings)
    plans, left_out = list_candidates(name, settings=texts, backbones=backbones, progress=progress)
    if not plans:
        raise ConfigError("nothing to probe: " + "; ".join(f"{name}: {why}" for name, why in left_out.items()))
    index = index_listing(plans[0], list_photos(plans[0], progress), progress)
    ranking = rank_probes(plans, index, progress, folds=folds, left_out=left_out)
    return Told(ranking, tuple(ranking_lines(ranking)))


def compare(
    *runs: str | Path,
    out: str | Path = "runs",
    margin_points: float | None = None,
    log_loss_margin: float | None = None,
) -> Told[Comparison]:
    """Compare finished runs with the first of them, on the test photos they share.

    Args:
        runs: Run folders, their names under `out`, or `last`; two or more.
        out: Folder of runs.
        margin_points: Largest difference in accuracy that counts as none, in percentage points; state it before you
            look.
        log_loss_margin: The same for the log loss, in nats.

    Raises:
        ConfigError: If the runs cannot be compared.
        RunFolderError: If there is no such run, or if it is not finished.
    """
    from finetunekit.experiments.compare import compare_runs
    from finetunekit.reports.comparison_text import comparison_lines
    from finetunekit.runs.folder import find_run

    paths = [find_run(run, Path(out)) for run in runs]
    comparison = compare_runs(paths, margin_points=margin_points, log_loss_margin=log_loss_margin)
    return Told(comparison, tuple(comparison_lines(comparison)))


def _asked(argument: str | Path | None, data: str | Path | None, settings: Settings) -> tuple[str, tuple[str, ...]]:
    presets = load_plugins(lambda _: None).presets
    asked = choose_preset(None if argument is None else str(argument), presets, data=data)
    return asked.preset, (*asked.settings, *setting_texts(settings))
