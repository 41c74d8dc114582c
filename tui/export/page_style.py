"""The style sheet of the page: light, dark, narrow and on paper."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --paper: light-dark(#ffffff, #14161b); --ink: light-dark(#16181d, #e8e8ea);
  --faint: light-dark(#5b6069, #a0a4ad); --line: light-dark(#d0d4da, #3a3f49);
  --card: light-dark(#f4f5f7, #1e222a); --prompt: light-dark(#0550ae, #7cb7ff);
}
:root:has(#light:checked) { color-scheme: light; }
:root:has(#dark:checked) { color-scheme: dark; }
*, ::after { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 45vh; max-width: 46rem; background: var(--paper);
  color: var(--ink); font: 16px/1.7 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
h1 { font-size: 1.3rem; line-height: 1.3; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere; }
a { color: var(--prompt); }
.look { float: right; margin: 0 0 .5rem 1rem; padding: .1rem .6rem .2rem; font-size: .8rem;
  border: 1px solid var(--line); border-radius: .4rem; color: var(--faint); }
.look label { margin-right: .5rem; cursor: pointer; }
.look input { accent-color: var(--prompt); vertical-align: -.1em; margin: 0; }
nav ul { margin: .8rem 0; padding: 0; list-style: none; }
nav small, .facts, aside { color: var(--faint); font-size: .85rem; }
.facts { margin: .2rem 0; overflow-wrap: anywhere; }
.note { margin: .4rem 0; padding-left: .8rem; border-left: 3px solid var(--line);
  overflow-wrap: anywhere; }
.legend { font-size: .85rem; clear: both; }
.legend i { font-style: normal; padding: .1rem .45rem; }
.legend span { margin-left: .6rem; }
section { border-top: 1px solid var(--line); margin-top: 1.4rem; padding-top: 1rem;
  scroll-margin-top: 1rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: .8rem 0; }
.t { font-weight: inherit; border-radius: .15rem; cursor: default; }
.p { font-style: italic; color: var(--prompt); }
.c { color: var(--faint); }
.n { border-inline-start: 0.25em solid #2e9e5b; }
.t:hover, .t:focus { outline: 2px solid var(--ink); outline-offset: -1px; }
.text:hover .t:focus:not(:hover)::after { content: none; }
.t:hover::after, .t:focus::after { content: attr(data-card); z-index: 2; font-style: normal;
  font-weight: normal; color: var(--ink); white-space: pre; overflow: hidden; }
aside { z-index: 1; }
aside, .t:hover::after, .t:focus::after { position: fixed; left: 0; right: 0; bottom: 0;
  padding: .8rem 1.5rem; min-height: 7rem; background: var(--card); font-size: .85rem;
  line-height: 1.5; border-top: 1px solid var(--line); }
@media (min-width: 76rem) {
  body { max-width: 74rem; padding: 2rem 27rem 2rem 2rem; }
  aside, .t:hover::after, .t:focus::after { left: auto; bottom: auto; top: 2rem;
    right: max(2rem, calc(50% - 35rem)); width: 23rem; min-height: 22rem;
    border: 1px solid var(--line); border-radius: .5rem; }
}
@media print {
  :root:root:root { color-scheme: light; }
  body { max-width: none; padding: 0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .look, aside, .t:hover::after, .t:focus::after { display: none; content: none; }
  .t:hover, .t:focus { outline: none; }
  section { break-before: auto; }
  h2, .facts { break-after: avoid; }
}
"""
