"""What a parser makes of an HTML page: its elements, what they refer to, and its text."""

from html.parser import HTMLParser

# Elements that have no end.
VOID = ("meta", "link", "img")


class HtmlPage(HTMLParser):
    """Collects elements, attributes and texts of a page, and checks that its tags close."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.references: list[str] = []
        self.descriptions: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        # Every beginning of an element, with its attributes' names.
        self.shape: list[tuple[str, ...]] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.shape.append((tag, *(name for name, _ in attrs)))
        self.attributes |= {name for name, _ in attrs}
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        self.descriptions += [value or "" for name, value in attrs if name == "alt"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
