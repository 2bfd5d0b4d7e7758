"""Names that have broken pages, tables, figures and terminals elsewhere, and mixtures of them."""

from random import Random

TEXTS = (
    # HTML: elements, attributes, what ends a script, a style, a comment, a title.
    "<script>document.title='RAN';window.ran=1</script>",
    "<img src=x onerror=window.ran=1>",
    "<svg/onload=window.ran=1>",
    "\"><iframe src='http://elsewhere.invalid/'>",
    "' onmouseover='window.ran=1",
    '" autofocus onfocus="window.ran=1" x="',
    "</title><script>window.ran=1</script>",
    "</td></tr></table><h1>",
    "</pre></code></p>",
    "<!-- ",
    " -->",
    "]]>",
    "<![CDATA[",
    "</style><style>*{display:none}",
    "<link rel=stylesheet href=//elsewhere.invalid>",
    "<base href=//elsewhere.invalid>",
    "<meta http-equiv=refresh content=0;url=//elsewhere.invalid>",
    "&lt;b&gt;",
    "&amp;",
    "&#60;",
    "&",
    "javascript:window.ran=1",
    "data:text/html,<script>window.ran=1</script>",
    # Templates and formats.
    "{{ 7 * 7 }}",
    "{% raw %}",
    "{#",
    "{0}{name}%s%(x)s%n",
    "${7*7}",
    # Markdown.
    "|",
    "\\|",
    "\\",
    "`",
    "```",
    "**bold**",
    "_it_",
    "__init__",
    "~~no~~",
    "[text](http://elsewhere.invalid)",
    "![picture](http://elsewhere.invalid)",
    "<http://elsewhere.invalid>",
    "https://elsewhere.invalid",
    "www.elsewhere.invalid",
    "[^1]",
    "# heading",
    "- item",
    "1. item",
    "> quote",
    "---",
    "***",
    # Spreadsheets.
    "=HYPERLINK(1)",
    "+1",
    "-1",
    "@SUM(1)",
    "=cmd|' /C calc'!A0",
    "\t=1",
    ",",
    ";",
    '"',
    '""',
    "'",
    # Mathematics.
    "$x^2$",
    "$\\frac$",
    "$",
    "\\$",
    "_hidden",
    "%",
    "^",
    # Lines and the terminal.
    "a\nb",
    "\r\n",
    "\r",
    "\t",
    "\v\f",
    "\u2028",
    "\u2029",
    "\x85",
    "\x1b[31m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "\x08\x08",
    "\x7f",
    "\x01",
    # Directions and what is not seen.
    "\u202eevil",
    "\u202d",
    "\u2066",
    "\u2069",
    "\u200f",
    "\u200b",
    "\u200c",
    "\u200d",
    "\ufeff",
    "\u00ad",
    "\U000e0041",
    "שלום",
    "مرحبا 12",
    "\u200f(א)",
    # Other letters.
    "日本語",
    "é",
    "e\u0301",
    "Z\u0351\u0343\u036b" * 5,
    "😀",
    "👨\u200d👩\u200d👧",
    "\ufffe",
    "\U0010ffff",
    "İ",
    "ß",
    "ﬀ",
    "＝1",
    " ",
    "  a  ",
    "\u3000",
    "W" * 60,
    ".",
    "..",
    "-",
    "--help",
    "~",
    "CON",
    "NaN",
    "None",
    "true",
    "1e309",
)
MOST_BYTES = 255
LAST_CHARACTER = 0x10FFFF
SURROGATES = range(0xD800, 0xE000)


def hostile_text(random: Random) -> str:
    """Some hostile texts and letters one after another, now and then as long as a name may be."""
    parts = [random.choice(TEXTS) for _ in range(random.choice((1, 1, 2, 3)))]
    if random.random() < 0.3:
        parts.insert(random.randrange(len(parts) + 1), any_character(random))
    text = "".join(parts)
    if random.random() < 0.1:
        text = text * (MOST_BYTES // len(text.encode()) + 1)
    return shortened(text)


def shortened(text: str) -> str:
    """As many of the first characters as fit into a file's name."""
    return text.encode()[:MOST_BYTES].decode("utf-8", "ignore")


def any_character(random: Random) -> str:
    """Any character of Unicode but half a surrogate pair and the one that ends names in C."""
    code = random.randrange(1, random.choice((0x100, 0x3000, LAST_CHARACTER + 1)))
    return "x" if code in SURROGATES else chr(code)


def hostile_name(random: Random) -> str:
    """A hostile text that a file or folder can have as its name."""
    name = hostile_text(random).replace("/", "∕").strip(".")
    return shortened(name) or "x"
