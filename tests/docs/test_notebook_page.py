"""docs/notebook.md: its cells run, in this process on a tiny network, and as they are in a real kernel, which is slow by design."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from conftest import write_photos

PAGE = (Path(__file__).parents[2] / "docs" / "notebook.md").read_text(encoding="utf-8")
CELLS = re.findall(r"```python\n(.+?)```", PAGE, flags=re.DOTALL)


def test_the_cells_run_and_what_they_end_with_shows_itself(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    """On a tiny network, without a kernel; the probe and a second run are left to the kernel."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    from IPython.core.interactiveshell import InteractiveShell

    write_photos(tmp_path / "animals")
    shell = InteractiveShell()
    shown = []
    for source in CELLS:
        if not any(left_out in source for left_out in ("!finetunekit", "ftk.probe", "ftk.compare")):
            tiny = source.replace('preset="fast", seed=1', f'preset="{tiny_yaml}"')
            done = shell.run_cell(tiny)
            done.raise_error()
            shown += [] if done.result is None else [done.result]
    shell.history_manager.end_session()
    assert [hasattr(value, "_repr_html_") for value in shown] == [
        True,
        True,
        True,
        True,
        False,
    ]  # the last is pandas' own
    names = shell.user_ns
    assert [p.probability for p in names["model"].predict("animals/test")] == [p.probability for p in names["found"]]


@pytest.mark.slow
def test_the_page_runs_in_a_kernel_with_progress_and_result_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {cell.source: cell.outputs for cell in book.cells}
    (progress,) = [o for source, found in outputs.items() if source.startswith("result = ") for o in found]
    assert progress.output_type == "display_data"  # one output that was replaced as it grew
    assert "logistic regression, solved" in progress.data["text/html"]
    assert "saved runs/animals-" in progress.data["text/plain"]
    html = {
        source: output.data.get("text/html", "")
        for source, found in outputs.items()
        for output in found
        if output.output_type == "execute_result"
    }
    assert "test photos right (" in html["result\n"]
    assert "What to do now:" in html["result\n"]
    assert next(text for source, text in html.items() if source.endswith("found\n")).count("<img ") > 5
    assert "efficientnet_lite0" in next(text for source, text in html.items() if "ftk.probe" in source)
    assert "run 2 against run 1" in next(text for source, text in html.items() if "ftk.compare" in source)
