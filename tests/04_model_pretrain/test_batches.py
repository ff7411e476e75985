"""batches.py: what is cut, what is predicted, and that order survives resume and ranks."""

import json

import numpy as np
import pytest

from artifacts import BadInput
from batches import IGNORE, PackedBatches, Shard, copies, pack

EOT = 99


def make_shards(folder, lengths, domains=None, mixture=None, seed=0):
    """Shards of documents with these text lengths: document i holds i*1000 % 97 ... ids."""
    rng = np.random.default_rng(seed)
    domains = domains or [0] * len(lengths)
    index = {"format": 1, "dtype": "uint16", "eot": EOT, "vocab_size": 100,
             "tokenizer_sha256": "t", "corpus_sha256": "c", "domains": ["a", "b"],
             "mixture": mixture or {}, "splits": {}}
    for split in ("train", "val"):
        texts = [rng.integers(0, 97, n) for n in lengths]
        start = np.cumsum([0] + [n + 1 for n in lengths])[:-1]
        stream = np.concatenate([np.append(t, EOT) for t in texts]).astype("<u2")
        stream.tofile(folder / f"{split}.bin")
        index["splits"][split] = {"tokens": len(stream), "bytes": 3 * sum(lengths), "documents": {
            "start": start.tolist(), "length": [n + 1 for n in lengths],
            "bytes": [3 * n for n in lengths], "domain": domains, "id": [*range(len(lengths))]}}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


@pytest.fixture
def shard(tmp_path):
    return Shard(make_shards(tmp_path, [5, 40, 9, 16, 3, 70, 1, 8, 22]), "train")


@pytest.mark.exercise("4.10")
def test_pack_by_hand():
    got = pack(np.array([5, 3, 2]), 4)
    assert got == [[(0, 0, 4)], [(1, 0, 3), (0, 4, 5)], [(2, 0, 2)]], \
        f"5 gives a full row and a rest of 1, which best fits beside 3; got {got}"
    got = pack(np.array([7, 5, 4, 1]), 10)
    assert sorted(sorted(row) for row in got) == [[(0, 0, 7)], [(1, 0, 5), (2, 0, 4), (3, 0, 1)]], \
        f"1 goes where it leaves the least space, not to the first row with room; got {got}"


@pytest.mark.exercise("4.10")
def test_pack_loses_nothing_cuts_nothing_needlessly_and_wastes_little():
    lengths = np.random.default_rng(0).integers(1, 60, 400)
    rows = pack(lengths, 32)
    covered = sorted(piece for row in rows for piece in row)
    for document, length in enumerate(lengths):
        pieces = [(a, b) for d, a, b in covered if d == document]
        assert [b - a for a, b in pieces] == ([32] * (length // 32) + [length % 32] * (
            int(length % 32 > 0))), f"document of {length} tokens in rows of 32 came as {pieces}"
        assert pieces[0][0] == 0 and pieces[-1][1] == length, f"tokens of {document} are missing"
    sizes = [sum(b - a for _, a, b in row) for row in rows]
    assert max(sizes) <= 32, f"a row of {max(sizes)} tokens does not fit 32"
    waste = 1 - sum(sizes) / 32 / len(rows)
    assert waste < 0.03, f"{waste:.1%} of the places are padding: is it best fit, longest first?"


def test_each_target_is_the_next_token_and_every_token_is_a_target_once(shard):
    batches = PackedBatches(shard, 16, rows=4, shuffle=False)
    seen = []
    for step in range(len(batches)):
        ids, targets = (z.numpy() for z in batches(step))
        for x, y in zip(ids, targets):
            real = y != IGNORE
            seen += y[real].tolist()
            ends = np.flatnonzero(y == EOT)
            for t in np.flatnonzero(real)[1:]:
                # inside a piece the input is the target before it; a new document begins with EOT
                assert x[t] in (y[t - 1], EOT) or t - 1 in ends or x[t] not in y[:t], (x, y)
    assert sorted(seen) == sorted(shard.tokens.tolist()), \
        "every token of the shard, end tokens too, should be a target exactly once"


def test_the_first_token_of_a_document_is_predicted_from_the_end_token(shard):
    ids, targets = PackedBatches(shard, 16, rows=20, shuffle=False)(0)
    document = shard.tokens[shard.start[0]:shard.start[0] + 6]
    rows = [r for r in range(len(ids)) for t in range(11)
            if (targets[r, t:t + 6].numpy() == document).all() and ids[r, t] == EOT]
    assert rows, "document 0 should stand as EOT, text -> text, EOT"


