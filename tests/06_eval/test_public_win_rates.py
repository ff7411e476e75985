"""The published board as recorded: complete, sorted, and what the lesson says about it."""

from public_win_rates import load_board, summary, twins


def test_the_board_is_whole_and_plausible():
    board = load_board()
    assert len(board) == len({row["model"] for row in board}) == 223
    assert all(0 <= row[key] <= 100 for row in board for key in ("win_rate", "length_controlled"))
    assert all(row["characters"] > 0 for row in board)
    by_name = {row["model"]: row for row in board}
    baseline = by_name["gpt4_1106_preview"]
    assert baseline["win_rate"] == baseline["length_controlled"] == 50, "the baseline against itself"
    # Dubois et al. 2024, table 2: the baseline asked for short and for long answers.
    assert (by_name["gpt4_1106_preview_concise"]["win_rate"],
            by_name["gpt4_1106_preview_verbose"]["win_rate"]) == (22.92, 64.30)


def test_control_takes_length_out_and_a_constant_answer_leads():
    board = load_board()
    told = summary(board)
    assert told["raw_and_length"] > told["controlled_and_length"] + 0.1, told
    assert board[0]["model"] == "NullModel" and board[0]["length_controlled"] > 86
    narrowed = 0
    for row in twins(board):
        spans = [max(rates) / min(rates) for rates in (
            [row[k][key] for k in ("concise", "plain", "verbose")]
            for key in ("win_rate", "length_controlled"))]
        narrowed += spans[1] < spans[0]
    assert (narrowed, len(twins(board))) == (5, 6), "all but the weakest model"
