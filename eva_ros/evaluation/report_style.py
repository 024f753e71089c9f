"""How the report page looks. The page fetches nothing, so its style travels inside it."""

CSS = """
:root {
  --paper: #fbfbfd; --card: #ffffff; --ink: #16181d; --soft: #5d6472; --line: #e3e6ec;
  --dream: #7a4fe0; --real: #16181d; --sent: #12a3a8; --limit: #d92f4b; --good: #14804a;
  --bad: #b4431d; --band: #eef3fb; --look: #b9c0cc; --decode: #e7a93c; --check: #d92f4b;
  --move: #12a3a8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #101217; --card: #181b22; --ink: #e9ebf0; --soft: #98a0b0; --line: #2a2f3a;
    --dream: #a988ff; --real: #f2f3f6; --sent: #35c3c8; --limit: #ff6b80; --good: #4cc38a;
    --bad: #f08a5d; --band: #1e2430; --look: #4a5160; --decode: #e7b45c; --check: #ff6b80;
    --move: #35c3c8;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif;
}
main { max-width: 1180px; margin: 0 auto; padding: 40px 28px 80px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.02em; margin: 0 0 6px; }
h2 { font-size: 20px; letter-spacing: -0.01em; margin: 44px 0 12px; }
h3 { font-size: 15px; margin: 26px 0 8px; }
p { max-width: 96ch; margin: 6px 0; }
h1 + .lead { margin-bottom: 22px; }
.lead, .note, figcaption, .facts { color: var(--soft); }
.note, figcaption { font-size: 13px; max-width: none; }
code { font: 13px/1.4 ui-monospace, 'DejaVu Sans Mono', monospace; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 20px 22px; margin: 14px 0;
}
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 14px; }
.tiles .card { margin: 0; padding: 14px 18px; }
.tiles b { display: block; font-size: 26px; line-height: 1.25; letter-spacing: -0.02em; }
.tiles span { color: var(--soft); font-size: 13px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 7px 10px; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; font-size: 13px; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th.words, td.words { text-align: left; }
tr:last-child td { border-bottom: 0; }
.pill {
  display: inline-block; border-radius: 99px; padding: 1px 10px; font-size: 13px;
  font-weight: 600; border: 1px solid currentColor;
}
.good { color: var(--good); } .bad { color: var(--bad); }
.head { display: flex; flex-wrap: wrap; align-items: baseline; gap: 6px 14px; }
.head h2 { margin: 0; }
.head q { color: var(--soft); }
svg { display: block; width: 100%; height: auto; }
svg.timeline { height: 24px; border-radius: 5px; }
.look { fill: var(--look); background: var(--look); }
.dream { fill: var(--dream); background: var(--dream); }
.decode { fill: var(--decode); background: var(--decode); }
.check { fill: var(--check); background: var(--check); }
.move { fill: var(--move); background: var(--move); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--soft); }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px;
  margin-right: 6px; vertical-align: -1px; }
.legend i.stroke { width: 20px; height: 0; border-radius: 0; border-top: 2.5px solid;
  background: none; vertical-align: 4px; }
.legend i.dashed { border-top-style: dashed; }
.joints text { fill: var(--soft); font-size: 8px; }
.joints text.name { fill: var(--ink); font-size: 9.5px; font-weight: 600; }
.joints .plot { fill: none; stroke: var(--line); }
.joints .moving { fill: var(--band); }
.joints polyline { fill: none; stroke-linejoin: round; }
.joints .decoded { stroke: var(--dream); stroke-width: 1.4; stroke-dasharray: 3 2; }
.joints .sent { stroke: var(--sent); stroke-width: 1.1; }
.joints .executed { stroke: var(--real); stroke-width: 1.2; }
.joints .limit { stroke: var(--limit); stroke-width: 1.3; }
.joints .range { fill: var(--line); }
.joints .reached { fill: var(--real); }
.turn { border-top: 1px solid var(--line); margin-top: 18px; padding-top: 16px; }
.turn h3 { margin-top: 0; }
summary { cursor: pointer; }
summary h3 { display: inline; margin-right: 12px; }
details[open] > summary { margin-bottom: 10px; }
details:not([open]).turn { margin-top: 10px; padding-top: 10px; }
.looks { display: grid; grid-template-columns: 1.15fr 2fr; gap: 26px; align-items: start; }
.cameras { display: grid; grid-template-columns: 1fr 1fr; gap: 6px; }
.cameras img { width: 100%; border-radius: 6px; display: block; }
.cameras img:first-child { grid-column: 1 / -1; }
.strip { display: grid; grid-template-columns: 74px repeat(6, 1fr); gap: 4px;
  align-items: center; font-size: 12px; color: var(--soft); }
.strip b { font-weight: 600; color: var(--ink); }
.strip .time { text-align: center; }
.frame { display: block; width: 100%; border-radius: 5px; background-repeat: no-repeat;
  background-position: calc(var(--at) * 100%) 0; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 240px)); gap: 18px; }
.film { animation: film var(--length, 2.4s) steps(var(--steps, 17), jump-none) infinite; }
@keyframes film { from { background-position: 0 0; } to { background-position: 100% 0; } }
@media (prefers-reduced-motion: reduce) { .film { animation: none; } }
@media (max-width: 800px) { .looks { grid-template-columns: 1fr; } }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""
