"""The report as a whole: claims that fail come first, and nothing empty is printed."""

from result_files import write, write_table1

from benchmarks.report import claims, document
from benchmarks.report.claims.judging import Results


def test_failed_claims_come_before_the_list_of_all_claims(tmp_path):
    write_table1(tmp_path, "small", kde30=0.515, kde30_without_LWLN=0.7, uniform=0.1)
    text = "\n\n".join(document.sections(Results(tmp_path), tmp_path / "figures"))
    first = text.index("## Claims that fail or are unclear")
    assert first < text.index("S_KDE30 is better than without LWLN") < text.index("## All claims")
    lost = text[first : text.index("## All claims")]
    assert "uniform is near chance" not in lost
    assert "| S_KDE30 (kde30) | 0 | 51.5 ± 5.9 | 51.5 ± 0.3 | yes |" in text
    assert "| B_KDE30 (kde30 without LWLN) | 0 | 10.1 ± 3.2 | 70.0 ± 0.3 | **no** |" in text
    assert (tmp_path / "figures" / "table1-svhn.png").stat().st_size < 60_000


def test_report_of_nothing_claims_nothing(tmp_path):
    assert all(claim.holds == "" for claim in claims.claims(Results(tmp_path)))
    assert "0 claims hold, 0 fail, 0 are unclear" in "\n".join(document.sections(Results(tmp_path), tmp_path))


def test_a_report_prints_no_empty_table_and_no_empty_cell_of_ours(tmp_path):
    row = dict.fromkeys(("svhn", "svhn-zoo2", "svhn-zoo3"), 0.5)
    write(tmp_path, "table9", "svhn", {"rows": {"svhn": row, "svhn-zoo3": row}})
    text = "\n\n".join(document.sections(Results(tmp_path), tmp_path / "figures"))
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert blocks
    assert all(len(block) > 2 for block in blocks)
    assert "## Table 3" not in text
    assert "Table 3 (16 entries)" in text
    assert "| svhn | svhn-zoo2 | 45.7 | 50.0 | yes |" in text
