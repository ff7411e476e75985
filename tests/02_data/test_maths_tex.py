"""maths_tex: each formula once, as TeX, and no price becomes one."""

import time

import pytest

from extract import extract_text
from mathml import mathml_tex
from maths_tex import clean_tex, inline_maths

KATEX = ('<span class="katex"><span class="katex-mathml"><math><semantics><mrow>E</mrow>'
         '<annotation encoding="application/x-tex">E = mc^2</annotation></semantics></math></span>'
         '<span class="katex-html" aria-hidden="true"><span><span>E=mc2</span></span></span></span>')
WIKIPEDIA = ('<span class="mwe-math-element"><span style="display: none;"><math alttext="{\\displaystyle'
             ' x&lt;y}"><semantics><mi>x</mi><annotation encoding="application/x-tex">{\\displaystyle '
             'x&lt;y}</annotation></semantics></math></span><img src="https://a.example/x.svg" '
             'class="mwe-math-fallback-image-inline" alt="{\\displaystyle x&lt;y}"></span>')
MATHJAX = ('<span class="MathJax_Preview">sum</span><span class="MathJax"><span>sum</span></span>'
           '<script type="math/tex; mode=display">\\sum_{i<n} a_i</script>')


@pytest.mark.exercise("2.9")
@pytest.mark.parametrize("tex, want, mistake", [
    (r"{\displaystyle x^{2}}", "x^{2}", "Wikipedia's wrapper"),
    (r"{\textstyle \frac{a}{b}}", r"\frac{a}{b}", "the same in text style"),
    (r"{\displaystyle a}+{b}", r"{\displaystyle a}+{b}", "the outer braces are not a pair"),
    ("$x$", "x", "dollars"), ("$$x$$", "x", "two dollars"), (r"\(x\)", "x", "round delimiters"),
    (r"\[x\]", "x", "square delimiters"), ("a &lt; b", "a < b", "entities"),
    ("a\n  + b", "a + b", "one line"), ("{x}", "{x}", "braces of its own stay"),
    (r"\{a\}", r"\{a\}", "escaped braces are signs"), ("", "", "nothing"), ("$", "$", "one dollar"),
    ("$5", "$5", "a dollar that nothing closes"), (r"\(x", r"\(x", "nothing closes it"),
    (r"{\displaystyle \{a}", r"\{a", "an escaped brace opens nothing"),
    (r"$ {\displaystyle a} $", "a", "blanks inside the delimiters"),
    (r"{\displaystyle a }", "a", "blanks inside the braces"),
    (r"\displaystyle x + y", "x + y", "the style without braces"),
    (r"% x\% y", r"x\% y", "a comment sign at the start only"),
    ("\\sum_{i%\n  =1}^{n}x", r"\sum_{i=1}^{n}x", "a line that TeX goes on with"),
    ("a\\\\% to do\nb 5\\%\nc", "a\\\\b 5\\% c", "a comment to its line's end; \\% is a sign"),
])
def test_clean_tex(tex, want, mistake):
    assert clean_tex(tex) == want, f"{mistake}: {tex!r}"


