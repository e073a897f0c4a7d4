"""A reader of the pages, independent of how they are made."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """What a browser would see: elements, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.texts.append(" ".join(data.split()))

    def attributes(self, tag: str, name: str) -> list[str]:
        return [attributes[name] for element, attributes in self.elements if element == tag and name in attributes]

    def pictures(self) -> list[np.ndarray]:
        """All pictures, decoded to RGB or grey."""
        decoded = []
        for source in self.attributes("img", "src"):
            kind, data = source.split(";base64,")
            assert kind in ("data:image/png", "data:image/jpeg")
            image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
            decoded.append(image if image.ndim == 2 else image[..., ::-1])
        return decoded

    def lines(self) -> list[str]:
        """The path data of the curves: unfilled paths in a series colour."""
        return [
            attributes["d"]
            for element, attributes in self.elements
            if element == "path" and re.match(r"fill: none; stroke: #(?!0a0b)", attributes.get("style", ""))
        ]


@pytest.fixture
def read_page() -> Callable[[str], Page]:
    """Parse a page, and check what holds for every page."""

    def read(html: str) -> Page:
        page = Page(html)
        for tag, attributes in page.elements:
            assert tag not in ("script", "iframe", "object", "embed", "base", "form")
            for name, value in attributes.items():
                assert not name.startswith("on"), f"{tag} has a handler {name}"
                if name in ("src", "href", "xlink:href"):
                    assert value.startswith(("data:", "#")), f"{tag} loads {value}"
                for target in re.findall(r"url\((.*?)\)", value or ""):
                    assert target.startswith("#")
        assert not re.search(r"@import|url\((?!#)|https?://", html)
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(set(ids)) == len(ids), "an id is there twice"
        references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html)
        assert {a or b for a, b in references} <= set(ids), "a reference leads nowhere"
        return page

    return read
