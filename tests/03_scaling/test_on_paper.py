"""The article's question on paper: arithmetic by hand, published runs, and bad dials."""

import pytest

import on_paper
from artifacts import BadInput


def test_ten_thousand_gpus_for_a_month_by_hand():
    # 10,000 x 30 x 86,400 s x 989e12 x 0.4
    assert on_paper.gpu_flops(10_000, 30, "h100", 0.4) == pytest.approx(1.0254e25, rel=1e-4)


@pytest.mark.parametrize("dial, why", [((1, 1, "abacus", 0.4), "choose from"),
                                       ((1, 1, "h100", 1.4), "mfu"),
                                       ((0, 1, "h100", 0.4), "positive")])
def test_bad_dials(dial, why):
    with pytest.raises(BadInput, match=why):
        on_paper.gpu_flops(*dial)


def test_the_refit_gives_back_chinchilla_itself():
    row = on_paper.checks()[0]
    assert 0.8 < row["ratio_N"] < 1.25, f"70 B at 5.76e23 FLOPs; the law says {row['N']:.3g}"


def test_llama_3s_law_goes_through_its_published_point():
    N, D = on_paper.llama3_allocation(3.8e25)
    assert D == pytest.approx(16.55e12) and N == pytest.approx(383e9, rel=0.01)


def test_the_recorded_refit_lies_within_one_standard_error_of_the_published_one():
    import json
    kept = json.loads(on_paper.REFIT.read_text(encoding="utf-8"))
    published = zip(("E", "A", "B", "alpha", "beta"), kept["constants"],
                    (1.817, 482.0, 2085.4, 0.348, 0.366), (0.03, 124.6, 1293.2, 0.02, 0.02))
    for name, ours, theirs, error in published:
        assert abs(ours - theirs) < error, f"{name}: {ours:.4g}, published {theirs} +- {error}"


def test_the_answer_spends_the_budget_and_serving_shrinks_the_model():
    found = on_paper.answer(1.03e25)
    for name in ("chinchilla", "llama3"):
        assert found[name]["flops"] == pytest.approx(1.03e25)
    low, high = found["chinchilla"]["N_interval"]
    assert low < found["chinchilla"]["N"] < high
    assert found["served"]["N"] < found["chinchilla"]["N"]
    assert found["served"]["loss"] == pytest.approx(found["chinchilla"]["loss"])
    assert "tokens per parameter" in on_paper.text(1.03e25, found)
