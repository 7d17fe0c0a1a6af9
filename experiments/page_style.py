"""How the page looks, in light and in dark windows."""

CSS = """
:root { color-scheme: light dark; --back: #fcfcfa; --ink: #1d1d1b; --soft: #6b6b66;
  --line: #deded8; --card: #ffffff; --link: #2c5d8f; --better: #1d6b3c; --worse: #a83a24; }
@media (prefers-color-scheme: dark) {
  :root { --back: #161715; --ink: #e6e5e0; --soft: #9d9c95; --line: #34352f; --card: #1e1f1c;
    --link: #8db8e2; --better: #7cc79a; --worse: #ee9079; }
  section > figure img { filter: brightness(.88); } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.2rem 5rem; max-width: 110rem; background: var(--back);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.2; text-wrap: balance; overflow-wrap: anywhere; }
h2 { margin-top: 3.2rem; padding-top: 1.1rem; border-top: 1px solid var(--line); }
h3 { margin-top: 2.4rem; }
p, li { max-width: 48rem; overflow-wrap: anywhere; }
a { color: var(--link); }
nav ul { columns: 4 14rem; padding: 0; list-style: none; }
nav li { break-inside: avoid; }
code { font-size: .88em; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); }

/* Tables are as wide as the window lets them be; names stay where figures scroll away. */
.table { overflow-x: auto; width: fit-content; max-width: 100%; margin: 1rem 0;
  border: 1px solid var(--line); border-radius: 6px; background: var(--card); }
table { border-collapse: separate; border-spacing: 0; font-size: .8rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .6rem; text-align: left; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
td.long { white-space: normal; min-width: 16rem; }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { position: sticky; left: 0; z-index: 1;
  background: var(--card); }
.arms-table th:first-child, .arms-table td:first-child { width: 6.8rem; min-width: 6.8rem;
  max-width: 6.8rem; white-space: normal; overflow-wrap: anywhere; }
.arms-table th:nth-child(2), .arms-table td:nth-child(2) { position: sticky; left: 6.8rem;
  z-index: 1; background: var(--card); border-right: 1px solid var(--line); }
.arms-table tbody tr:not(:first-child):has(td:first-child:not(:empty)) td {
  border-top: 1px solid var(--line); }
.arms-table td { border-bottom: 0; }
.better { color: var(--better); font-weight: 600; }
.worse { color: var(--worse); font-weight: 600; }

/* Pictures are drawn on white: in a dark window they lie on a card. */
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; border-radius: 6px; background: #fff;
  border: 1px solid var(--line); padding: .5rem; }
figcaption { color: var(--soft); font-size: .85rem; max-width: 48rem; }
.arms { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr));
  max-width: 76rem; }
.arms figure { margin: 0; max-width: 24rem; }
.arms img { width: 100%; padding: 0; }
.charts { display: flex; flex-wrap: wrap; gap: 1.5rem; margin: 1rem 0; }
.charts svg { max-width: 100%; height: auto; }
@media (max-width: 40rem) {
  body { padding: 1rem .7rem 3rem; }
  td.long { min-width: 11rem; }
  th:first-child, td:first-child { max-width: 7.5rem; white-space: normal;
    overflow-wrap: break-word; }
  td.long:first-child { min-width: 7.5rem; }
  .arms-table th:first-child, .arms-table td:first-child { width: 5.2rem; min-width: 5.2rem;
    max-width: 5.2rem; }
  .arms-table th:nth-child(2), .arms-table td:nth-child(2) { left: 5.2rem; white-space: normal;
    min-width: 4.6rem; max-width: 5rem; } }
"""
