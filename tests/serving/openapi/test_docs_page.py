"""The page at /docs shows all of the description and needs nothing else."""

import base64
import hashlib
import html
import re

from openapi_description import API, operations

from serving.page.docs import render_docs


def test_the_page_shows_every_operation_and_schema() -> None:
    page = render_docs().decode()
    for method, path, operation in operations():
        assert f'id="{operation["operationId"]}"' in page
        assert f">{method.upper()}</span>\n<h3><code>{html.escape(path)}</code>" in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    links = re.findall(r'href="#([^"]+)"', page)
    assert links
    assert set(links) <= set(ids)
    assert {f"schema-{name}" for name in API["components"]["schemas"]} <= set(ids)


def test_the_page_needs_nothing_but_itself() -> None:
    page = render_docs().decode()
    assert "<script" not in page
    assert "<link" not in page
    assert "<img" not in page
    assert not re.search(r"""(src|href)=["'](https?:|//)""", page)
    assert "url(" not in page
    assert "@import" not in page
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert f'content="{policy}"' in html.unescape(page)
    assert "style=" not in re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)
