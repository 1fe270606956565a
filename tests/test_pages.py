"""Every page of the built docs in a browser: at the widths of a desk and of a phone, in the light and in the dark."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

KINDS = ("scrolls sideways", "image without text", "too pale", "error")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = "--headless --no-sandbox --disable-gpu --hide-scrollbars --remote-debugging-port=0 --window-size=1400,1000".split()
# Runs in each page before anything else: keeps its errors, also those of files that are not there.
KEEP = """<head><script>
window.said = [];
addEventListener("error", e => said.push(e.message || `not loaded: ${e.target.src || e.target.href}`), true);
addEventListener("unhandledrejection", e => said.push(String(e.reason)));
console.error = (...words) => said.push(words.join(" "));
</script><style>* { transition: none !important }</style>"""
# Loads the pages one by one into a frame of both widths and both themes, and posts what is wrong with them.
FRAME = """<!DOCTYPE html><meta charset=utf-8><body><iframe style="height:900px;border:0"></iframe><script>
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true}), colors = new Map();
function rgba(color) {
  if (!colors.has(color)) {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    colors.set(color, [r, g, b, a / 255]);
  }
  return colors.get(color);
}
const over = ([r, g, b, a], under) => [r, g, b].map((c, k) => a * c + (1 - a) * under[k]);
const luminance = rgb => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
function contrast(element, view, grounds) {
  const ground = e => {
    if (!e) return [255, 255, 255];
    if (!grounds.has(e)) grounds.set(e, over(rgba(view.getComputedStyle(e).backgroundColor), ground(e.parentElement)));
    return grounds.get(e);
  };
  const [a, b] = [over(rgba(view.getComputedStyle(element).color), ground(element)), ground(element)].map(luminance);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
function measure(view, width, theme) {
  const page = view.document, root = page.documentElement, found = [], pale = new Map(), grounds = new Map();
  page.body.dataset.theme = theme;
  const fault = (kind, what) => found.push([kind, `${view.location.pathname} at ${width} px, ${theme}: ${what}`]);
  if (root.scrollWidth > width) {
    const wide = [...page.querySelectorAll("article *")].find(e => e.getBoundingClientRect().right > width + 1);
    fault("scrolls sideways", `${root.scrollWidth} px, ${wide?.outerHTML.slice(0, 100)}`);
  }
  for (const image of page.images) if (!image.alt.trim()) fault("image without text", image.src);
  const texts = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT), seen = new Set();
  for (let text; text = texts.nextNode();) {
    const element = text.parentElement;
    if (!text.data.trim() || seen.has(element) || !element.checkVisibility({visibilityProperty: true})) continue;
    seen.add(element);
    const ratio = contrast(element, view, grounds);
    if (ratio < 4.5) pale.set(`${element.localName}.${element.className}`, [ratio.toFixed(2), text.data.trim().slice(0, 30)]);
  }
  for (const [where, what] of pale) fault("too pale", `${where} ${what}`);
  return found;
}
addEventListener("load", async () => {
  const frame = document.querySelector("iframe"), found = [];
  for (const url of PAGES) {
    await new Promise(done => { frame.onload = done; frame.src = url; });
    for (const width of [1280, 390]) {
      frame.style.width = `${width}px`;
      for (const theme of ["light", "dark"]) found.push(...measure(frame.contentWindow, width, theme));
    }
    for (const words of frame.contentWindow.said) found.push(["error", `${url}: ${words}`]);
  }
  fetch("/", {method: "POST", body: JSON.stringify(found)});
});
</script>"""


class Server(SimpleHTTPRequestHandler):
    """Serves the built pages, and the one that looks at them all; takes what that one has found."""

    def __init__(self, *args, site: Path, answer: list, done: threading.Event):
        self.site, self.answer, self.done = site, answer, done
        super().__init__(*args, directory=str(site))

    def do_GET(self):
        path = self.site / self.path.partition("?")[0].lstrip("/")
        if self.path == "/look":
            pages = sorted(str(page.relative_to(self.site)) for page in self.site.rglob("*.html"))
            text = FRAME.replace("<script>", f"<script>const PAGES = {json.dumps(pages)};", 1)
        elif path.suffix == ".html" and path.exists():
            text = path.read_text().replace("<head>", KEEP, 1)
        else:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())

    def do_POST(self):
        self.answer.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()
        self.done.set()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def look(tmp_path_factory) -> Callable[[Path], list[tuple[str, str]]]:
    """Looks at all pages in a folder: what is wrong with them, as kind and place."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"needs a browser: {', '.join(BROWSERS)}")

    def look(site: Path) -> list[tuple[str, str]]:
        answer, done = [], threading.Event()
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, site=site, answer=answer, done=done)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            profile, address = tmp_path_factory.mktemp("profile"), f"http://127.0.0.1:{server.server_port}/look"
            command = [browser, *FLAGS, f"--user-data-dir={profile}", address]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                done.wait(timeout=300)
                process.terminate()
            server.shutdown()
        assert answer, "the browser has not come to an end"
        return answer[0]

    return look


@pytest.fixture(scope="module")
def faults(look, site) -> list[tuple[str, str]]:
    assert len(list(site.rglob("*.html"))) > 80
    return look(site)


@pytest.mark.parametrize("kind", KINDS)
def test_no_page(faults, kind):
    assert [where for fault, where in faults if fault == kind] == []


def test_every_fault_is_seen(look, tmp_path):
    style = "<style>body[data-theme=dark] { background: #222; color: #555 } body { background: #fff; color: #222 }</style>"
    wide, script = "<p style='width: 500px'>Wide.", "<script>undefined.name</script>"
    page = f"<!DOCTYPE html><html><head>{style}</head><body>{wide}<img src=none.png>{script}</body></html>"
    (tmp_path / "page.html").write_text(page)
    found = look(tmp_path)
    assert {kind for kind, _ in found} == set(KINDS)
    assert all("at 390 px" in where for kind, where in found if kind == "scrolls sideways")
    assert all(", dark: p. " in where for kind, where in found if kind == "too pale")
    assert len([where for kind, where in found if kind == "error"]) == 2  # the script's, and the picture that is not there
