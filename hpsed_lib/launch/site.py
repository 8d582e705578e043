"""An experiment as static pages in ``reproduced/site/<experiment>/``, for ``make site``.

Sphinx with MyST-NB renders the executed notebooks: Python packages only; jupyter-book 2 and quarto fetch binaries.
Formulas become MathML, which browsers draw themselves: no page needs the network, and a folder of them is the site.
"""

from __future__ import annotations

import html
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import soundfile
from matplotlib.axes import Axes

from hpsed_lib import dataset, plots, tables
from hpsed_lib.data.audio import read_audio
from hpsed_lib.dataset import Dataset
from hpsed_lib.errors import ExecutionError
from hpsed_lib.launch.graph import executed_notebooks
from hpsed_lib.launch.published import citation, compare, verdict_line
from hpsed_lib.params import Experiment
from hpsed_lib.paths import ROOT, cache_folder, results_folder
from hpsed_lib.runs import load_events

N_CLIPS = 10
LARGEST = 25.0  # MB, of a whole site
LONGEST = 300  # rows; a longer table is a file only
STYLE = """
.main, .content { min-width: 0; }
.content { width: auto; flex: 1 1 46em; max-width: 62em; }
.wide, .cell_output { overflow-x: auto; }
.wide table, .cell_output table { border-collapse: collapse; font-size: 0.8em; }
.wide th, .wide td, .cell_output td, .cell_output th { padding: 0.25em 0.5em; border: 0; text-align: left; }
.sortable th { cursor: pointer; border-bottom: 1px solid; }
.highlight-text pre { white-space: pre-wrap; } audio { width: 100%; }
math[display="block"] { overflow: auto hidden; }
"""
SORTING = """
document.querySelectorAll("table.sortable th").forEach(head => head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], up = head.dataset.up = head.dataset.up === "1" ? "" : "1";
  const key = row => row.cells[head.cellIndex].textContent.trim();
  const number = text => parseFloat(text.replace(",", ""));
  const order = (a, b) => isNaN(number(a) - number(b)) ? a.localeCompare(b) : number(a) - number(b);
  [...body.rows].sort((a, b) => (up ? 1 : -1) * order(key(a), key(b))).forEach(row => body.append(row));
}));
"""


def build(experiment: Experiment) -> Path:
    """Write the site of an experiment that was reproduced, and whose data are, here; return its first page."""
    source, output = cache_folder(experiment.name) / "site", results_folder("site") / experiment.name
    metrics, data = tables.load_metrics(experiment), dataset.load(experiment)
    shutil.rmtree(source, ignore_errors=True)
    for part, place in {"tables": "extra", "metrics": "extra", "events": "extra", "figures": "."}.items():
        copied = results_folder(experiment.name) / part
        shutil.copytree(copied, source / place / part, ignore=shutil.ignore_patterns(".*"))
    (source / "notebooks").mkdir()
    for name, path in executed_notebooks(experiment).items():
        if not name.rpartition("-seed")[2].isdigit() or name.endswith("-seed0"):  # of runs those of the first seed
            shutil.copy(ROOT / path, source / "notebooks" / f"{name}.ipynb")
    plots.use_style()
    pages = {"clips": _clips_page(experiment, data, source), "tables": _tables_page(source)}
    pages |= {f"runs/{run['run']}": _run_page(experiment, data, run, source) for run in metrics}
    pages["index"] = _first_page(experiment, metrics)
    for name, text in pages.items():
        (source / f"{name}.md").parent.mkdir(exist_ok=True)
        (source / f"{name}.md").write_text(text, encoding="utf-8")
    _render(source, output, title=f"hpsed: {experiment.name}")
    if (size := sum(path.stat().st_size for path in output.rglob("*")) / 1e6) > LARGEST:
        raise ExecutionError(f"{output}: {size:.1f} MB, more than the {LARGEST:g} MB that a site may have")
    return output / "index.html"


