"""What is published is what its tables say."""

from pathlib import Path

import pytest

from sparsedd.cli import main

ROOT = Path(__file__).parent.parent
FOLDERS = sorted(path.parent for path in (ROOT / "results").rglob("claims.md"))


def test_there_are_results():
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_a_figure_is_drawn_again_from_its_tables_and_says_the_same(tmp_path, capsys, folder):
    assert main(["figure", folder.name, "--from", str(folder), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "claims.md").read_text() == (folder / "claims.md").read_text()
    assert (tmp_path / "figure.png").read_bytes()[:8] == (folder / "figure.png").read_bytes()[:8]
    for table in folder.glob("*.csv"):
        assert (tmp_path / table.name).read_bytes() == table.read_bytes()
    assert capsys.readouterr().out.startswith((folder / "claims.md").read_text())


def test_results_are_small():
    files = [path for path in (ROOT / "results").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix == ".csv") < 2e6
    assert sum(path.stat().st_size for path in files if path.suffix in (".png", ".svg")) < 1e7
