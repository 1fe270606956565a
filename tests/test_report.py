"""The report: one page that says what happened, and that a browser shows without asking for anything."""

import json
import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from helpers import changed, record
from matplotlib import pyplot

import sparsedd
from sparsedd import Mask, noise, phases, plotting
from sparsedd.cli import main
from sparsedd.experiments import Curves, Experiment, Record, Store
from sparsedd.report import combine, read_experiments, write_report

mpl.use("agg")
SHEETS = {name: Path(sparsedd.__file__).parent / "report" / f"{name}.mplstyle" for name in ("light", "dark")}
SHEETS = {name: mpl.rc_params_from_file(path, False, False) for name, path in SHEETS.items()}
PAPERS = {name: [s[key] for key in ("axes.facecolor", "text.color", "xtick.color")] for name, s in SHEETS.items()}
LEVELS = 9
WHOLE = replace(Experiment().scaled("smoke"), levels=LEVELS)
HOSTILE = "</code></style><script>document.title='got'</script><img src=x onerror=alert(1)>&amp;\"'"
# Dense, the dip at level 3, the peak at level 6, and the end: what a sweep looks like in the paper.
TRAIN = (1.0, 1.0, 0.97, 0.9, 0.8, 0.7, 0.66, 0.5, 0.3)
TEST = (0.74, 0.73, 0.68, 0.64, 0.72, 0.8, 0.85, 0.6, 0.3)


def levels_of(seed: int, n: int = LEVELS, diverges: bool = False) -> Iterator[Record]:
    """The levels of a sweep, a little different for each seed."""
    for k in range(n):
        train, test = (curve[k] - 0.01 * ((3 * seed + k) % 4) for curve in (TRAIN, TEST))
        loss = None if diverges and k == n - 1 else 1 - train
        yield record(
            level=k,
            sparsity=1 - 0.8**k,
            remaining=round(1000 * 0.8**k),
            train_accuracy=train,
            test_accuracy=test,
            best_test_accuracy=test + 0.01,
            best_epoch=1,
            clean_accuracy=min(1.0, train + 0.1),
            flipped_accuracy=train - 0.2,
            learning_distance=10 + k + seed / 10,
            train_loss=loss,
            test_loss=0.5,
            seconds=1.5,
            epochs=Curves((1, 2), (train - 0.1, train), (test - 0.1, test), (0.5, loss), (0.6, 0.5)),
        )


def store(out: Path, experiment: Experiment, n: int = LEVELS, diverges: bool = False) -> None:
    """A run that has finished some levels."""
    kept = Store(out / "runs", experiment)
    with kept.locked():
        for level in levels_of(experiment.seed, n, diverges):
            kept.add(level, {"w": torch.ones(2, 2)}, Mask({"w": torch.ones(2, 2, dtype=torch.bool)}))


def report(out: Path) -> str:
    """The page of a folder."""
    write_report(out)
    return (out / "report.html").read_text(encoding="utf-8")