def _first_page(experiment: Experiment, metrics: list[dict]) -> str:
    """What was found, whether it came back, and how to cite it."""
    beside = compare(experiment)
    scores = tables.scores(metrics).drop(columns=["pooling", "structure", "seed", "threshold"])
    scores = scores.rename(columns=tables.HEADINGS).assign(**beside[["published", "verdict", "reason"]]).round(1)
    scores.insert(0, "run", [_link(f"runs/{run}.html", run) for run in beside.run])
    folder = results_folder(experiment.name) / "tables"
    parts = [f"# hpsed: {experiment.name}"]
    for name, heading, as_text in (
        ("contrasts", "Each structure against `single`", tables.formatted_contrasts),
        ("table2", "In the layout of the paper's Table 2", tables.formatted),
    ):
        table = pd.read_csv(folder / f"{name}.csv")
        table.columns = table.columns.str.replace("_percent$|_points$", "", regex=True)
        how_to_read = (folder / f"{name}.md").read_text(encoding="utf-8").rpartition("\n\n")[2]
        parts += [f"## {heading}", _with_runs(experiment, as_text(table)), how_to_read]
    parts += ["## Every run, and whether it came back"]
    parts += [f"**{verdict_line(beside)}.** Scores in percent; a run's name leads to all that there is of it."]
    parts += [_html(scores), "## Figures"]
    parts += [f"![{path.stem}](figures/{path.name})" for path in sorted(folder.glob("../figures/*.png"))]
    parts += ["## How to cite", f"```text\n{citation(experiment)}\n```"]
    notebooks = sorted(set(executed_notebooks(experiment)) - set(experiment.runs()))
    parts += [
        "```{toctree}\n:hidden:\n" + "\n".join(["clips", "tables", *(f"notebooks/{n}" for n in notebooks), "```"])
    ]
    return "\n\n".join(parts)


def _with_runs(experiment: Experiment, text: pd.DataFrame) -> str:
    """A table of arms, the seeds of each as links to its runs."""
    arms = [f"{row.pooling}-{row.structure.partition(' = ')[0]}" for row in text.itertuples()]
    runs = [run.rpartition("-seed") for run in experiment.runs()]
    links = [[_link(f"runs/{of}-seed{seed}.html", seed) for of, _, seed in runs if of == arm] for arm in arms]
    return _html(text.assign(seeds=[" ".join(own) for own in links]))


def _tables_page(source: Path) -> str:
    """Every table, and its file."""
    parts = ["# Tables", "A click on a column's name sorts by it."]
    for path in sorted((source / "extra" / "tables").glob("*.csv")):
        table = pd.read_csv(path)
        parts += [f"## {path.stem}", f"{_link(f'tables/{path.name}', path.name)}, {len(table):,} rows"]
        parts += [_html(table.round(3))] if len(table) <= LONGEST else []
    return "\n\n".join(parts)


def _clips_page(experiment: Experiment, data: Dataset, source: Path) -> str:
    """Ten test clips to listen to, under their spectrograms with reference events and what one run detects."""
    run = experiment.runs()[0]
    parts = ["# Clips", f"The first {N_CLIPS} test clips with events; detections of [{run}](runs/{run}.md)."]
    (source / "extra" / "audio").mkdir()
    for index, filename in enumerate(data.test.strong_labels.filename.unique()[:N_CLIPS]):
        y = read_audio(dataset.recording_of(experiment, filename), sr=experiment.data.sample_rate).y
        soundfile.write(source / "extra" / "audio" / f"{index}.flac", y, experiment.data.sample_rate)
        figure, ax = plt.subplots(figsize=(8.4, 3))
        _draw_clip(experiment, data, filename, run, ax=ax)
        plots.save(figure, source / "figures" / f"clip{index}.png")
        plt.close(figure)
        parts += [f"## {html.escape(filename)}", f"![spectrogram, reference and detections](figures/clip{index}.png)"]
        parts.append(f'<audio controls preload="none" src="audio/{index}.flac"></audio>')
    return "\n\n".join(parts)


