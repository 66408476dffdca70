"""The page for people in a tab of headless Chromium, with the server and the versions behind it."""

from chromium import Tab
from page_world import MemoryRepository, TokenDoor
from running_server import wait_until

HEADLINE = "Striker scores a late goal, days after the border treaty"
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> goal"
SECONDS = 20.0
# WCAG's contrast of what is read, with what is translucent behind it blended in, on a canvas that knows every colour.
FAINT = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const paint = colours => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  };
  const found = [];
  for (const item of document.querySelectorAll('body *')) {
    if (![...item.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    if (!item.checkVisibility()) continue;
    const behind = [];
    for (let at = item; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    const ink = paint([...behind, getComputedStyle(item).color]), paper = paint(behind);
    const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (contrast < 4.5) found.push([item.textContent.slice(0, 40), Math.round(contrast * 100) / 100]);
  }
  return found;
})()"""
STICKS_OUT = """[...document.querySelectorAll('body *')].filter(item => {
  const box = item.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(item => item.outerHTML.slice(0, 120))"""


class Address(str):
    """An address that a tab opens as it does a file."""

    def as_uri(self) -> str:
        return str(self)


class Page:
    """The page in a tab, with the server and the versions behind it."""

    def __init__(self, tab: Tab, url: str, repository: MemoryRepository, door: TokenDoor):
        self.tab, self.url, self.repository, self.door = tab, url, repository, door

    def open(self, width: int = 1280, height: int = 900, **media: str) -> None:
        self.tab.open(Address(self.url), width, height, **media)  # type: ignore[arg-type]
        self.until("!document.getElementById('model').hidden || document.getElementById('problem').textContent")

    def until(self, script: str) -> None:
        """Waits until an expression holds."""
        wait_until(lambda: self.tab.run(f"Boolean({script})"), SECONDS, script)

    def type(self, text: str) -> None:
        self.tab.run("document.getElementById('headline').focus(); document.getElementById('headline').select()")
        self.tab.call("Input.insertText", text=text)

    def ask(self, text: str) -> None:
        """Types a text, presses Enter and waits for what comes of it."""
        self.type(text)
        self.tab.press("Enter")
        self.rest()

    def rest(self) -> None:
        self.until("document.getElementById('classify').textContent === 'Classify'")

    def text(self, where: str) -> str:
        """Returns what can be seen of an element; narrow spaces as plain ones."""
        return self.tab.run(f"document.querySelector({where!r})?.innerText ?? ''").replace("\u202f", " ").strip()

    def all(self, where: str) -> list[str]:
        found = self.tab.run(f"[...document.querySelectorAll({where!r})].map(item => item.innerText)")
        return [text.replace("\u202f", " ").strip() for text in found]

    @property
    def asked(self) -> int:
        """How often the server was asked; its files may come late."""
        return sum(url.endswith("/explain") for url in self.tab.requests)

    def shown(self, name: str) -> bool:
        return self.tab.run(f"document.getElementById({name!r}).checkVisibility()")
