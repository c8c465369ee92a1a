"""For mkdocs: links of docs/ to files outside of it lead to the repository."""

import re

REPOSITORY = "https://github.com/hypercluster/hypercluster/blob/main/"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs with the text of each page before it is rendered."""
    return re.sub(r"\]\(\.\./", f"]({REPOSITORY}", markdown)
