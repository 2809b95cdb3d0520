"""What the Web UI's list of workflows shows to a trader: our columns, saved views, and a short address for each.

The UI keeps columns and views in the browser, by address and namespace, and its own columns are ids and times. So its
page gets a script that puts ours there, once; whoever has chosen columns keeps them, and a view that was deleted stays
away. The keys and shapes are those of UI 2.42 (`src/lib/stores` of temporalio/ui); one that has others ignores them.
"""

import hashlib
import json
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from domain.visibility import COLUMNS, VIEWS

__all__ = ["VIEW_PATHS", "view_address", "with_views"]

_USUAL = ("Status", "Workflow ID", "Run ID", "Type", "Start", "End")
"""The UI's own columns: whoever has these has chosen none."""

VIEW_PATHS: Mapping[str, str] = {f"/{name.lower().replace(' ', '-')}": name for name in VIEWS}
"""Short address → the view's name."""

_SCRIPT = """
(() => {
  const ours = %s;
  const read = (key) => { try { return JSON.parse(localStorage.getItem(key)) || {}; } catch { return {}; } };
  const write = (key, value) => localStorage.setItem(key, JSON.stringify(value));
  try {
    const mark = `bottrader-views-${ours.namespace}`;
    const before = read(mark);
    if (before.version === ours.version) return;
    const columns = read('namespace-workflow-table-columns');
    const chosen = JSON.stringify((columns[ours.namespace] || []).map((column) => column.label));
    if ([[], ours.usual, before.columns].some((given) => chosen === JSON.stringify(given))) {
      columns[ours.namespace] = ours.columns.map((label) => ({label, pinned: false}));
      write('namespace-workflow-table-columns', columns);
    }
    const views = read('saved-workflow-queries');
    const names = ours.views.map((view) => view.name);
    const others = (views[ours.namespace] || []).filter((view) => !names.includes(view.name));
    views[ours.namespace] = [...others, ...ours.views];
    write('saved-workflow-queries', views);
    write(mark, {version: ours.version, columns: ours.columns});
  } catch { /* a browser that keeps nothing shows the UI's own columns */ }
})();
"""


def view_address(name: str, namespace: str) -> str:
    """Where the UI shows a view: path and query."""
    return f"/namespaces/{quote(namespace, safe='')}/workflows?{urlencode({'query': VIEWS[name]})}"


def with_views(page: bytes, namespace: str) -> bytes:
    """The UI's page with our script before all of its own; a page without a head stays as it is.

    It comes before the page's own rule about scripts, too, which counts from where it stands.
    """
    return page.replace(b"<head>", b"<head><script>" + _script(namespace).encode() + b"</script>", 1)


def _script(namespace: str) -> str:
    ours = {
        "namespace": namespace,
        "usual": _USUAL,
        "columns": COLUMNS,
        "views": [
            {"id": f"bottrader{path.replace('/', '-')}", "name": name, "query": VIEWS[name], "type": "user"}
            for path, name in VIEW_PATHS.items()
        ],
    }
    version = hashlib.sha256(json.dumps(ours).encode()).hexdigest()[:12]
    # Nothing in a script's text may look like its end.
    return _SCRIPT % json.dumps({**ours, "version": version}).replace("<", "\\u003c")
