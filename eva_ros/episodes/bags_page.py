"""The page of `eva bags view`: how it looks, and the table on top that leads to each bag."""

from collections.abc import Sequence
from html import escape
import os
from pathlib import Path

from eva_ros.episodes.check import BagCheck
from eva_ros.episodes.check import PARTIAL
from eva_ros.episodes.check import UNUSABLE
from eva_ros.episodes.check import USABLE

# The page fetches nothing, so its style travels inside it.
_STYLE = """
:root {
  --paper: #fbfbfd; --card: #fff; --ink: #16181d; --soft: #5d6472; --line: #e3e6ec;
  --usable: #14804a; --partial: #975a16; --unusable: #b4231d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #101217; --card: #181b22; --ink: #e9ebf0; --soft: #98a0b0; --line: #2a2f3a;
    --usable: #4cc38a; --partial: #e7b45c; --unusable: #ff7b70;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif;
}
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 72px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 19px; line-height: 1.35; margin: 0; overflow-wrap: anywhere; }
h3 { font-size: 15px; margin: 26px 0 8px; overflow-wrap: anywhere; }
a { color: inherit; text-underline-offset: 3px; text-decoration-color: var(--soft); }
.lead, .facts, figcaption, th, .legend, summary { color: var(--soft); }
.lead { margin: 0 0 18px; overflow-wrap: anywhere; }
.facts { font-weight: 400; margin: 4px 0; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 18px 20px; margin: 16px 0;
}
.head { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 12px; }
.head .up { margin-left: auto; color: var(--soft); font-size: 13px; }
.pill {
  border: 1px solid currentColor; border-radius: 99px; padding: 0 10px; font-size: 13px;
  font-weight: 600; white-space: nowrap;
}
.usable { color: var(--usable); } .partial { color: var(--partial); }
.unusable { color: var(--unusable); }
ul { margin: 10px 0; padding-left: 20px; } li { margin: 3px 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--line); }
th { font-weight: 500; font-size: 13px; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; overflow-wrap: anywhere; }
.words { text-align: left; }
tr:last-child td { border-bottom: 0; }
summary { cursor: pointer; margin: 8px 0; }
.strip { display: grid; gap: 8px; }
.strip { grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--tile)), 1fr)); }
figure { margin: 0; }
figure img { display: block; width: 100%; border-radius: 6px; }
figcaption { text-align: center; font-size: 13px; font-variant-numeric: tabular-nums; }
.arms { display: grid; gap: 12px 24px; margin-top: 14px; }
.arms { grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
.arms b { font-size: 13px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--line); }
svg polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 12px; }
.legend i {
  display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 5px;
  vertical-align: 3px;
}
@media (max-width: 600px) {
  main { padding: 20px 12px 48px; }
  .card { padding: 14px; border-radius: 10px; }
  th, td { padding: 6px; }
  .stacked tr { display: flex; flex-wrap: wrap; align-items: center; gap: 2px 12px;
    padding: 9px 0; border-bottom: 1px solid var(--line); font-size: 14px; }
  .stacked tr:first-child { display: none; }
  .stacked tr:last-child { border-bottom: 0; }
  .stacked td { padding: 0; border: 0; }
  .stacked td:first-child { flex: 1 0 100%; font-size: 15px; }
  .stacked [data-unit]:not(:empty)::after { content: ' ' attr(data-unit); color: var(--soft); }
}
@media print { .card { break-inside: avoid; } }
"""
_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>Bags</title><style>{_STYLE}</style></head><body><main id="top"><h1>Bags</h1>'
)


def page(checks: Sequence[BagCheck], sections: Sequence[str]) -> str:
    """Return the whole page: what all bags are like, a table where they are several, and each.

    Args:
        checks: what was found in each bag.
        sections: of each; the one of number N has the id `bag-N`.
    """
    table = _overview(checks) if len(checks) > 1 else ''
    lead = f'<p class="lead">{escape(_summed_up(checks))}</p>'
    return '\n'.join([_HEAD, lead, table, *sections, '</main></body></html>']) + '\n'


def pill(verdict: str) -> str:
    """Return a verdict in its colour."""
    return f'<span class="pill {verdict}">{verdict}</span>'


def _summed_up(checks: Sequence[BagCheck]) -> str:
    counts = [
        f'{count} {verdict}'
        for verdict in (USABLE, PARTIAL, UNUSABLE)
        if (count := sum(check.verdict == verdict for check in checks))
    ]
    place = _common(checks)
    where = f' in {place}' if place else ''
    noun = 'bag' if len(checks) == 1 else 'bags'
    episodes = sum(len(check.episodes) for check in checks)
    seconds = sum(check.usable_s for check in checks)
    return (
        f'{len(checks)} {noun}{where}: {", ".join(counts)}; {episodes} episodes, '
        f'{seconds:.1f} usable seconds'
    )


def _common(checks: Sequence[BagCheck]) -> str:
    """Return the folder that holds all bags where they are several, '' where there is none."""
    folders = [str(Path(check.path).parent) for check in checks]
    try:
        return os.path.commonpath(folders) if len(folders) > 1 else ''
    except ValueError:  # some are relative and some are not
        return ''


def _overview(checks: Sequence[BagCheck]) -> str:
    place, rows = _common(checks), []
    for number, check in enumerate(checks):
        name = os.path.relpath(check.path, place) if place else check.path
        rows.append(
            f'<tr><td><a href="#bag-{number}">{escape(name)}</a>'
            f'<td class="words">{pill(check.verdict)}'
            f'<td data-unit="episodes">{len(check.episodes)}'
            f'<td data-unit="s">{check.usable_s:.1f}'
            f'<td data-unit="findings">{len(check.reasons) or ""}'
        )
    return (
        '<div class="card wide"><table class="stacked"><tr><th>bag<th class="words">verdict'
        f'<th>episodes<th>usable s<th>findings{"".join(rows)}</table></div>'
    )