def _run_page(experiment: Experiment, data: Dataset, run: Mapping[str, Any], source: Path) -> str:
    """One run: its scores, its learning curve, its events on a clip, and what made it."""
    name, clip = run["run"], (run["example"] or {"filename": data.test.filenames[0]})["filename"]
    figure, axes = plt.subplots(2, 1, figsize=(8.4, 6))
    plots.plot_learning_curves({run["structure"]: pd.DataFrame(run["history"])}, ax=axes[0])
    _draw_clip(experiment, data, clip, name, ax=axes[1])
    figure.savefig(source / "figures" / f"{name}.png", dpi=72)  # there may be hundreds
    plt.close(figure)
    points = tables.operating_points([dict(run)]).loc[run["pooling"], run["structure"]].rename(index=tables.POINTS)
    files = [_link(f"../metrics/{name}.json", "metrics"), _link(f"../events/{name}.tsv", "events")]
    files += [f"[executed notebook](../notebooks/{name}.ipynb)"] if run["seed"] == 0 else []
    return "\n\n".join(
        [
            f"# {name}",
            f"Threshold {run['threshold']:.3f}; weights of epoch {run['best_epoch']}. Files: {', '.join(files)}.",
            _html(points.rename(columns=tables.HEADINGS).round(1).reset_index()),
            f"![learning curve, and events of one clip](../figures/{name}.png)",
            "## What made it",
            _html(tables.provenance([dict(run)])[["what", "value"]]),
        ]
    )


def _draw_clip(experiment: Experiment, data: Dataset, filename: str, run: str, *, ax: Axes) -> None:
    plots.plot_detections(
        data.test.features[data.test.filenames.index(filename)],
        data.test.strong_labels.query("filename == @filename"),
        load_events(experiment, run).query("filename == @filename"),
        hop_duration=experiment.features.hop_duration,
        ax=ax,
    ).set_title(f"test clip {filename}", loc="left")


def _link(address: str, text: str) -> str:
    return f'<a href="{address}">{html.escape(text)}</a>'


def _html(table: pd.DataFrame) -> str:
    """A table that can be sorted, and scrolled where it is wider than the page."""
    made = table.to_html(index=False, escape=False, border=0, classes="sortable", na_rep="")
    return f'```{{raw}} html\n<div class="wide">{made}</div>\n```'


def _render(source: Path, output: Path, *, title: str) -> None:
    """Have Sphinx make pages of what lies in `source`; a warning of Sphinx is an error."""
    from sphinx.application import Sphinx  # `make site` installs it

    (source / "static").mkdir()
    for name, text in {"hpsed.css": STYLE, "sorting.js": SORTING}.items():
        (source / "static" / name).write_text(text, encoding="utf-8")
    choices = {
        "html_title": title,
        "extensions": ["myst_nb", "sphinx.ext.githubpages", "hpsed_lib.launch.site"],
        "html_theme": "furo",
        "html_static_path": [str(source / "static")],
        "html_extra_path": [str(source / "extra")],
        "exclude_patterns": ["extra", "static"],
        "html_css_files": ["hpsed.css"],
        "html_js_files": [("sorting.js", {"defer": "defer"})],
        "html_math_renderer": "mathml",
        "html_copy_source": False,
        "html_show_copyright": False,
        "nb_execution_mode": "off",
        "nb_merge_streams": True,
        "nb_render_markdown_format": "myst",
        "myst_enable_extensions": ["dollarmath"],
        "suppress_warnings": ["toc.not_included", "myst.header"],
    }
    shutil.rmtree(output, ignore_errors=True)
    app = Sphinx(source, None, output, source / ".doctrees", "html", choices, status=None, warningiserror=True)
    app.build()
    if app.statuscode:
        raise ExecutionError(f"Sphinx could not make every page of {output}")


def setup(app: Any) -> None:
    """Sphinx calls this: formulas are written as MathML."""
    from docutils.nodes import SkipNode
    from latex2mathml.converter import convert

    def write(writer: Any, node: Any) -> None:
        writer.body.append(convert(node.astext(), display="block" if node.tagname == "math_block" else "inline"))
        raise SkipNode

    app.add_html_math_renderer("mathml", (write, None), (write, None))
