"""Checks that the links inside a folder of HTML pages lead somewhere."""
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    "What a page links to, and the anchors it has."

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value is not None: self.links.append(value)
            if name == "id" or (tag, name) == ("a", "name"): self.anchors.add(value)


def target(link, page, root, base="/"):
    "File in `root` and anchor that `link` on `page` means; None for other sites. `base` is where the site is served."
    parts = urlsplit(link)
    if parts.scheme or parts.netloc: return None
    path = unquote(parts.path)
    if not path: file = page
    elif path.startswith("/"): file = root/path.removeprefix(base).lstrip("/")
    else: file = page.parent/path
    return (file/"index.html" if file.is_dir() else file).resolve(), unquote(parts.fragment)


def check(root, base="/"):
    "Number of pages and of inner links in the folder `root`, and a sentence for each link that leads nowhere."
    root = Path(root).resolve()
    pages = {p: Page(p.read_text(encoding="utf-8")) for p in sorted(root.rglob("*.html"))}
    count, broken = 0, []
    for page, link, goal in ((p, l, target(l, p, root, base)) for p in pages for l in pages[p].links):
        if goal is None: continue
        file, anchor = goal
        count += 1
        if not file.is_file(): broken.append(f"{page.relative_to(root)}: {link} is no file")
        elif file in pages and anchor not in pages[file].anchors: broken.append(f"{page.relative_to(root)}: {link} has no such anchor")
    return len(pages), count, broken
