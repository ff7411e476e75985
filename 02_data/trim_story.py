"""Inside the story: the lines that hang on it but do not belong to it.

Even the right block holds a by-line, dates, share buttons, "Read more: ..." between paragraphs and
a list of further stories at the end. These lines are short or mostly links, and they say what they
are in their first words, in the dozen languages that most news is written in.

A standfirst (the sentence in bold above the text) counts as a part of the headline: on 181 news
pages that people marked, adding it finds more of the text on 3 pages and too much on 29.
"""

import re

from html_tree import HEADINGS, Node, Run

# Lines that lead elsewhere, wherever they stand. Only dropped if they are mostly a link, or short.
ELSEWHERE = re.compile(r"""\W*(?:read\ (?:more|also|next|the\ full)|see\ (?:also|more)|
    also\ (?:read|see|on)|also:|more:|more\ on|related|recommended|don['’]?t\ miss|watch:?|listen|
    click\ here|continue\ reading|sign\ up|subscribe|follow\ us|follow\ @|download\ (?:the|our)|
    get\ the|advert(?:isement)?s?|sponsored|story\ continues|must\ read|you\ may\ (?:also|like)|
    like\ this\ story|share\ (?:this|on|it)|tags?\s*:|filed\ under|topics?\s*:|posted\ in|
    image\ (?:credit|source)|photo(?:s|graph)?(?:\ by|:|\ credit)|\(image:|\(photo:|source:|
    leia\ (?:mais|também)|ver\ también|lire\ aussi|à\ lire|voir\ aussi|mehr\ zum|lea\ también|
    leer\ más|lesen\ sie|lees\ (?:ook|meer)|leggi\ anche|czytaj\ (?:też|także)|читайте\ также|
    auch\ interessant|lesetipps?|anzeige|werbung|bildquelle|foto:|bild:|quelle:|kategorien?:|
    schlagw(?:ort|örter)|veröffentlicht|publicité|crédit|publicidad|etiquetas|compart\w*|pubblicità|
    condividi|foto\ di|deel\ (?:dit|via)|zobacz\ (?:też|także)|смотрите\ также|läs\ (?:mer|också)|
    les\ også|læs\ også|lue\ myös|责任编辑|责编|来源|原标题)(?:\b|(?<=:))(?!\()""", re.I | re.X)
# What a sentence of its own must speak of to lead elsewhere: this site, or whose picture it is.
ABOUT_SITE = re.compile(r"""\b(?:our|us|newsletters?|here|story|stories|article|artikel|artículo|
    page|app|updates|e-?mail|read\ (?:more|also|next)|also\ read|hier|aquí|ici)\b|@|
    ^\W*(?:photo|image|source|foto|bild|quelle|crédit|tags?\s*:|filed|posted)""", re.I | re.X)
# A caption ends by telling whose picture it was.
CREDIT = re.compile(r"\((?:image|photo(?:graph)?|picture|pic|foto|bild|credit)s?\s?:[^()]{0,80}\)$",
                    re.I)
# Headings after which nothing of the story follows, by how they begin ...
LAST = re.compile(r"""\W*(?:related\ (?:stor|article|post|news|link|content|cover|item|video|topic|
    read|product)\w*|more\ (?:from|great|stories|news|like)|read\ next|
    recommended\ (?:for|reading|stories|articles|posts|by)|
    you\ (?:may|might)\ (?:also|like|have|enjoy|be)|most\ (?:read|popular)|
    popular\ (?:posts|articles|stories|now|topics)|trending\ (?:now|news|stories|topics|on)|
    latest\ (?:news|posts|articles|stories|from)|leave\ a|share\ this|about\ the\ author|
    sign\ up|follow\ (?:us|me|@)|posts?\ navigation|stay\ (?:up|in)|join\ (?:us|our)|
    mehr\ (?:zu|zum|aus|von|über|news|infos)|
    weitere\w*\ (?:artikel|beiträge|meldungen|nachrichten|themen|info\w*)|verwandte\w*|
    noticias\ rel\w*|notícias\ rel\w*|artículos\ rel\w*|artikel\ (?:zum|aus)|ähnliche\ \w+|
    das\ könnte|schreibe?\ (?:einen|uns)|hinterlasse|beitrags-?navigation|passend\ dazu|
    articles?\ (?:similaires|liés|associés)|laisse[rz]\ un|vous\ aimerez|te\ puede|también\ te|
    más\ (?:noticias|sobre|le\w*)|deja\ un|articoli\ correlati|(?:ti\ )?potrebbe\w*|lascia\ un|
    deixe\ (?:um|seu)|mais\ lid\w*|você\ (?:pode|também)|leia\ (?:mais|também)|
    veja\ (?:mais|também)|lire\ (?:aussi|plus)|читайте\ также|gerelateerd\w*|geef\ een|
    relaterad\w*|関連\w*|相关\w*)"""
    r"(?!\w)", re.I | re.X)
