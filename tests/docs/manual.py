"""The manual pages: sereno(1) from the command's own parser, the others from the pages of docs/.

They are kept in systemd/man, where they can be read and reviewed. argparse-manpage was tried for the first: it makes a
page without a one-line description, so that apropos does not know it, and of text that groff has to complain about.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from textwrap import wrap
from typing import NamedTuple

from pages import README, blocks, text_of

import sereno
from sereno import cli
from sereno.cli.arguments import Parser
from shipped import REPOSITORY

PAGES = REPOSITORY / "systemd/man"
OPERATING = text_of("operating")
# When the pages got their present form; mandoc wants a date, and the release has the version.
DATE = "2026-11-29"
# Options that so many commands have are explained once for all of them.
COMMON = 3
DESCRIPTION = "For root it is about the jobs of the machine, for others about their own."
ENVIRONMENT = {
    "SERENO_APP": "The application that owns the jobs, where --app= or app= names none.",
    "SERENO_CACHE_DIR": "The directory of the metadata cache, instead of the machine's or your own.",
    "SERENO_CACHE_URL": "The server that has the cache of many hosts; the credential sereno_cache_url says the same.",
    "SERENO_CACHE_WAIT_S": "Seconds to wait for another process that holds the cache; 5.",
    "NO_COLOR": "If it is set, no colours.",
    "SERENO_LANG": "In a service's environment: en has its runs log in English instead of Spanish.",
    "SERENO_TEXTFILE_DIR": "In a service's environment: where its runs leave metrics.",
    "SERENO_LOG": "In a container: json has a run write its records as lines of JSON.",
    "SERENO_RUN_ID, SERENO_ELAPSE": "By another scheduler: the id of a run, and when it was due.",
    "SERENO_EXIT_SKIPPED": "By another scheduler: the exit status of a run that is left out, in place of 77.",
}
FILES = {
    "/etc/systemd/system/sereno@JOB.timer": "A job's timer, generated; beside it the drop-in of its service.",
    "/etc/systemd/system/sereno@.service": "The service that all jobs are instances of.",
    "/var/cache/sereno": "The metadata cache.",
    "~/.config/systemd/user, ~/.cache/sereno": "The same for yourself alone.",
}
SEE_ALSO = "systemctl(1), journalctl(1), systemd.timer(5), systemd.time(7), crontab(5)"


class Page(NamedTuple):
    """A manual page that says what pages of docs/ say."""

    about: str
    sources: tuple[str, ...]
    # Headings of what is for who has a checkout, and not for who has a server.
    without: tuple[str, ...] = ()
    # A file of the README that shows what the page is about.
    synopsis: str = ""


FROM_DOCS = {
    "sereno-jobs.5": Page(
        "declaring jobs of sereno, and bringing them onto a machine",
        ("jobs", "backend", "many-hosts"),
        without=("A job that ships", "A cluster", "An image", "Another scheduler that you have"),
        synopsis="/srv/shop/shop/jobs.py",
    ),
    "sereno-notify.5": Page("who is told when a job of sereno fails", ("notify",)),
    "sereno-cache.7": Page("the metadata cache that all processes of a machine share", ("cache",)),
    "sereno-fields.7": Page(
        "fields of the journal, metrics and the report of sereno", ("metrics",)
    ),
    "sereno-sandbox.7": Page("what a job of sereno meets when it runs", ("sandbox",)),
    "sereno-security.7": Page("who is trusted with what by sereno", ("security",)),
    "sereno-troubleshooting.7": Page(
        "when something is wrong with a job of sereno", ("troubleshooting",)
    ),
}
# Of a table with more than two columns, those whose cells need no heading before them.
PLAIN = {"meaning", "in a run"}


# --- text -----------------------------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    """`text` as it is, also a hyphen that somebody will copy."""
    for character, name in (
        ("\\", "\\e"),
        ("-", "\\-"),
        ("'", "\\(aq"),
        ("`", "\\(ga"),
        ("^", "\\(ha"),
        ("~", "\\(ti"),
    ):
        text = text.replace(character, name)
    return re.sub(r"^\.", r"\\&.", text, flags=re.MULTILINE)


def inline(markdown: str) -> str:
    """A piece of Markdown: code and strong text in bold, a link as its text and the manual page it leads to."""
    parts = re.split(
        r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^]]+)\]\(([^)]+)\)", " ".join(markdown.split())
    )
    text = ""
    for number, part in enumerate(parts):
        if part is None:
            continue
        kind = number % 5
        # NUL stands for a space at which no line is broken.
        if kind in (1, 2):
            text += f"\\fB{escaped(part).replace(' ', chr(0))}\\fR"
        elif kind == 4:
            text += reference(part)
        else:
            text += escaped(part)
    return text


def reference(link: str) -> str:
    """Where a reader of manual pages finds what a link of a page leads to."""
    for name, page in FROM_DOCS.items():
        if link.partition("#")[0].removesuffix(".md") in page.sources:
            stem, _, section = name.rpartition(".")
            return f"\0(\\fB{escaped(stem)}\\fR({section}))"
    return ""


def filled(text: str) -> str:
    """`text` in lines of at most 78 characters, none of which begins like a request."""
    lines = wrap(text, 78, break_long_words=False, break_on_hyphens=False)
    return "\n".join(re.sub(r"^(?=[.'])", r"\\&", line) for line in lines).replace("\0", " ")


def tagged(tag: str, text: str) -> str:
    return f".TP\n{tag}\n{filled(text)}"


def verbatim(text: str) -> str:
    return f".PP\n.nf\n{escaped(text.rstrip())}\n.fi"


def page(name: str, section: int, about: str, sections: list[tuple[str, str]]) -> str:
    head = '.\\" Generated by tests/docs/manual.py: SERENO_TEST_GOLDEN=write tests/run tests/docs/test_manual.py\n'
    # Commands and paths are copied: nothing is hyphenated, and no line is stretched.
    title = (
        f'.TH {escaped(name).upper()} {section} {DATE} "sereno {sereno.__version__}"\n.nh\n.ad l'
    )
    parts = [("NAME", f"{escaped(name)} \\- {about}"), *sections, ("SEE ALSO", see_also(name))]
    return head + "\n".join([title, *(f".SH {heading}\n{text}" for heading, text in parts)]) + "\n"


def see_also(name: str) -> str:
    ours = [stem for stem in ("sereno.1", *FROM_DOCS) if stem.rpartition(".")[0] != name]
    others = re.findall(r"([\w.-]+)\((\d)\)", SEE_ALSO)
    pages = [tuple(stem.rpartition(".")[::2]) for stem in ours] + others
    return " ,\n".join(f".BR {escaped(page)} ({section})" for page, section in pages)


def converted(markdown: str) -> str:
    """Paragraphs, lists, tables and blocks of Markdown as requests of man(7)."""
    parts = []
    for fence, items, table, text in re.findall(
        r"^```\w+\n((?:.*\n)*?)```$|^((?:- .*(?:\n  .*)*\n?)+)|^((?:\|.*\n?)+)|^((?:[^\n<].*\n?)+)",
        markdown,
        re.MULTILINE,
    ):
        if fence:
            parts.append(verbatim(fence))
        elif items:
            found = re.split(r"^- ", items, flags=re.MULTILINE)[1:]
            parts += [f".IP \\(bu 2\n{filled(inline(item))}" for item in found]
        elif table:
            parts += rows_as_tags(cells_of(table))
        else:
            parts.append(f".PP\n{filled(inline(text))}")
    return "\n".join(parts)


def cells_of(table: str) -> list[list[str]]:
    """The cells of a table, its heading first, without the line below that."""
    lines = [line for line in table.splitlines() if not re.fullmatch(r"[-| ]+", line)]
    return [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines
    ]


def rows_as_tags(rows: list[list[str]]) -> Iterator[str]:
    """Each row as a tagged paragraph: its first cell, and what the others say."""
    heading, *body = rows
    for tag, *cells in body:
        said = [
            sentence(cell if len(heading) == 2 or name in PLAIN else f"{name}: {cell}")
            for name, cell in zip(heading[1:], cells, strict=True)
            if cell
        ]
        yield tagged(inline(tag).replace("\0", " "), inline(" ".join(said)))


def docs_page(name: str) -> str:
    """A manual page made of pages of docs/."""
    about, sources, without, synopsis = FROM_DOCS[name]
    stem, _, section = name.rpartition(".")
    introductions, sections = [], []
    shown = [
        ("SYNOPSIS", first_bare(verbatim(block.text)))
        for block in blocks(README)
        if block.argument == synopsis
    ]
    for source in sources:
        _, introduction, *parts = re.split(r"^#+ ", text_of(source), flags=re.MULTILINE)
        introductions.append(converted(introduction.partition("\n")[2]))
        for part in parts:
            heading, _, body = part.partition("\n")
            if heading not in without:
                sections.append((escaped(heading.upper()), first_bare(converted(body))))
    description = first_bare("\n".join(text for text in introductions if text))
    text = page(stem, int(section), about, [*shown, ("DESCRIPTION", description), *sections])
    return text.replace(reference(f"{sources[0]}.md").replace("\0", " "), "")


def first_bare(text: str) -> str:
    """Below a heading a paragraph needs no request."""
    return text.removeprefix(".PP\n")


# --- sereno(1) ------------------------------------------------------------------------------------------------------


def commands(parser: Parser) -> Iterator[Parser]:
    """Every subcommand that does something itself."""
    parser.fill()
    groups = [
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    ]
    if not groups:
        yield parser
    for group in groups:
        for sub in group.choices.values():
            yield from commands(sub)


def arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]


def placeholder(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    return str(action.metavar or "|".join(action.choices or ()) or action.dest.upper())


def signature(action: argparse.Action) -> str:
    """An argument as the synopsis has it, without brackets: `--days N`, `JOB`."""
    name = action.option_strings[-1] if action.option_strings else ""
    return f"{name} {placeholder(action)}".strip()


def synopsis(parser: argparse.ArgumentParser) -> str:
    """All arguments of a command, those that exclude each other together."""
    words, seen = [], set()
    for action in arguments(parser):
        if action in seen:
            continue
        together = next(
            (
                group._group_actions
                for group in parser._mutually_exclusive_groups
                if action in group._group_actions
            ),
            [action],
        )
        seen.update(together)
        text = "|".join(signature(one) for one in together)
        needed = len(together) == 1 and (action.required and action.nargs != "?")
        words.append(text if needed else f"[{text}]")
    return " ".join(words)


def described(action: argparse.Action) -> str:
    names = action.option_strings or [placeholder(action)]
    tag = ", ".join(f"\\fB{escaped(name)}\\fR" for name in names)
    if action.option_strings and placeholder(action):
        tag += f" \\fI{escaped(placeholder(action))}\\fR"
    return tagged(tag, inline(str(action.help)))


def command_page() -> str:
    """sereno(1)."""
    parser = cli._parser()
    all_commands = list(commands(parser))
    often = Counter(
        described(action) for sub in all_commands for action in arguments(sub) if action.help
    )
    common = [text for text, times in often.items() if times >= COMMON]
    parts = []
    for sub in all_commands:
        parts.append(
            f".SS {escaped(sub.prog)}\n.B {escaped(f'{sub.prog} {synopsis(sub)}'.rstrip())}"
        )
        parts.append(f".PP\n{filled(inline(sentence(sub.description or '')))}")
        own = [described(action) for action in arguments(sub) if action.help]
        parts += [text for text in own if text not in common]
    statuses = re.findall(r"^  (\d+)  (.+)$", cli.EXIT_STATUSES, re.MULTILINE)
    return page(
        "sereno",
        1,
        "periodic Python jobs on systemd timers",
        [
            (
                "SYNOPSIS",
                ".B sereno\n.I COMMAND\n.RI [ ARGUMENT... ]\n.br\n.B sereno \\-\\-version",
            ),
            ("DESCRIPTION", filled(f"{sentence(parser.description or '')} {DESCRIPTION}")),
            ("COMMANDS", "\n".join(parts)),
            ("COMMON ARGUMENTS", "\n".join(common)),
            ("OUTPUT", output()),
            (
                "EXIT STATUS",
                "\n".join(tagged(f"\\fB{number}\\fR", escaped(text)) for number, text in statuses),
            ),
            ("ENVIRONMENT", table(ENVIRONMENT)),
            ("FILES", table(FILES)),
            ("EXAMPLES", "\n".join(examples())),
        ],
    )


def output() -> str:
    """What the page on operating says below its table of commands, up to the exit statuses, which the parser has."""
    said = OPERATING.partition("## All commands")[2].partition("## Exit status")
    text = said[0][said[0].index("Without root they") :].replace("## JSON\n", "")
    runs = said[2].partition("\n## ")[0]
    return first_bare(converted(f"{text}\n{runs}"))


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:].removesuffix(".") + "."


def table(rows: dict[str, str]) -> str:
    return "\n".join(
        tagged(f"\\fB{escaped(name)}\\fR", escaped(text)) for name, text in rows.items()
    )


def examples() -> Iterator[str]:
    """The commands of a day, each with its comment."""
    (block,) = re.findall(r"## The commands of a day\n.*?```sh\n(.*?)```", OPERATING, re.DOTALL)
    for command, comment in re.findall(r"^(?:sudo )?(\S.*?) +# (.+)$", block, re.MULTILINE):
        yield tagged(f"\\fB{escaped(command)}\\fR", escaped(sentence(comment)))


TEXTS = {"sereno.1": command_page} | {name: partial(docs_page, name) for name in FROM_DOCS}
