"""A real JupyterLab on this machine, and what a reader does in it, through Playwright and the system's Chromium."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # else cells out of sight are not in the page
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}


@contextlib.contextmanager
def jupyterlab(root: Path, scratch: Path, settings: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Serve `root`, with settings by the plugin's name; gives the address, where `{name}` stands for a file.

    Settings in force, log and all else that JupyterLab writes go to `scratch`.
    """
    for name in {**SETTINGS, **settings}:
        file = scratch / "settings" / (name.replace(":", "/") + ".jupyterlab-settings")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(SETTINGS.get(name, {}) | settings.get(name, {})))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": root,
        "ServerApp.allow_root": True,
        "ServerApp.open_browser": False,
        "IdentityProvider.token": token,
        "LabApp.expose_app_in_browser": True,
        "LabApp.news_url": "",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "JUPYTERLAB_SETTINGS_DIR": str(scratch / "settings")}
    environment |= {name: str(scratch / folder) for name, folder in folders.items()}
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    log = scratch / "jupyterlab.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, log)
            yield f"http://127.0.0.1:{port}/lab/tree/{{name}}?token={token}&reset"
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def browser_page(chromium: str) -> Iterator[Any]:
    """A page with `errors` (the console's) and `outside` (addresses beyond this machine, which are not fetched)."""
    try:
        with _playwright_page(chromium) as page:
            yield page
    finally:
        # Playwright ends its own process without waiting for it, of which Python warns when it clears up.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@contextlib.contextmanager
def _playwright_page(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=list(FLAGS))
        page: Any = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.errors, page.outside = [], []
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)

        def allow_this_machine(route: Any) -> None:
            address = route.request.url
            if address.startswith(("http://127.0.0.1:", "data:", "blob:")):
                route.continue_()
            else:
                page.outside.append(address)
                route.abort()

        page.route("**/*", allow_this_machine)
        try:
            yield page
        finally:
            browser.close()


def open_notebook(page: Any, address: str) -> None:
    """Open a notebook and wait until its kernel is there."""
    page.goto(address)
    page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell", timeout=90_000)
    page.evaluate(
        """async () => {
            await window.jupyterapp.restored;
            const panel = window.jupyterapp.shell.currentWidget;
            await panel.context.ready;
            await panel.sessionContext.ready;
        }"""
    )


def run_all(page: Any, timeout_seconds: int = 300) -> list[list[Any]]:
    """Run every cell; returns the errors as [number of the cell, what was raised], and what went to stderr."""
    page.set_default_timeout(1000 * timeout_seconds)
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    failed: list[list[Any]] = page.evaluate(
        """() => window.jupyterapp.shell.currentWidget.content.widgets.flatMap((cell, index) =>
            cell.model.type !== 'code' ? [] : cell.model.outputs.toJSON()
                .filter(output => output.output_type === 'error' || output.name === 'stderr')
                .map(output => [index, output.ename || output.text]))"""
    )
    return failed


def shut_down(page: Any) -> None:
    """End the notebook's kernel."""
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")


def panels(page: Any) -> list[Any]:
    """The live panels of the notebook that have a slider, as Playwright locators."""
    boxes = page.locator(".jp-OutputArea .widget-vbox", has=page.locator("> img.widget-image"))
    return [panel for panel in boxes.all() if panel.locator(".noUi-handle").count()]


def press(panel: Any, handle: Any, key: str) -> float:
    """Press a key on a slider's handle; the milliseconds until the panel's image shows another picture."""
    image = panel.locator("img.widget-image")
    image.evaluate(
        """image => { image.changed = new Promise((resolve, reject) => {
            setTimeout(() => reject(new Error('no new picture within 20 seconds')), 20000);
            const pressed = [];
            document.addEventListener('keydown', () => pressed.push(performance.now()), {capture: true, once: true});
            image.addEventListener('load', () => resolve(performance.now() - pressed[0]), {once: true});
        }); }"""
    )
    handle.press(key)
    milliseconds: float = image.evaluate("image => image.changed")
    return milliseconds


def caption(panel: Any) -> str:
    """The text under the panel's picture."""
    return str(panel.locator("> .widget-html").last.inner_text())


def next_caption(panel: Any, said: str) -> str:
    """The caption when it is no longer `said`; `said` if it still is after five seconds.

    It comes in a message of its own behind the picture's, so the picture may be seen before it is there.
    """
    deadline = time.monotonic() + 5
    while (now := caption(panel)) == said and time.monotonic() < deadline:
        panel.page.wait_for_timeout(10)
    return now
