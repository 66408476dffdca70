"""``newsdesk fetch``."""

from pathlib import Path

import click

from pipeline.cli.options import cache_option


@click.group("fetch", short_help="download data into the cache, with checksum")
def command() -> None:
    """Downloads data into the cache, resumed where it stopped and kept only with the right checksum."""


@command.command("ag-news", short_help="the public AG News files, 30 MB")
@click.option("--base-url", envvar="NEWSDESK_AG_NEWS_URL", help="A mirror that holds train.csv and test.csv.")
@cache_option
def ag_news(base_url: str | None, cache: Path) -> None:
    """Fetches the public AG News files, 30 MB; their licence allows research and other non-commercial use."""
    from components.example_gen.fetch import BASE_URL, fetch

    target = cache.expanduser() / "ag_news"
    fetch(target, (base_url or BASE_URL).rstrip("/"), say=click.echo)
    click.echo(f"now: newsdesk run --preset ag-news --data {target}")