@pytest.mark.parametrize("markup, want", [
    ("<mi>x</mi><mo>=</mo><mfrac><mrow><mi>a</mi><mo>+</mo><mn>1</mn></mrow><mi>b</mi></mfrac>",
     r"x=\frac{a+1}{b}"),
    ("<msup><mi>x</mi><mn>2</mn></msup>", "x^{2}"), ("<mi>α</mi><mo>≤</mo><mi>Ω</mi>", r"\alpha \le \Omega"),
    ("<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover>"
     "<msub><mi>x</mi><mi>i</mi></msub>", r"\sum_{i=1}^{n}x_{i}"),
    ("<msqrt><mi>x</mi></msqrt><mroot><mi>y</mi><mn>3</mn></mroot>", r"\sqrt{x}\sqrt[3]{y}"),
    ("<mover><mi>v</mi><mo>→</mo></mover><mi>sin</mi><mi>λ</mi>", r"\vec{v}\sin \lambda"),
    ("<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>0</mn></mtd></mtr><mtr><mtd><mn>0</mn></mtd><mtd>"
     "<mn>1</mn></mtd></mtr></mtable>", r"\begin{matrix} 1 & 0 \\ 0 & 1 \end{matrix}"),
    ("<mtext>if </mtext><mi>a</mi><mo>&lt;</mo><mi>b</mi><mspace/>", r"\text{if}a<b"),
    ("<mo>(</mo><mfrac linethickness='0'><mi>n</mi><mi>k</mi></mfrac><mo>)</mo>", r"\binom{n}{k}"),
    ("<mfrac linethickness='0pt'><mi>n</mi><mi>k</mi></mfrac>", r"\genfrac{}{}{0pt}{}{n}{k}"),
    ("<mfrac linethickness='0.5pt'><mi>n</mi><mi>k</mi></mfrac>", r"\frac{n}{k}"),
    ("<mfenced><mfrac linethickness=0><mi>n</mi><mi>k</mi></mfrac></mfenced>", r"\binom{n}{k}"),
    ("<mfenced open='[' close=']' separators=';'><mi>a</mi><mi>b</mi></mfenced>", "[a;b]"),
    ("<mfenced separators=', ;'><mi>a</mi><mi>b</mi><mi>c</mi><mi>d</mi></mfenced>", "(a,b;c;d)"),
    ("<mfenced open='{' close=''><mi>a</mi></mfenced>", r"\{a"),
    ("<mi mathvariant='double-struck'>R</mi><mi>ℂ</mi>", r"\mathbb{R}\mathbb{C}"),
    ("<mi mathvariant='bold'>α</mi><mi>𝐱</mi><mi>𝑥</mi>", r"\boldsymbol{\alpha}\mathbf{x}x"),
    ("<mi mathvariant='fraktur'>g</mi><mi mathvariant='script'>L</mi>", r"\mathfrak{g}\mathcal{L}"),
    ("<mi>Re</mi><mi mathvariant='normal'>d</mi><mi mathvariant='normal'>∞</mi>",
     r"\mathrm{Re}\mathrm{d}\infty"),
    ("<msup><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mn>2</mn></msup>", "{a+b}^{2}"),
    ("<msup><mrow><mo>(</mo><mi>a</mi><mo>)</mo></mrow><mn>2</mn></msup>", "(a)^{2}"),
    ("<msup><msup><mi>a</mi><mi>b</mi></msup><mi>c</mi></msup>", "{a^{b}}^{c}"),
    ("<mmultiscripts><mi>X</mi><mi>a</mi><mi>b</mi><mprescripts/><mi>c</mi><none/></mmultiscripts>",
     "{}_{c}X_{a}^{b}"),
    ("<munder><mi>a</mi><mo>⏟</mo></munder>", r"\underbrace{a}"),
    ("<mml:msub><mml:mi>x</mml:mi><mml:mn>0</mml:mn>", "x_{0}"), ("", ""), ("<mrow>" * 99, "")])
def test_mathml_becomes_tex(markup, want):
    assert mathml_tex(markup) == want
    if want:
        page = f"<p>Let us see what <mjx-container><math>{markup}</math></mjx-container> may be.</p>"
        assert extract_text(page.encode()) == f"Let us see what ${want}$ may be."