@dataclass
class Page(HTMLParser):
    """What is in a page, and whether each element is closed where it must be."""

    text: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    words: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(self.text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes)
        self.elements.append((tag, dict(attributes)))
        if tag not in ("br", "img", "meta", "source"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.words.append((self.open[-1] if self.open else "", " ".join(data.split())))

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag == name]

    def said(self, *inside: str) -> str:
        return " ".join(text for tag, text in self.words if not inside or tag in inside)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three seeds of a whole sweep, and beside it one with a seed that goes on and one that has diverged."""
    out = tmp_path_factory.mktemp("runs of & <b>")
    for seed in range(3):
        store(out, replace(WHOLE, seed=seed))
    other = replace(WHOLE, exclude=("fc3", HOSTILE), noise=noise.Symmetric(0.4))
    for seed, n in ((0, LEVELS), (1, LEVELS), (2, 5), (5, 4)):
        store(out, replace(other, seed=seed), n, diverges=seed == 5)
    with Store(out / "runs", replace(other, seed=7)).locked():
        pass  # it has begun
    write_report(out)
    return out


@pytest.fixture(scope="module")
def page(folder) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


# ---------------------------------------------------------------- the page


def test_a_report_ends_with_the_path_of_its_page(folder, capsys):
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "report.html")


def test_the_page_is_well_formed_and_says_what_it_is(page):
    assert page.text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert page.said("title").startswith("sparsedd report: ")
    metas = {meta.get("name", meta.get("http-equiv", "charset")): meta for meta in page.all("meta")}
    assert metas["viewport"]["content"] == "width=device-width, initial-scale=1"
    assert metas["Content-Security-Policy"]["content"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    landmarks = ["header", "nav", "main", "footer"]
    assert [tag for tag, _ in page.elements if tag in landmarks] == landmarks
    assert len(page.all("h1")) == 1 and len(page.all("article")) == 2
    for heading in ("Advice", "Phases", "Learning", "Levels", "Configuration"):
        assert page.said("h3").split().count(heading) == 2, heading
    assert page.said("h2").endswith("Versions")


def test_every_id_is_there_once_and_every_reference_leads_to_one(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    asked = {a["href"] for _, a in page.elements if "href" in a}
    assert asked
    assert asked <= {f"#{name}" for name in ids}


def test_nothing_comes_from_elsewhere_or_runs(page):
    assert not re.search(r"https?://", page.text)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.elements}
    assert not {name for _, attributes in page.elements for name in attributes if name.startswith("on")}
    places = [a[name] for _, a in page.elements for name in ("src", "srcset") if name in a]
    assert all(place.startswith("data:image/svg+xml;base64,") for place in places)
    assert not {"@import", "@font-face", "url("} & set(re.findall(r"@[\w-]+|url\(", page.text))


def test_every_picture_says_what_it_shows_and_is_there_for_light_and_dark_paper(page):
    captions = [text for tag, text in page.words if tag == "figcaption"]
    assert [img["alt"] for img in page.all("img")] == captions
    assert len(captions) == len(page.all("figure")) == 2 * 5
    light = [b64decode(img["src"].partition(",")[2]).decode() for img in page.all("img")]
    dark = [b64decode(s["srcset"].partition(",")[2]).decode() for s in page.all("source") if "dark" in s["media"]]
    assert len(dark) == 2 * 6, "the first one is there for a phone, too"
    for style, svgs in (("light", light), ("dark", dark)):
        assert all(PAPERS[style][0] in svg for svg in svgs)
        for word in ("right", "wrong", "train", "test"):
            assert any(f">{word}</text>" in svg for svg in svgs)


def contrast(*colors: str) -> float:
    """That of two colours, by the rule of the Web Content Accessibility Guidelines."""

    def lightness(color: str) -> float:
        parts = (int(color[k : k + 2], 16) / 255 for k in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear)) + 0.05

    low, high = sorted(map(lightness, colors))
    return high / low


def test_pictures_can_be_read_and_have_the_colours_of_the_page(page):
    css = page.said("style")
    for style, (paper, *inks) in PAPERS.items():
        shades = list(plotting.COLORS.values()) if style == "light" else [plotting.DARK[c] for c in plotting.COLORS.values()]
        curves = [plotting.DARK[c] if style == "dark" else c for c in plotting.CURVES]
        assert min(contrast(ink, paper) for ink in inks) >= 4.5
        assert min(contrast(inks[0], shade) for shade in shades) >= 4.5
        assert min(contrast(curve, paper) for curve in curves) >= 3
        names = ("paper", "ink", "soft", "light", "critical", "sweet", "collapsed")
        assert all(f"--{name}: {color};" in css for name, color in zip(names, (paper, *inks, *shades), strict=True))


def test_what_is_hostile_stays_text(page):
    assert HOSTILE in page.said("code").replace("\\'", "'")
    assert "<b>" in page.said("title", "h1", "code")
    assert escape("<script>") in page.text and "<script" not in page.text


def test_the_page_says_what_the_sentences_say(folder, page, capsys):
    write_report(folder)
    for line in capsys.readouterr().out.splitlines():
        if not line.startswith(str(folder)):
            assert line in page.said("p", "strong", "h2")
    sweep = combine({e: levels for e, levels in read_experiments(folder).items() if e.noise == WHOLE.noise})
    advice = str(phases.advise(sweep.sparsity, sweep["train_accuracy"], sweep["test_accuracy"]))
    assert advice.replace("\n", " ") in page.said("p")


def test_headings_and_tables_say_what_experiments_differ_in(tmp_path):
    store(tmp_path, WHOLE)
    store(tmp_path, replace(WHOLE, width=0.5))
    store(tmp_path, replace(WHOLE, noise=None, scale="small"))
    store(tmp_path, replace(WHOLE, noise=None))
    page = Page(report(tmp_path))
    wanted = ["digits, ε = 20 %, width = 0.2", "digits, ε = 20 %, width = 0.5"]
    wanted += ["digits, ε = 0 %, scale = small", "digits, ε = 0 %, scale = smoke"]
    for heading in wanted:
        assert [text for tag, text in page.words if tag == "h2"].count(heading) == 1
        assert page.said("a").count(heading) == 1
    rows = (tmp_path / "levels.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {
        f"{WHOLE.name} width=0.2",
        f"{WHOLE.name} width=0.5",
        replace(WHOLE, noise=None).name,
    }


def test_seeds_that_are_missing_are_named(page):
    said = page.said("p", "strong")
    assert f"Not finished: seed 2 has 5 of {LEVELS} levels, seed 7 has 0 of {LEVELS} levels." in said
    assert "Diverged: seed 5 diverged at level 3. The means are of the other seeds." in said
    assert said.count("Not finished") == said.count("Diverged:") == 1


@pytest.mark.parametrize(
    ("n", "words"), [(1, "Nothing to show: a seed"), (3, "diverged at level 2. What came before is shown.")]
)
def test_where_every_seed_has_diverged_it_says_so(tmp_path, capsys, n, words):
    store(tmp_path, WHOLE, n, diverges=True)
    found = Page(report(tmp_path))
    assert words in found.said("p", "strong")
    assert "Not finished" not in found.said("strong")
    assert bool(found.all("img")) == (tmp_path / "figure.png").exists() == (n > 1)


def test_a_single_dense_level_is_a_report_too(tmp_path):
    store(tmp_path, WHOLE, 1)
    said = Page(report(tmp_path)).said()
    assert f"seed 0 has 1 of {LEVELS} levels" in said
    assert "One seed has no interval" in said
    assert "of its training labels right" in said
    assert "Pruning first" not in said, "nothing was pruned"


def test_masks_of_a_net_that_diverged_end_a_run_and_it_says_so(tmp_path):
    store(tmp_path, WHOLE, 4, diverges=True)
    store(tmp_path, WHOLE.reinitialized(), 4)
    said = Page(report(tmp_path)).said("p", "strong")
    assert f"Ended early: seed 0 has 4 of {LEVELS} levels: the net whose masks it takes diverged there." in said
    assert "Not finished" not in said


def test_a_single_evaluation_makes_no_curve(tmp_path):
    kept = Store(tmp_path / "runs", WHOLE)
    with kept.locked():
        for level in levels_of(0):
            once = replace(level, epochs=Curves((2,), (0.5,), (0.5,), (0.5,), (0.5,)))
            kept.add(once, {"w": torch.ones(1, 1)}, Mask({"w": torch.ones(1, 1).bool()}))
    captions = Page(report(tmp_path)).said("figcaption")
    assert "Memorisation" in captions
    assert "Dynamics" not in captions


def sweep(tmp_path: Path, train: Sequence[float], test: Sequence[float], mask: Callable[[int], Mask] | None = None) -> Page:
    """The page of a sweep of one seed with these accuracies, and masks."""
    kept = Store(tmp_path / "runs", WHOLE)
    for level, a, b in zip(levels_of(0, len(test)), train, test, strict=True):
        level = changed(level, train_accuracy=a, test_accuracy=b)
        kept.add(level, {}, mask(level.level) if mask else Mask({"w": torch.ones(1, 1).bool()}))
    return Page(report(tmp_path))


@pytest.mark.parametrize(
    ("test", "said", "phases"),
    [
        (
            (0.7, 0.8, 0.9, 0.5),
            "There is no dip: up to the peak no net is worse than the dense one. Pruning relieves",
            "Light 0",
        ),
        (
            (0.7, 0.6, 0.5, 0.5),
            "There is neither dip nor peak: test accuracy never rises, and is 50.0 % in the end.",
            "Light 0",
        ),
        ((0.7, 0.6, 0.9, 0.5), "Pruning first makes overfitting worse: at 20.00 % sparsity", "Light 0, Critical 1, Sweet 2,"),
    ],
)
def test_where_there_is_no_dip_it_says_so(tmp_path, test, said, phases):
    page = sweep(tmp_path, (1.0, 1.0, 0.9, 0.5), test)
    assert said in page.said("p")
    assert f"By phase, the levels are {phases}" in page.said("p")
    assert "at 0.00 % sparsity" not in page.said("p")
    assert ("no dip" in page.said("strong")) == (said[:5] == "There")
    assert ("no peak" in page.said("strong")) == ("neither" in said)


def test_a_phase_without_levels_is_not_listed(tmp_path):
    page = sweep(tmp_path, (1.0, 1.0, 0.9, 0.5), (0.7, 0.7, 0.9, 0.5))
    assert page.said("caption").startswith("Where the phases begin")
    assert "There is no Critical phase." in page.said("p")
    assert "By phase, the levels are Light 0 to 1, Sweet 2, Collapsed 3." in page.said("p")
    assert "Critical" not in page.said("span")


def test_layers_that_have_lost_all_weights_are_named(tmp_path):
    def mask(level: int) -> Mask:
        return Mask({"a": torch.arange(4)[None] < 4 - 2 * level, "b": torch.arange(4)[None] < 4 - level})

    page = sweep(tmp_path, (1.0, 1.0, 0.9, 0.5), (0.7, 0.6, 0.9, 0.5), mask)
    assert "Layers without weights: a from level 2 on (1 of 1 seeds). What a layer without weights" in page.said("p", "strong")
    Store(tmp_path / "runs", WHOLE).mask_path(3).unlink()
    assert "Layers without weights" not in Page(report(tmp_path)).said("strong")


def test_clean_labels_have_no_columns_of_wrong_ones(tmp_path):
    clean = replace(WHOLE, noise=None)
    kept = Store(tmp_path / "runs", clean)
    with kept.locked():
        for level in levels_of(0):
            kept.add(changed(level, flipped_accuracy=None), {"w": torch.ones(1, 1)}, Mask({"w": torch.ones(1, 1).bool()}))
    found = Page(report(tmp_path))
    assert "wrong labels" not in found.said("th")
    assert "Memorisation" not in found.said("figcaption")


def test_the_table_holds_mean_and_std_over_the_seeds(folder, page):
    results = [levels for e, levels in read_experiments(folder).items() if e.noise == WHOLE.noise]
    start = page.text.index("<caption>The levels</caption>")
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", page.text[start : page.text.index("</table>", start)])
    assert len(rows) == LEVELS
    for k, row in enumerate(rows):
        cells = unescape(re.sub("<[^>]*>", "", row.replace("</td>", "|").replace("</th>", "|"))).split("|")
        test = 100 * np.array([levels[k].test_accuracy for levels in results])
        assert [*cells[:2], cells[-2]] == [str(k), f"{100 * (1 - 0.8**k):.2f}", f"{round(1000 * 0.8**k):,}"]
        assert cells[4] == f"{test.mean():.1f}\N{NO-BREAK SPACE}± {test.std(ddof=1):.1f}"


def test_every_field_of_the_experiment_and_the_versions_are_there(page):
    terms = [text for tag, text in page.words if tag == "dt"]
    for name in [f.name for f in fields(Experiment) if f.name != "seed"] + ["seeds"]:
        assert terms.count(name) == 2, name
    said = page.said("code")
    for version in (sparsedd.__version__, torch.__version__, np.__version__, mpl.__version__):
        assert version in said


def test_the_page_is_the_same_each_time_whatever_the_style_and_changes_none(folder, page):
    with pyplot.style.context("dark_background"):
        before = dict(mpl.rcParams)
        assert report(folder) == page.text
        assert dict(mpl.rcParams) == before
    assert not pyplot.get_fignums()


def test_a_damaged_seed_is_named_first_and_the_others_make_the_page(tmp_path, capsys):
    for seed in range(3):
        store(tmp_path, replace(WHOLE, seed=seed))
    for seed, name in ((1, "levels.jsonl"), (2, "config.json")):
        path = Store(tmp_path / "runs", replace(WHOLE, seed=seed)).path / name
        path.write_bytes(path.read_bytes().replace(b"0.", b"1.", 1))
        assert main(["verify", str(tmp_path)]) == 1
        assert str(path) in capsys.readouterr().out
        assert main(["report", str(tmp_path)]) == 0
        assert f"Not readable: {path}" in "\n".join(capsys.readouterr().out.splitlines()[:seed])
        page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
        assert page.said("strong").count("Not readable:") == seed
        assert page.said("p").index(str(path)) < page.said("p").index("In ")
        assert f"{9} levels · {3 - seed} seed" in page.said("p")
    store(tmp_path / "alone", WHOLE)
    (Store(tmp_path / "alone" / "runs", WHOLE).path / "config.json").write_text('{"key": 1}')
    assert main(["report", str(tmp_path / "alone")]) == 1
    assert "config.json is not the configuration of an experiment" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["levels.csv", "report.html"])
def test_a_folder_in_the_place_of_a_file_is_one_clear_error(tmp_path, name, capsys):
    store(tmp_path, WHOLE, 1)
    (tmp_path / name).mkdir()
    assert main(["report", str(tmp_path)]) == 1
    assert f"{name} is a folder, where a file is to be: move it away." in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"runs", name}


def test_copies_of_an_experiment_are_one_seed_the_longest(tmp_path):
    store(tmp_path / "a", WHOLE, 3)
    store(tmp_path / "b", WHOLE, 5)
    found = Page(report(tmp_path))
    assert len(found.all("article")) == 1
    assert f"seed 0 has 5 of {LEVELS} levels" in found.said("p")


# ---------------------------------------------------------------- in a browser

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
).split()
WIDTHS = (360, 390, 1280)
MEASURE = """
<script>
const scheme = matchMedia("(prefers-color-scheme: dark)").matches;
const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = color => {
  const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map(channel);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
function measured(frame) {
  const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
  const box = element => element.getBoundingClientRect();
  const paper = light(view.getComputedStyle(root).backgroundColor) + 0.05;
  const contrast = (element, property) => {
    const ink = light(view.getComputedStyle(element)[property]) + 0.05;
    return Math.max(ink, paper) / Math.min(ink, paper);
  };
  const seen = selector => [...page.querySelectorAll(selector)].filter(element => box(element).width);
  return {
    title: page.title,
    width: root.clientWidth,
    scroll: root.scrollWidth,
    paper,
    figures: [...page.querySelectorAll("figure")].map(
      figure => [...figure.querySelectorAll("img")].map(e => [box(e).width, box(e).height, e.naturalWidth])),
    headings: seen("h1, h2, h3").length,
    rows: seen("tr").length,
    tables: seen(".scroll").map(e => [e.scrollWidth, e.clientWidth]),
    text: Math.min(...seen("p, td, th, dt, dd, h1, h2, h3, figcaption").map(e => contrast(e, "color"))),
  };
}
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(measured);
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = JSON.stringify({dark: scheme, found});
});
</script>
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Callable[..., str]:
    """Starts a browser on a page, and gives what it prints."""
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    if binary is None:
        pytest.skip(f"needs a browser: {', '.join(names)}")

    def start(path: Path, *options: str) -> str:
        profile = tmp_path_factory.mktemp("profile")
        command = [binary, *FLAGS, f"--user-data-dir={profile}", *options, path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return start


@pytest.fixture(scope="module")
def frames(folder) -> Path:
    """A page that shows the report in the widths of a phone and of a desk, and measures both."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    shown = [f'<iframe srcdoc="{escape(text)}" style="width:{w}px;height:900px;border:0"></iframe>' for w in WIDTHS]
    path = folder / "measure.html"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{MEASURE}{''.join(shown)}</body>", encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_a_desk_in_the_light_and_in_the_dark(browser, frames, page, scheme):
    dark = ["--blink-settings=preferredColorScheme=0", "--force-dark-mode"] if scheme == "dark" else []
    dom = Page(browser(frames, "--dump-dom", "--window-size=1400,1000", *dark))
    found = json.loads(dom.said("pre"))
    assert found["dark"] == (scheme == "dark")
    for width, shown in zip(WIDTHS, found["found"], strict=True):
        assert shown["title"] == page.said("title")
        assert shown["scroll"] == shown["width"] == width, "it scrolls sideways"
        assert (shown["paper"] < 0.1) == (scheme == "dark")
        assert shown["headings"] == len(page.all("h1") + page.all("h2") + page.all("h3"))
        assert shown["rows"] == len(page.all("tr"))
        assert len(shown["figures"]) == len(page.all("figure"))
        for figure in shown["figures"]:
            ((w, h, natural),) = figure
            assert w > 300 and h > 200
            assert w > 0.65 * natural, "its text, of 10 points, is too small to be read"
        assert shown["text"] > 4.5, "too pale to be read"
    assert any(inside > box for inside, box in found["found"][0]["tables"]), "a wide table scrolls in its own box"


def test_the_browser_finds_the_elements_that_were_written(browser, folder, page):
    dom = Page(browser(folder / "report.html", "--dump-dom"))
    for name in ("img", "source", "figure", "table", "tr", "td", "article", "h2", "h3", "dt"):
        assert len(dom.all(name)) == len(page.all(name)), name
    assert not dom.all("script")
    assert dom.said("title") == page.said("title")


def test_it_can_be_seen(browser, folder):
    picture = folder / "seen.png"
    browser(folder / "report.html", f"--screenshot={picture}", "--window-size=1200,1500")
    image = mpl.image.imread(picture)
    assert image.shape[:2] == (1500, 1200)
    seen = {tuple(color) for color in np.round(255 * image[::3, ::3, :3]).astype(int).reshape(-1, 3)}
    for name in ("#dbe7f3", "#f6d9d5", "#dcedd8", "#e4e2e6"):
        assert tuple(int(name[k : k + 2], 16) for k in (1, 3, 5)) in seen, "a phase has no colour"


def test_it_is_printed_on_a4_and_light(browser, folder):
    paper = folder / "report.pdf"
    browser(folder / "report.html", f"--print-to-pdf={paper}", "--force-dark-mode", "--blink-settings=preferredColorScheme=0")
    data = paper.read_bytes()
    assert data.startswith(b"%PDF-")
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", data)
    assert 2 <= len(boxes) <= 12
    assert all(abs(float(w) - 595) < 2 and abs(float(h) - 842) < 2 for w, h in boxes)
