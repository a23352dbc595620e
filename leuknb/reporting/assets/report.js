/* What a whole page of leuknb can do beyond its parts (live.js, before this); all is there to read without it. */
(() => {
"use strict";
const root = document.documentElement;
const one = (query) => document.querySelector(query), all = (query) => leuknb.all(query, document);
root.classList.add("js");

/* colours */
const system = matchMedia("(prefers-color-scheme: dark)"), theme = one("#theme");
const shown = () => root.dataset.theme || (system.matches ? "dark" : "light");
const markTheme = () => theme.setAttribute("aria-pressed", shown() === "dark");
theme.addEventListener("click", () => { root.dataset.theme = shown() === "dark" ? "light" : "dark"; markTheme(); });
system.addEventListener("change", markTheme);
markTheme();
one("#print").addEventListener("click", () => print());

/* contents: open beside a wide page, folded above a narrow one */
const wide = matchMedia("(min-width: 78rem)"), fold = one(".contents details");
if (fold) {
  const place = () => { fold.open = wide.matches; };
  wide.addEventListener("change", place); place();
  const links = new Map(all(".contents a").map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
  const heads = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  const mark = () => {
    const here = heads.filter((h) => h.getBoundingClientRect().top < innerHeight / 3).pop();
    for (const [id, a] of links) {
      if (here && here.id === id) a.setAttribute("aria-current", "true"); else a.removeAttribute("aria-current");
    }
  };
  let due = false;
  addEventListener("scroll", () => {
    if (!due) { due = true; requestAnimationFrame(() => { due = false; mark(); }); }
  }, { passive: true });
  mark();
  fold.addEventListener("click", (event) => { if (event.target.closest("a") && !wide.matches) fold.open = false; });
}

/* paper: open what is folded, except code, and fold it again */
let opened = [];
addEventListener("beforeprint", () => {
  opened = all("details:not(.code):not([open])");
  for (const d of opened) d.open = true;
  for (const img of all("img[loading]")) img.loading = "eager";
});
addEventListener("afterprint", () => { for (const d of opened) d.open = false; });
leuknb.enliven(document);
})();
