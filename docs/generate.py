"""The generated pages of the documentation site, made at each build so that none can be out of date.

    reference/commands/*.md   a page for each command, from the command line itself
    reference/python/*.md     a page for each package's `__all__`; mkdocstrings fills in signatures and docstrings
    deploy/*.md, SECURITY.md  pages of other folders

MkDocs calls `on_files` and `on_page_markdown`. Links in the sources are valid in the repository; here they are changed
to the site's addresses, and a link to a file without a page, such as a script, becomes the file's name.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
PACKAGES = {
    "aquasurf_ray": "What a script needs.",
    "aquasurf_ray.activations": "The expression language.",
    "aquasurf_ray.tasks": "What a network is trained on.",
    "aquasurf_ray.driver": "Searches and other runs.",
    "aquasurf_ray.tune": "The search in Ray Tune.",
    "aquasurf_ray.analysis": "Benchmarks, and searches replayed on them.",
    "aquasurf_ray.store": "The database of runs.",
    "aquasurf_ray.surrogate.settings": "What a surrogate is made of.",
    "aquasurf_ray.surrogate.policy": "Suggestions.",
    "aquasurf_ray.surrogate.distances": "Distances between functions.",
    "aquasurf_ray.workers.spectrum": "The Fisher spectrum of a network.",
}


def other_pages() -> dict[str, str]:
    """Return the path in the repository by the path in the site, for pages outside of docs."""
    deployed = {f"deploy/{page.parent.name}.md": page for page in sorted(ROOT.glob("deploy/*/README.md"))}
    named = {name: ROOT / name for name in ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")}
    return {uri: str(page.relative_to(ROOT)) for uri, page in (deployed | named).items()}


def generated_pages() -> dict[str, str]:
    """Return the text of each generated page by its path in the site."""
    copied = {uri: (ROOT / page).read_text(encoding="utf-8") for uri, page in other_pages().items()}
    return copied | dict(command_pages()) | dict(python_pages())


# --- the command line


def command_pages() -> Iterator[tuple[str, str]]:
    from typer.main import get_command

    from aquasurf_ray.cli.main import app

    found = dict(commands("aquasurf", get_command(app)))
    rows = [f"| [`{name}`](commands/{page_name(name)}) | {first_sentence(c)} |" for name, c in found.items()]
    yield "reference/commands.md", "\n".join(["# Commands", "", "| command | what it does |", "| --- | --- |", *rows])
    for name, command in found.items():
        yield f"reference/commands/{page_name(name)}", command_page(name, command)


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Return every command by its full name; groups are not commands of their own."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, member in command.commands.items():
        if not member.hidden:
            yield from commands(f"{name} {word}", member)


def page_name(name: str) -> str:
    return name.removeprefix("aquasurf ").replace(" ", "-") + ".md"


def first_sentence(command: Any) -> str:
    return re.split(r"\n\n", command.help or "")[0].replace("\n", " ").strip()


def command_page(name: str, command: Any) -> str:
    """Return the help of a command as a page, with a table for each of its panels."""
    from aquasurf_ray.cli.terminal.commands import argument_name

    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help" and not p.hidden]
    usage = " ".join([name, *(argument_name(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"# {name}", "", "\n".join(line.strip() for line in (command.help or "").splitlines()), ""]
    parts += ["```", usage, "```", ""]
    parts += table("argument", [(argument_name(p), p) for p in arguments])
    for panel in dict.fromkeys(p.rich_help_panel for p in options):
        rows = [(", ".join([*p.opts, *p.secondary_opts]), p) for p in options if p.rich_help_panel == panel]
        parts += table(panel or "option", rows)
    example = (command.epilog or "").strip()
    if example.startswith("Example: "):
        parts += ["```", example.removeprefix("Example: "), "```"]
    elif example:
        parts += [example]
    return "\n".join(parts) + "\n"


def table(title: str, rows: list[tuple[str, Any]]) -> list[str]:
    lines = [f"| `{names}` | {value(p)} | {escaped(p.help or '')}{default(p)} |" for names, p in rows]
    return [f"| {title} | value | meaning |", "| --- | --- | --- |", *lines, ""] if rows else []


def value(parameter: Any) -> str:
    """Return an option's value as help shows it, or the choices; an argument is named by its value."""
    if parameter.param_type_name == "argument" or parameter.is_flag:
        return ""
    return ", ".join(f"`{choice}`" for choice in parameter.metavar.split("|"))


def default(parameter: Any) -> str:
    shown = getattr(parameter, "show_default", False) and not getattr(parameter, "is_flag", False)
    chosen = getattr(parameter.default, "value", parameter.default)
    return f" Default: `{chosen}`." if shown and isinstance(chosen, str | int | float) and chosen != "" else ""


def escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# --- docstrings


def python_pages() -> Iterator[tuple[str, str]]:
    rows = [f"| [`{name}`](python/{name}.md) | {about} |" for name, about in PACKAGES.items()]
    head = "# Python\n\nThe public surface, from the docstrings. Whatever is not named here may change at any time.\n"
    yield "reference/python.md", "\n".join([head, "| package | |", "| --- | --- |", *rows])
    for name, about in PACKAGES.items():
        blocks = [f"::: {name}.{member}" for member in public_names(name) if not member.startswith("__")]
        yield f"reference/python/{name}.md", "\n\n".join([f"# {name}", about, *blocks]) + "\n"


def public_names(module: str) -> list[str]:
    """Return the names in a module's `__all__`, or else its public classes and functions."""
    names = getattr(importlib.import_module(module), "__all__", None)
    if names is not None:
        return list(names)
    body = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text()).body
    return [n.name for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef) and not n.name.startswith("_")]


# --- MkDocs


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File, InclusionLevel

    for uri, text in generated_pages().items():
        in_nav = InclusionLevel.NOT_IN_NAV if uri.count("/") == 2 else InclusionLevel.UNDEFINED
        files.append(File.generated(config, uri, content=text, inclusion=in_nav))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    del config, files
    return with_links(markdown, page.file.src_uri)


def with_links(markdown: str, uri: str) -> str:
    """Return the text of a page with links that are valid in the site, as in generated pages already."""
    if uri.startswith("reference/"):
        return markdown
    others = other_pages()
    here = PurePosixPath(others.get(uri, f"docs/{uri}")).parent
    sites = {page: site for site, page in others.items()}

    def turned(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        path = (ROOT / here / target).resolve()
        inside = str(path.relative_to(ROOT))
        if inside == "README.md":
            inside = "docs/index.md"
        site = sites.get(inside, inside.removeprefix("docs/") if inside.startswith("docs/") else None)
        if site is None:
            return text if text.startswith("`") else f"{text} (`{inside}`)"
        return f"[{text}]({'../' * uri.count('/')}{site}{anchor})"

    return LINK.sub(turned, markdown)
