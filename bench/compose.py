"""Puts a Nexmark query behind the tables it reads, and fills in the placeholders."""

from pathlib import Path

NEXMARK = Path(__file__).resolve().parent / "nexmark"


def compose(query, tables="tables.sql", **placeholders):
    """The pipeline of a query: `tables` and the query's file, `${NAME}` replaced by each placeholder's value."""
    text = (NEXMARK / tables).read_text() + "\n" + (NEXMARK / f"{query}.sql").read_text()
    for name, value in placeholders.items():
        text = text.replace("${" + name + "}", str(value))
    return text
