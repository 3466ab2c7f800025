"""A hook of mkdocs: formulas become MathML, which browsers draw by themselves, without a script and without a network."""
import html
import re

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def mathml(tex, display="inline"):
    "The formula `tex` as MathML; a command that the converter does not know is an error."
    from latex2mathml.converter import convert
    made = convert(tex, display=display)
    if "\\" in made: raise ValueError(f"a formula holds a command that latex2mathml does not know: {tex}")
    return made


def on_page_content(content, **_):
    "The page with every formula that the arithmatex extension has marked replaced by MathML."
    return FORMULA.sub(lambda m: mathml(html.unescape(m[2]).strip(), "block" if m[1] == "div" else "inline"), content)
