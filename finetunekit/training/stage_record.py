"""What `run.json` says of each stage: written while it goes on, read when the run is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetunekit.runs.run_record import RunRecord
from finetunekit.system.progress import Progress
from finetunekit.training.verdict import Verdict, show_difference

UNTRAINED = "the untrained head"


@dataclass(frozen=True, slots=True)
class StageRecord:
    """The entry of one stage under `stages`.

    Attributes:
        run: The run's record.
        number: Of the stage, from 0.
        name: Of the stage.
        before: What the network was before it: the name of the stage before, or the untrained head.
        progress: Says what is written.
    """

    run: RunRecord
    number: int
    name: str
    before: str
    progress: Progress

    def open(self, **entry: Any) -> None:
        """Begin the entry; those of this stage and later ones that an earlier process wrote are dropped."""
        earlier = self.run.state.get("stages", [])[: self.number]
        self.run.state["stages"] = [*earlier, {"name": self.name, **entry}]
        self.run.write_state()

    def note(self, key: str, found: Mapping[str, Any], line: str | None = None) -> None:
        """Add to the entry what was found, and say it."""
        self.run.state["stages"][self.number][key] = dict(found)
        self.run.write_state()
        if line:
            self.progress.say(line)

    def judged(self, verdict: Verdict, photos: str) -> None:
        """Note whether the stage lowered the log loss of these photos, such as `validation photos`, and say it."""
        found = {**verdict.record(), "on": photos}
        self.note("revert", found, revert_sentence(self.name, self.before, found))


def revert_sentence(stage: str, before_stage: str, record: Mapping[str, Any]) -> str:
    """One sentence on how a stage that had to get better ended.

    Args:
        stage: The stage's name.
        before_stage: What the network was before it, such as the name of the stage before.
        record: What `StageRecord.judged` noted.
    """
    losses = f"({record['after']:.4f} against {record['before']:.4f}, {show_difference(record['low'], record['high'])})"
    on = f"the log loss of {record['photos']} {record['on']} {losses}"
    if record["reverted"]:
        return f"{stage} did not show that it beats {before_stage} on {on}: {before_stage} is kept."
    return f"{stage} beat {before_stage} on {on}."


def revert_notes(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each stage that was reverted, from `stages` of `run.json`."""
    names = [UNTRAINED, *(stage["name"] for stage in stages)]
    return [
        revert_sentence(stage["name"], before, stage["revert"])
        for before, stage in zip(names, stages, strict=False)
        if stage.get("revert", {}).get("reverted")
    ]


def kept_rows(rows: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The epoch log without the stages at its end that were reverted, and without epochs after the one that was brought back.

    Args:
        rows: Of `epochs.csv`.
        stages: `stages` of `run.json`, in order.

    Returns:
        Its last row is that of the weights that are saved; empty where the first stage was reverted as well.
    """
    kept = list(rows)
    for stage in reversed(stages):
        if not stage.get("revert", {}).get("reverted"):
            break
        # a solved stage has one row, which bears the number of the epoch before it
        kept = kept[:-1] if "solve" in stage else [row for row in kept if int(row["epoch"]) <= stage["first_epoch"]]
    else:
        return kept
    stopping = stage.get("early_stopping", {})
    return [row for row in kept if not stopping.get("is_restored") or int(row["epoch"]) <= stopping["best_epoch"]]