# ... and by all that they say (beside a number): these words begin other headings too.
LAST_WORDS = re.compile(r"""[\W\d]*(?:related|read\ more|recommended|popular|trending|latest|
    comments?|subscribe|newsletter|follow|tags|see\ also|what['’]s\ next|further\ reading|
    external\ links|references|previous|next|advertisement|share|relacionad\w*|artículos|artikel|
    похож\w*|altri|kommentare?|teilen|schlagw\w*|meistgelesen|commentaires?|partage\w*|
    comentarios?|commenti|condividi|comentários?|reacties|podobne|komentarze|dodaj|powiązane|
    kommentarer|комментари[ий]|оставить|поделиться|отзывы|leia|veja|lire|читайте)
    (?:\ on\ .*)?[\W\d]*$""", re.I | re.X)
# Who wrote it and when, before the text.
BYLINE = re.compile(r"""\W*(?:(?i:(?:written\ )?by|von|por|par|door|di)\ [A-ZÄÖÜÉ]|
    (?i:posted|published|updated|last\ (?:updated|modified)|publicado|publié|mis\ à\ jour|stand:|
    veröffentlicht|aktualisiert|erstellt|pubblicato|aggiornato|geplaatst|lesezeit)(?:\b|
    (?<=:))|(?i:mon|tues|wednes|thurs|fri|satur|sun)day,|\d{1,2}[./ ]\d{1,2}[./ ]\d{2,4}|
    \d{4}-\d\d-\d\d|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\ \d{1,2},\ \d{4}|
    \d{1,2}\.?\ (?i:jan|feb|mär|mar|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-z]*\.?\ \d{4}|
    \d+\ (?:min(?:ute)?s?|hours?|days?)\ (?:read|ago))""", re.X)


def runs_of(story: Node) -> list[Run]:
    """The runs of a block in document order, without what is dropped."""
    found, waiting = [], [story]
    while waiting:
        item = waiting.pop()
        if type(item) is Run:
            found.append(item)
        elif not item.dropped:
            waiting.extend(reversed(item.children))
    return found


def leads_elsewhere(run: Run, text: str) -> bool:
    """True for a line that is (nearly) all link, that begins like "Read more:", or that ends like
    the caption of a picture: "(Image: Reuters)".

    Items of lists and cells of tables may be links; headings may link to themselves.
    """
    if run.parent.tag in ("li", "td", "th", "dt", "dd", "pre") or run.parent.tag in HEADINGS:
        share = 2.0 if run.parent.tag in HEADINGS or len(text) > 300 else 1.1
        return run.link * 2 > len(text) and share > 1 and bool(ELSEWHERE.match(text))
    if run.link > 0.8 * len(text) and len(text) > 12:
        return True
    if len(text) < 200 and text[-1] == ")" and CREDIT.search(text):
        return True
    # "Get the current user." is a sentence of the story.
    if len(text) < 60 and not run.link and text[-1] == "." != text[-2:-1] \
            and not ABOUT_SITE.search(text):
        return False
    return (run.link * 3 > len(text) or len(text) < 60) and len(text) < 200 \
        and bool(ELSEWHERE.match(text))


def is_last(run: Run, heading: str, linked: bool) -> bool:
    """True if a heading says that the story is over. `linked`: links are 40 % of what follows.

    A chapter may have such a heading too: then its id is made from it, and prose follows.
    """
    if LAST.match(heading):
        return True
    if not LAST_WORDS.match(heading):
        return False
    slug, block = "-".join(heading.lower().split()), run.parent
    for _ in range(3):
        own = block.attribute("id").lower()
        if own == slug or slug in own and re.search(r"[.()/]", own):     # or a name in a program
            return linked
        block = block.parent or block
    return True


def trim(story: Node) -> None:
    """Mark the runs of a story that are not part of it as dropped (mass -1).

    The headline, by-lines and dates before the first long paragraph; lines that lead elsewhere;
    everything from a heading like "Related stories" on, if little prose follows it.
    """
    runs = runs_of(story)
    texts = [run.text.strip() for run in runs]
    total = sum(run.mass for run in runs)
    # 1. Before the first long paragraph. Headings of the first rank may be those of chapters.
    chapters = sum(run.parent.tag == "h1" for run in runs) > 3
    for run, text in zip(runs, texts):
        if len(text) > 120 and run.parent.tag not in HEADINGS and run.mass > 0:
            break
        if run.parent.tag == "h1" and not chapters or (len(text) < 100 and BYLINE.match(text)
                                      and not (len(text) > 40 and text[-1] in ".!?")):
            run.mass = -1
    # 2. Between the paragraphs.
    for run, text in zip(runs, texts):
        if run.mass >= 0 and leads_elsewhere(run, text):
            run.mass = -1
    # 3. After the last one: walk back while what follows is a small part of the page.
    after, link, size, end = 0, 0, 0, len(runs)
    for i in range(len(runs) - 1, -1, -1):
        if runs[i].parent.tag in HEADINGS and is_last(runs[i], texts[i], 5 * link > 2 * size):
            for run in runs[i:end]:
                run.mass = -1
            end, link, size = i, 0, 0
        link, size = link + runs[i].link, size + len(texts[i])
        after += max(runs[i].mass, 0)
        if after > 0.25 * total:
            break
    for run in reversed(runs):
        if run.mass < 0:
            continue
        if run.parent.tag not in HEADINGS:
            break
        run.mass = -1                    # a heading with nothing under it
