"""A hook of mkdocs: formulas become MathML, which browsers draw by themselves, without a script and without a network."""
import html
import re

from math_core import LatexError, LatexToMathML
from mkdocs.exceptions import PluginError

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
MATHML = LatexToMathML(fancy_error=False)


def drawn(match):
    "MathML of a formula that the arithmatex extension has marked; one that stands alone gets a box that scrolls."
    alone, tex = match[1] == "div", html.unescape(match[2]).strip()
    try: made = MATHML.convert_with_local_state(tex, displaystyle=alone)
    except LatexError as e: raise PluginError(f"the formula {tex} cannot be drawn: {e}") from e
    return f'<div class="formula">{made}</div>' if alone else made


def on_page_content(content, **_):
    "The page with its formulas drawn."
    return FORMULA.sub(drawn, content)
