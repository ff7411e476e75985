"""The gold rule: what a good answer to "What does X do?" is, in points that anyone can recount.

This stands for what people really want. The stages that train never see it: they see preferences
(`annotator.py`), which are noisy glimpses of it, and a reward model fitted to those. Only the
annotator and the commands that measure may import this module; a test walks the imports of every
module that trains. What a policy earns here is the truth; what the reward model says is a proxy.

    python 05_posttrain/gold_rule.py "What does numpy.argsort do?" "Return the sorted indices."

But: it is a rule about form, relevance and distinctness. It cannot know whether an answer is true.
"""

import re
import sys
from collections import Counter

from open_book import on_page, sentence_of, token_f1

# Verbs that open a summary line in the imperative, as PEP 257 asks ("Return", not "Returns").
VERBS = frozenset("""
    abort accept access acquire activate add adjust advance align allocate allow analyze annotate
    append apply approximate arrange assemble assert assign attach attempt authenticate average
    begin bind block broadcast build cache calculate call cancel cast catch center change check
    choose clean clear clip clone close collapse collect combine compare compile complete compose
    compress compute concatenate configure connect construct consume contract convert convolve copy
    count create cut deactivate decode decompose decorate decrement deduce define delete derive
    describe destroy detach detect determine differentiate disable discard disconnect dispatch
    display distribute divide do draw drop dump duplicate emit enable encode encrypt end ensure
    enter enumerate escape establish estimate evaluate examine exclude execute exit expand export
    expose express extend extract factor fetch fill filter find finalize finish fit fix flatten flip
    flush fold force format forward free gather generate get give group guess handle hash help hide
    identify ignore implement import include increment indicate infer inform initialize insert
    inspect install integrate interpolate interpret intersect invert invoke issue iterate join keep
    kill label launch let lift limit link list load locate lock log look lower make map mark mask
    match measure merge minimize mix modify monitor move multiply negate normalize notify obtain
    open optimize order output override overwrite pack pad parse partition pass patch pause peek
    perform permute pick place plot pop populate post predict prepare prepend preprocess press
    prevent print process produce project prompt propagate provide prune pull push put query queue
    raise randomize rank read rebuild receive recompute record redirect reduce refine refresh
    register reject release reload remove rename render reorder repeat replace report represent
    request require reserve reset reshape resize resolve restore restrict resume retrieve return
    reverse rewrite roll rotate round run sample save scale scan schedule score search seek select
    send serialize serve set shift show shuffle shut sign simplify simulate skip slice solve sort
    specify split square squeeze stack start stop store stream strip submit substitute subtract sum
    suppress suspend swap switch synchronize take tell terminate test throw toggle trace track train
    transfer transform translate transpose traverse trim truncate try turn undo unfold unify
    uninstall unload unlock unpack unregister unset update upload use validate verify view visit
    wait walk warn weight wrap write yield zero zip""".split())


def name_words(question: str) -> set[str]:
    """The words inside the last name asked about, in lower case, three letters or more.

    "What does numpy.array_split do?" -> {"array", "split"}; "do torch.LayerNorm?" -> {"layer",
    "norm"}. The name is the longest dotted or underscored word of the question; its last part
    counts.
    """
    names = re.findall(r"[A-Za-z_][\w.]*\w", question)
    named = [n for n in names if "." in n or "_" in n] or names
    last = max(named, key=len, default="").rsplit(".", 1)[-1]
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", last)
    return {part.lower() for part in parts if len(part) >= 3}


def relevance(question: str, answer: str) -> float:
    """Share of the name's words that the answer mentions, 0 to 1.

    A mention is a word whose first 4 letters stand somewhere in the name's word, so "sorted"
    mentions "sort" and "argsort"; words of 3 letters must be equal. A question without a name has
    relevance 0. If the question brings a page that answers it, relevance is the F1 of the answer's
    words with that answer (open_book.py): what is asked for stands there, and can be checked.
    """
    if told := on_page(question):
        return token_f1(sentence_of(answer), told)
    said = {word[:4] for word in re.findall(r"[a-z]{3,}", answer.lower())}
    named = name_words(question)
    hit = sum(any(s == word or len(s) == 4 and s in word for s in said) for word in named)
    return hit / len(named) if named else 0.0


def repetition(answer: str) -> float:
    """Share of the words of four letters or more that were said before in the same answer."""
    words = re.findall(r"[a-z]{4,}", answer.lower())
    return 1 - len(set(words)) / len(words) if words else 0.0


def points(question: str, answer: str, ended: bool, seen: int = 0) -> dict[str, float]:
    """The gold rule, point by point. `seen`: to how many OTHER questions the same answer was given.

        sentence    +1  exactly one sentence, closed by a period (or as the page has it)
        imperative  +1  it opens with a verb in the imperative        (if there is no page)
        on page     +1  it says word for word what the page says      (if there is a page)
        relevance   +2  times the share of the name's words that it mentions; with a page in front
                        of the question: times the F1 of its words with what the page says of it
        repetition  -3  times the share of its longer words that repeat
        length      -1  under 4 or over 30 words
        stock       -1  the same words answer another question too
        unfinished  -2  the answer was cut off: no end token

    With a page, "From the page, NAME: " before the sentence does not count.
    """
    told = on_page(question)
    answer = sentence_of(answer.strip()) if told else answer.strip()
    words = answer.split()
    ends = len(re.findall(r"[.!?](?=\s|$)", answer))
    first = re.sub(r"\W+$", "", words[0]) if words else ""
    return {
        "sentence": float(ends == 1 and answer.endswith(".") or bool(told) and answer == told),
        "imperative": float(not told and first[:1].isupper() and first.lower() in VERBS),
        "on page": float(bool(told) and answer == told),
        "relevance": 2.0 * relevance(question, answer),
        "repetition": -3.0 * repetition(answer),
        "length": -float(not 4 <= len(words) <= 30),
        "stock": -float(seen > 0),
        "unfinished": -2.0 * (not ended),
    }


def gold_scores(questions: list[str], answers: list[str], ended: list[bool]) -> list[float]:
    """The gold reward of every answer, judged together: stock answers are seen as such.

    Answers to the same question may agree at no cost; the same answer to another question costs.
    """
    asked = Counter((answer.strip(), question) for question, answer in zip(questions, answers))
    seen = Counter(answer for answer, _ in asked)
    return [sum(points(q, a, e, seen[a.strip()] - 1).values())
            for q, a, e in zip(questions, answers, ended, strict=True)]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit('usage: python 05_posttrain/gold_rule.py "question" "answer"')
    table = points(sys.argv[1], sys.argv[2], ended=True)
    for name, value in table.items():
        print(f"{name:12}{value + 0.0:+6.2f}")
    print(f"{'gold':12}{sum(table.values()):+6.2f}")
