"""extraction_benchmark: the published score by hand, and peers that are broken."""

from extraction_benchmark import peer, precision_recall


def test_precision_and_recall_by_hand():
    assert precision_recall("a b c d e", "A b, c d e!") == (1, 1)
    assert precision_recall("a b c d e f", "a b c d") == (1, 1 / 3), "three rows of four, one found"
    assert precision_recall("a b c d", "x a b c d y") == (1 / 3, 1)
    assert precision_recall("", "") == (1, 1) and precision_recall("", "a b") == (0, 0)
    assert precision_recall("a b", "") == (0, 0) and precision_recall("a b", "a b") == (1, 1)


def test_a_peer_that_cannot_be_imported_costs_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "broken_peer.py").write_text("raise ImportError('half\\ninstalled')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert peer("broken_peer") is None
    assert capsys.readouterr().out == "without broken_peer: ImportError: half installed\n"
    assert peer("json") is not None
