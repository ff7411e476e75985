"""The lesson's numbers, worked out again; its files, commands and exercises, found again."""

import math
import re
import tomllib
from pathlib import Path

import torch

from gpt import causal_attention

CHAPTER = Path(__file__).resolve().parents[2] / "04_model_pretrain"
LESSON = (CHAPTER / "README.md").read_text(encoding="utf-8")


def test_attention_by_hand():
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[None, None]
    results = causal_attention(q, q, torch.tensor([1.0, 2.0, 4.0])[None, None, :, None])
    for value in results.flatten().tolist():
        assert f"| {value:.3f} |" in LESSON, f"the lesson should show {value:.3f}"
    scores = torch.tensor([1.0, 1.0, 2.0]) / math.sqrt(2)
    for weight in scores.softmax(0).tolist():
        assert f"{weight:.3f}"[:4] in LESSON


def test_numeric_answers():
    assert f"ln 4,096 = {math.log(4096):.3f}" in LESSON
    assert f"= {3.45 / math.log(2) / 3.2:.3f}." in LESSON


def test_exercises_of_the_lesson_are_those_of_the_list():
    with open(CHAPTER / "exercises.toml", "rb") as file:
        listed = {e["function"] for e in tomllib.load(file)["exercise"] if "kind" not in e}
    section = LESSON.split("## Exercises")[1].split("## Questions")[0]
    named = set(re.findall(r"`([\w.]+)`", section)) & (listed | {"x"})
    assert named == listed, f"the lesson leaves out {listed - named}"


def test_files_and_flags_named_in_the_lesson_exist():
    for name in set(re.findall(r"`(\w+\.py)`", LESSON)):
        assert (CHAPTER / name).exists(), f"{name} is not in the chapter"
    flags = (CHAPTER / "pretrain.py").read_text(encoding="utf-8")
    for flag in ("tokens", "layers", "width", "heads", "out", "fresh", "precision", "threads"):
        assert f'"{flag}"' in flags or f"--{flag}" in flags, flag
