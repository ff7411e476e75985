"""The gold reward is separate from the proxy by construction: no module that trains imports it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = {p.stem: p for folder in ROOT.glob("0[1-7]_*") for p in folder.glob("*.py")}
TRAINING = ["sft", "reward_model", "ppo", "ppo_loop", "policy_stage", "dpo", "grpo", "best_of_n",
            "self_instruct", "sft_experiments", "measure_policy", "rollouts", "responses", "packing",
            "training_stage", "reinforce", "rejection_sampling", "sound_step", "side_by_side",
            "preference_files", "open_book", "made_up", "instructions", "installed_docs"]
KNOWS_GOLD = {"gold_rule", "gold_judge", "annotator", "preferences", "compare",
              "rlhf_experiments", "experiment", "right_answers", "lora_experiment"}


def reached(stem: str) -> set[str]:
    """Every module of this repository that `stem` imports, directly or through others."""
    seen, todo = set(), [stem]
    while todo:
        for node in ast.walk(ast.parse(FILES[todo.pop()].read_text(encoding="utf-8"))):
            names = ([a.name for a in node.names] if isinstance(node, ast.Import) else
                     [node.module] if isinstance(node, ast.ImportFrom) and node.module else [])
            new = {n for n in names if n in FILES} - seen
            seen |= new
            todo += new
    return seen


@pytest.mark.parametrize("stem", TRAINING)
def test_training_never_reaches_the_gold_rule(stem):
    leaks = reached(stem) & KNOWS_GOLD
    assert not leaks, f"{stem} imports {leaks}: what trains must not know the gold rule"


def test_the_walk_of_imports_does_find_gold_where_it_is():
    assert "gold_rule" in reached("preferences") and "gold_rule" in reached("compare")
    known = set(TRAINING) | KNOWS_GOLD
    for stem, path in FILES.items():
        if path.parent.name.startswith("05") and stem not in known:
            assert not reached(stem) & KNOWS_GOLD or stem == "chat", \
                f"{stem} reaches the gold rule: list it as training or as measuring"


def test_labels_without_a_point_of_the_rule():
    from gold_judge import label_accuracy
    asked = "What does numpy.sort do?"
    pairs = [{"prompt": asked, "chosen": "Sort the values here.", "rejected": "sort the values here"},
             {"prompt": asked, "chosen": "Sort the values here.", "rejected": "Copy the values here."}]
    got = label_accuracy(pairs)
    assert got == 1, f"both follow the rule, got {got:.3f}"
    got = label_accuracy(pairs, ("relevance",))
    assert got == 0.75, f"one right, one draw at half: 0.75, got {got:.3f}"
    assert label_accuracy(pairs[:1], ("sentence", "imperative", "relevance")) == 0.5, "a draw"
