"""`backup` and `restore`, of every program that has a home."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hypercluster.market.money.units import counted
from hypercluster.node.cli.console import Json, fail, show
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.node.home.backup import Backup

File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


def backup(
    file: File,
    transcripts: Annotated[
        bool,
        typer.Option(
            "--transcripts/--without-transcripts",
            help="With the rows that others can still ask for on chain. They hold texts, and take most of the room.",
        ),
    ] = True,
    json_: Json = False,
) -> None:
    """Copy what of this home cannot be had again into one new file.

    Example: [bold]hc-client backup home.tar.gz[/]

    Keys, ledger, limits, vouchers under way, calibrations and transcripts, but no models. Programs may run meanwhile.
    Keys stay encrypted with their password; the rest of the file is not. A ledger in PostgreSQL is left out: pg_dump
    copies it.
    """
    from hypercluster.node.home.backup import back_up
    from hypercluster.node.home.settings import LEDGER

    try:
        made = back_up(Settings(), file, transcripts=transcripts)
    except (OSError, sqlite3.Error) as error:
        fail(f"The backup {file} cannot be written: {getattr(error, 'strerror', None) or error}.")
    without = "" if LEDGER in made.files else "; the ledger is not in it"
    size = file.stat().st_size
    document = {
        "file": str(file),
        "made": made.made,
        "files": list(made.files),
        "transcripts": made.transcripts,
        "bytes": size,
    }
    show(document, lambda _: f"wrote {file}, {_megabytes(size)}: {_contents(made)}{without}", json_)


def _contents(made: Backup) -> str:
    kept = counted(made.transcripts, "transcript")
    return ", ".join([*made.files, *([kept] if made.transcripts else [])])


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def restore(
    file: File,
    exact: Annotated[
        bool, typer.Option("--exact", help="Nothing was signed with these keys since the backup was made.")
    ] = False,
    json_: Json = False,
) -> None:
    """Fill an empty home from a backup.

    Example: [bold]HC_HOME=~/.hypercluster/again hc-client restore home.tar.gz[/]

    The old home must never run again. The node key of a ledger with passes of a verifier is set aside, unless the
    backup is --exact: a second pass that differs from one that was forgotten would cost stake.
    """
    from hypercluster.node.home.backup import RETIRED
    from hypercluster.node.home.backup import restore as fill

    settings = Settings()
    try:
        found = fill(settings, file, exact=exact)
    except OSError as error:
        fail(f"The home {settings.home} cannot be written: {error.strerror or error}.")
    sentence = f"restored {_contents(found)} ({_megabytes(found.bytes)}) of {found.made} in {settings.home}"
    if found.retired:
        sentence += (
            f"; the node key is set aside as {RETIRED}: make a new one with init, and register it. Where nothing was "
            "signed since the backup, restore again with --exact"
        )
    document: dict[str, Any] = {
        "home": str(settings.home),
        "made": found.made,
        "files": list(found.files),
        "transcripts": found.transcripts,
        "bytes": found.bytes,
        "node_key_set_aside": found.retired,
    }
    show(document, lambda _: sentence, json_)