@pytest.mark.parametrize("address, want", [
    ("latex.codecogs.com/gif.latex?E&space;=&space;mc^2", "E = mc^2"),
    (r"latex.codecogs.com/svg.image?\begin{pmatrix}1&2\\3&4\end{pmatrix}",
     r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    ("latex.codecogs.com/svg.image?y=mx+b", "y=mx+b"),
    (r"latex.codecogs.com/png.latex?\dpi{150}&space;\bg_white&space;\inline&space;f'(x)", "f'(x)"),
    ("chart.apis.google.com/chart?cht=tx&amp;chl=x%5E2+%2B+1&amp;chs=20", "x^2 + 1"),
    ("chart.googleapis.com/chart?chl=a%26b&cht=tx", "a&b"),
    ("s0.wp.com/latex.php?latex=%5Calpha+%2B+1&bg=ffffff&fg=000&s=0", r"\alpha + 1"),
    ("www.zhihu.com/equation?tex=%5Csum_i+a_i", r"\sum_i a_i"),
    ("render.githubusercontent.com/render/math?math=e%5E%7Bi%5Cpi%7D%20%3D%20-1", r"e^{i\pi} = -1")])
def test_pictures_drawn_from_their_address(address, want):
    text = extract_text(f'<p>We have, as you know, <img src="https://{address}"> here.</p>'.encode())
    assert text == f"We have, as you know, ${want}$ here."


def test_katex_with_html_output_only_keeps_what_one_sees():
    html = KATEX[:KATEX.index('<span class="katex-mathml">')] + KATEX[KATEX.index('<span class="katex-html"'):]
    text = extract_text(f"<body><p>We have, as you know, {html} here.</p>".encode())
    assert text == "We have, as you know, E=mc2 here."


@pytest.mark.parametrize("markup, want", [
    (KATEX, "$E = mc^2$"), (WIKIPEDIA, "$x<y$"), (MATHJAX, r"$$\sum_{i<n} a_i$$"),
    ('<math alttext="K>1"><mi>K</mi></math>', "$K>1$"),
    ('<span class="tex" data-expr="a>b">a</span>', "$a>b$"),
    ('<math alttext="a+b" display="block"><mi>a</mi></math>', "$$a+b$$"),
    ('<img class="latex" alt="\\alpha" src="a.png">', r"$\alpha$"),
    ('<img src="https://latex.codecogs.com/gif.latex?%5Cfrac%7B1%7D%7B2%7D">', r"$\frac{1}{2}$"),
    ('<span class="tex" data-expr="x_1"><i>x</i><sub>1</sub></span>', "$x_1$"),
    ('<span class="wp-katex-eq">y^2</span>', "$y^2$"),
])
def test_each_formula_is_kept_once(markup, want):
    text = extract_text(f"<body><p>We have, as you know, {markup} here. It costs $5 or $6.</p>"
                        .encode())
    assert text == f"We have, as you know, {want} here. It costs $5 or $6."


def test_a_caption_is_kept_for_its_formula():
    story = "<p>The curve is drawn for the reader's convenience, and to scale.</p>" * 5
    page = f"""<main>{story}<figure><img><figcaption>A plot of <math alttext="y=x^2"></math>, in blue.
        </figcaption></figure><figure><figcaption>A boat. Photo: $5 (AP).</figcaption></figure>"""
    assert "A plot of $y=x^2$, in blue." in extract_text(page.encode())
    assert "boat" not in extract_text(page.encode())


def test_a_page_without_formulae_is_not_touched():
    page = "<p>It costs $5 or $6, and the mathematics department pays."
    assert inline_maths(page) is page


@pytest.mark.parametrize("markup, want", [
    ("<mo>℘</mo>", r"\wp"), ("<mi>ℎ</mi>", "h"), ("<mi>𝜕</mi><mi>𝛁</mi>", r"\partial \boldsymbol{\nabla}"),
    ("<mi>𝜗</mi><mi>ϖ</mi>", r"\vartheta \varpi"), ("<mo>≰</mo>", r"\not\le"),
    ("<mi mathvariant='sans-serif-bold-italic'>x</mi>", r"\boldsymbol{\mathsf{x}}"),
    ("<mi>a</mi><mo>∝</mo><mi>b</mi><mo>⟹</mo><mo>⊥</mo>", r"a\propto b\Longrightarrow \perp"),
    ("<mo>⌊</mo><mi>x</mi><mo>⌋</mo>", r"\lfloor x\rfloor"), ("<mi>a</mi><mo>_</mo><mi>b</mi>", r"a\_b"),
    ("<mover><mi>x</mi><mo>\u0302</mo></mover><mover><mi>x</mi><mo>\u20d7</mo></mover>", r"\hat{x}\vec{x}"),
    ("<mover><mi>x</mi><mo>ˇ</mo></mover><mover><mi>x</mi><mo>∼</mo></mover>", r"\check{x}\tilde{x}"),
    ("<mover><mi>x</mi><mo>.</mo></mover><mover><mi>x</mi><mo>˚</mo></mover>", r"\dot{x}\mathring{x}"),
    ("<munderover><mo>⋃</mo><mi>i</mi><mi>n</mi></munderover>", r"\bigcup_{i}^{n}"),
    ("<munder><mo>∬</mo><mi>D</mi></munder>", r"\iint_{D}"),
    ("<munder><mi>lim sup</mi><mi>n</mi></munder>", r"\limsup_{n}"), ("<mi>arg max</mi>", r"\arg \max"),
    ("<msup><mi>f</mi><mo>′</mo></msup><msup><mi>x</mi><mi>∞</mi></msup>", r"f^{\prime}x^{\infty}"),
    ("<mtext>50 % of a_b</mtext>", r"\text{50 \% of a\_b}"), ("<mtext>if\xa0</mtext><mi>x</mi>", r"\text{if }x"),
    ("<mtext mathvariant='bold'>on</mtext><ms>s</ms>", "\\textbf{on}\\text{\"s\"}"),
    ("<mtable><mlabeledtr><mtd><mtext>(1)</mtext></mtd><mtd><mi>b</mi></mtd></mlabeledtr></mtable>",
     r"\begin{matrix} b \end{matrix}"),
    ("<menclose notation='updiagonalstrike'><mi>x</mi></menclose>", r"\cancel{x}"),
    ("<menclose notation='box circle'><mi>x</mi></menclose>", r"\boxed{x}"),
    ("<maction actiontype='toggle' selection='2'><mi>x</mi><mi>y</mi></maction>", "y")])
def test_signs_accents_and_limits_of_mathml(markup, want):
    assert mathml_tex(markup) == want
    assert "We see" in extract_text(f"<p>We see <math>{markup}</math> here, as it is.</p>".encode())


def test_no_sign_of_unicode_stops_a_page():
    signs = [chr(i) for i in (*range(0x2000, 0x2400), *range(0x1D400, 0x1D800)) if i != 0x2028]
    for sign in signs:
        mathml_tex(f"<mo>{sign}</mo>")


DOXYGEN = '<head><meta name="generator" content="Doxygen 1.9.8"></head>'
LATEX2HTML = '<head><META NAME="Generator" CONTENT="LaTeX2HTML v2K.1beta"></head>'
MJX = '<mjx-container jax="SVG"><svg><g data-mml-node="math" data-latex="x^2"></g></svg>{}</mjx-container>'


@pytest.mark.parametrize("head, markup, want", [
    (DOXYGEN, '<img class="formulaInl" alt="$x^2$" src="form_0.png"/>', "$x^2$"),
    (DOXYGEN, r'<img class="formulaDsp" alt="\[ x^2 \]" src="form_1.png"/>', "$$x^2$$"),
    (LATEX2HTML, '<!-- MATH\n $x^2$\n --><IMG SRC="img1.png" ALT="$ x^2$">', "$x^2$"),
    (LATEX2HTML, '<IMG SRC="img2.png" ALT="$5 and more">', ""),
    ("", '<img class="math" src="_images/math/1.png" alt="x^2"/>', "$x^2$"),          # Sphinx
    ("", MJX.format(""), "$x^2$"),                                                    # MathJax 4
    ("", MJX.format("<mjx-assistive-mml><math><mi>x</mi></math></mjx-assistive-mml>"), "$x$"),
    ("", '<script type="math/mml"><math><msup><mi>x</mi><mn>2</mn></msup></math></script>', "$x^{2}$"),
    ("", '<div class="latex-rendered" data-attrs="{&quot;persistentExpression&quot;:&quot;\\\\alpha'
     '&quot;}"></div>', r"$\alpha$"),
    ("", '<span class="ztext-math" data-tex="x^2">x2</span>', "$x^2$"),
    ("", '<math><mi>x</mi><annotation encoding="application/x-tex"><![CDATA[a<b]]></annotation></math>', "$a<b$"),
    ("", '<math alttext="y"><mi>x</mi><annotation encoding="application/x-tex"></annotation></math>', "$y$"),
    ("", '<img src="data:x" data-lazy-src="https://s0.wp.com/latex.php?latex=x%5E2">', "$x^2$")])
def test_where_else_pages_keep_their_tex(head, markup, want):
    page = f"<html>{head}<body><p>We have, as you know, {markup} here. It costs $5 or $6.</p>"
    text = " ".join(extract_text(page.encode()).split())
    assert text == " ".join(f"We have, as you know, {want} here. It costs $5 or $6.".split())


def test_nested_elements_of_formulae_take_linear_time():
    pages = [b"<math></math>" + b"<span class=katex-html>" * n + b"</span>" * n for n in (1000, 4000)]
    times = []
    for page in pages:
        began = time.process_time()
        extract_text(page)
        times.append(time.process_time() - began)
    assert times[1] < 8 * times[0] + 0.2, times


@pytest.mark.parametrize("page", [
    '<p>Let <span data-tex="a+b">x</span> be.', '<p>Let <img class="math" alt="a+b" src="1.png">',
    "<p>Let <img class='math notranslate' alt='a+b' src='1.png'>"])
def test_a_formula_is_found_in_a_page_that_has_no_other_hint(page):
    assert "$a+b$" in inline_maths(page), "the look at the page beforehand passed it over"
