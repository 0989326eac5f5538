"""Faults of built pages: links and pictures that lead nowhere, pictures without words, files from the network."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("video", "src"), ("source", "src")}


class Page(HTMLParser):
    """A page's anchors, where its links lead, what a browser loads with it, and its pictures without words."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors, self.links, self.loaded, self.mute = set(), set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "img" and (not given.get("alt") or given["alt"] == given.get("src")):
            self.mute.add(given.get("src") or given.get("id"))
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if value and (tag, name) in LOADED:
                self.loaded.add(value)
            elif value and tag == "a" and name == "href":
                self.links.add(value)


def faults(folder: Path) -> list[str]:
    """A line for each fault of the pages of a folder, sorted; empty where there is none."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    found = []
    for path, page in pages.items():
        name = path.relative_to(folder)
        found += [f"{name}: loads {one} from the network" for one in page.loaded if _is_far(one)]
        found += [f"{name}: picture {one} has no alt text" for one in page.mute]
        for link in {one for one in page.links | page.loaded if not _is_far(one) and not urlsplit(one).scheme}:
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                found.append(f"{name}: {link} does not exist")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{name}: {link} has no such place")
    return sorted(found)


def _is_far(link: str) -> bool:
    return urlsplit(link).scheme in ("http", "https") or link.startswith("//")