def test_order_is_a_function_of_seed_and_step(shard):
    first = PackedBatches(shard, 16, 4, seed=1)
    walked = [first(step)[0] for step in range(40)]
    jumped = PackedBatches(shard, 16, 4, seed=1)(37)[0]
    assert (walked[37] == jumped).all(), "step 37 must not depend on having seen steps 0 to 36"
    assert any((PackedBatches(shard, 16, 4, seed=2)(s)[0] != walked[s]).any() for s in range(3)), \
        "another seed, another order"
    epochs = [sum((b != EOT).sum() for b in walked[i:i + 6]) for i in (0, 6)]
    assert (walked[0] != walked[6]).any() and epochs[0] > 0, "each epoch has its own order"


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_batch_of_one(shard, ranks):
    whole = PackedBatches(shard, 16, 4)(3)[0]
    parts = [PackedBatches(shard, 16, 4, rank=r, ranks=ranks)(3)[0] for r in range(ranks)]
    for r, part in enumerate(parts):
        assert (part == whole[r::ranks]).all(), f"rank {r} of {ranks} has other rows"
    with pytest.raises(BadInput, match="split over 3"):
        PackedBatches(shard, 16, 4, ranks=3)


@pytest.mark.exercise("4.11")
def test_mixture_gives_domains_their_weight_of_the_tokens():
    rng = np.random.default_rng(0)
    domain = rng.integers(0, 2, 4000)
    tokens = np.where(domain == 0, 100, 300)
    count = copies(domain, tokens, np.array([0.5, 0.5]), rng)
    share = (count * tokens)[domain == 0].sum() / (count * tokens).sum()
    assert abs(share - 0.5) < 0.02, \
        f"domain 0 has a quarter of the tokens and weight 0.5, but got {share:.3f} of the epoch"
    total = (count * tokens).sum() / tokens.sum()
    assert abs(total - 1) < 0.03, f"an epoch should stay one epoch long, is {total:.2f}"
    assert count[domain == 0].min() >= 1, "a domain weighted up loses no document"


@pytest.mark.exercise("4.11")
def test_mixture_with_an_absent_domain_and_with_natural_weights():
    domain, tokens = np.array([0, 0, 1]), np.array([10, 10, 20])
    rng = np.random.default_rng(0)
    assert copies(domain, tokens, None, rng).tolist() == [1, 1, 1]
    assert copies(domain, tokens, np.array([0.5, 0.5]), rng).tolist() == [1, 1, 1]
    assert copies(domain, tokens, np.array([0.25, 0.25, 0.5]), rng).tolist() == [1, 1, 1], \
        "the weight of a domain without documents goes to the others"


def test_a_damaged_index_or_shard_is_named(tmp_path):
    folder = make_shards(tmp_path, [5, 9])
    (folder / "val.bin").write_bytes((folder / "val.bin").read_bytes()[:-6])
    with pytest.raises(BadInput, match="build_corpus"):
        Shard(folder, "val")
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    del index["splits"]["train"]["documents"]["start"]
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(BadInput, match="index.json"):
        Shard(folder, "train")
    with pytest.raises(BadInput, match="missing"):
        Shard(tmp_path / "nowhere", "train")


@pytest.mark.parametrize("mixture", [[0.0, 1.0], [-1.0, 2.0], [float("nan"), 1.0], [0.0, 0.0]])
def test_a_mixture_that_reads_nothing_is_refused(mixture):
    domain = np.array([0, 0])
    with pytest.raises(ValueError, match="mixture's weights"):
        copies(domain, np.array([5, 5]), np.array(mixture), np.random.default_rng(0))


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_that_is_none_gets_no_rows(shard, rank):
    with pytest.raises(ValueError, match="not one of 2"):
        PackedBatches(shard, 8, 4, rank=rank, ranks=2)
    with pytest.raises(BadInput, match="0 rows"):
        PackedBatches(shard, 8, 0)


@pytest.mark.parametrize("change", [{"dtype": "int16"}, {"dtype": "float16"}, {"start": -1}])
def test_a_shard_of_another_type_or_with_a_start_below_zero_is_refused(tmp_path, change):
    folder = make_shards(tmp_path, [5, 40, 9])
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    if "start" in change:
        index["splits"]["train"]["documents"]["start"][0] = -1
    else:
        index |= change
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(BadInput):
        Shard(folder, "train")
