/* What a page of leuknb can do beyond being read; everything is there to read without it. */
(() => {
"use strict";
const root = document.documentElement;
const one = (query, within = document) => within.querySelector(query);
const all = (query, within = document) => [...within.querySelectorAll(query)];
const make = (tag, fields = {}, ...children) => {
  const e = Object.assign(document.createElement(tag), fields);
  e.append(...children);
  return e;
};
const data = (id) => { const e = document.getElementById(id); return e ? JSON.parse(e.textContent) : null; };
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

/* what scrolls sideways can be reached by keyboard and has a name */
const nameScrolling = () => {
  for (const box of all(".scroll, pre")) {
    if (box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0; box.setAttribute("role", "region");
      const caption = one("caption", box);
      box.setAttribute("aria-label", caption ? caption.textContent : "Scrolls sideways");
    } else { box.removeAttribute("tabindex"); box.removeAttribute("role"); box.removeAttribute("aria-label"); }
  }
};
addEventListener("resize", nameScrolling);
document.addEventListener("toggle", nameScrolling, true);

/* enlarging a picture */
const close = make("button", { type: "button", textContent: "Close" });
const picture = make("img"), words = make("p", { id: "enlarged-words" });
const dialog = make("dialog", { ariaLabel: "Enlarged picture" },
  make("div", { className: "tools" }, close), picture, words);
document.body.append(dialog);
close.addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
const enlarge = (img) => {
  const caption = one("figcaption", img.closest("figure") || make("div"));
  picture.src = img.src; picture.alt = img.alt;
  picture.style.width = `${Math.max(img.naturalWidth * (img.matches(".thumb") ? 3 : 1.5), 240)}px`;
  words.textContent = caption ? caption.textContent : img.dataset.words || "";
  dialog.showModal();
};
for (const img of all("figure img, img.thumb, .output_png img")) {
  const button = make("button", { type: "button", className: "zoom" });
  button.setAttribute("aria-label", `Enlarge: ${img.dataset.words || img.alt}`);
  button.setAttribute("aria-haspopup", "dialog");
  img.replaceWith(button); button.append(img);
  button.addEventListener("click", () => enlarge(img));
}

/* tables that sort */
const value = (cell) => cell.dataset.value ?? cell.textContent.trim();
const order = (a, b) => {
  const x = Number(a), y = Number(b), numbers = a !== "" && b !== "" && !isNaN(x) && !isNaN(y);
  return numbers ? x - y : a.localeCompare(b, "en", { numeric: true });
};
const sortBy = (table, th, direction) => {
  const body = table.tBodies[0], at = th.cellIndex, sign = direction === "ascending" ? 1 : -1;
  for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", direction);
  const compare = (r, s) => sign * order(value(r.cells[at]), value(s.cells[at])) || r.dataset.at - s.dataset.at;
  body.append(...[...body.rows].sort(compare));
};
for (const th of all("table.sortable th[data-sort]")) {
  const button = make("button", { type: "button", className: "sort" }, ...th.childNodes);
  th.append(button);
  const next = () => (th.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
  button.addEventListener("click", () => sortBy(th.closest("table"), th, next()));
}

/* the images one by one: another classifier, a filter */
const images = data("images-data");
if (images) {
  const table = one("#images-table"), rows = [...table.tBodies[0].rows];
  const [chooser, text, truth, which, count] =
    ["model", "text", "truth", "which", "count"].map((name) => one(`#images-${name}`));
  const filter = () => {
    const wanted = text.value.trim().toLowerCase();
    let n = 0;
    for (const row of rows) {
      row.hidden = !((!wanted || row.dataset.text.toLowerCase().includes(wanted))
        && (!truth.value || row.dataset.truth === truth.value)
        && (!which.value || (which.value === "wrong") === row.classList.contains("wrong")));
      n += !row.hidden;
    }
    count.textContent = `${n} of ${rows.length} images shown`;
  };
  const choose = () => {
    const model = images.models[chooser.value];
    for (const row of rows) {
      const at = row.dataset.at, called = images.classes[model.called[at]];
      row.classList.toggle("wrong", called !== images.classes[row.dataset.truth]);
      one(".called", row).textContent = called;
      one(".verdict", row).textContent = model.verdict[at];
      all(".score", row).forEach((cell, k) => {
        const score = model.scores[at][k];
        cell.dataset.value = score ?? "";
        cell.textContent = score === null ? "undefined" : score.toFixed(3);
      });
    }
    const sorted = one("th[aria-sort]", table);
    if (sorted) sortBy(table, sorted, sorted.getAttribute("aria-sort"));
    filter();
  };
  for (const control of [truth, which]) control.addEventListener("change", filter);
  text.addEventListener("input", filter);
  chooser.addEventListener("change", choose);
  choose();
}

/* the threshold */
const sets = data("threshold-data");
if (sets) {
  const slider = one("#threshold");
  const [chooser, where, back, strip, note] =
    ["set", "value", "back", "strip", "note"].map((name) => one(`#threshold-${name}`));
  const svg = (tag, fields, text = "") => {
    const e = document.createElementNS(strip.namespaceURI, tag);
    for (const k in fields) e.setAttribute(k, fields[k]);
    e.textContent = text;
    return e;
  };
  const percent = (v) => (isNaN(v) ? "undefined (0/0)" : `${(100 * v).toFixed(1)} %`);
  let set, scale, cut, ends;
  const cutAt = (i) => {
    if (i === set.start) return set.threshold;
    if (i === 0) return set.score[0];
    return i === set.score.length ? set.score[i - 1] : (set.score[i - 1] + set.score[i]) / 2;
  };
  const counts = (i) => {
    const sum = (v, from, to) => v.slice(from, to).reduce((a, b) => a + b, 0);
    return { tp: sum(set.positive, i), fn: sum(set.positive, 0, i),
      fp: sum(set.negative, i), tn: sum(set.negative, 0, i) };
  };
  const draw = () => {
    const low = Math.min(set.score[0], set.threshold), high = Math.max(set.score.at(-1), set.threshold);
    const width = high - low || 1;
    const span = Math.max(strip.clientWidth, 280), left = span < 500 ? 76 : 110, fits = span < 500 ? 11 : 16;
    strip.setAttribute("viewBox", `0 0 ${span} 98`);
    ends = [left - 8, span - 6];
    scale = (s) => left + (span - left - 16) * (s - low) / width;
    strip.replaceChildren();
    for (const [lane, y, kind] of [[set.positive, 24, "pos"], [set.negative, 58, "neg"]]) {
      strip.append(svg("line", { x1: ends[0], x2: ends[1], y1: y, y2: y }));
      const words = kind === "pos" ? sets.positive : sets.negative;
      const label = words.length > fits ? words.slice(0, fits - 1) + "…" : words;
      strip.append(svg("text", { x: left - 14, y: y + 4, "text-anchor": "end" }, label));
      lane.forEach((n, i) => {
        const r = Math.min(4 * Math.sqrt(n), 14);
        if (n) strip.append(svg("circle", { cx: scale(set.score[i]), cy: y, r, class: kind }));
      });
    }
    cut = svg("line", { y1: 6, y2: 76, class: "cut" });
    const axis = span < 500 ? "score" : "score: images right of the line are called positive";
    strip.append(cut, svg("text", { x: left, y: 92 }, low.toPrecision(3)),
      svg("text", { x: span - 16, y: 92, "text-anchor": "end" }, high.toPrecision(3)),
      svg("text", { x: (left + span - 16) / 2, y: 92, "text-anchor": "middle" }, axis));
  };
  const show = () => {
    const i = Number(slider.value), c = counts(i), n = c.tp + c.fn + c.fp + c.tn;
    const of = { sensitivity: [c.tp, c.tp + c.fn], specificity: [c.tn, c.tn + c.fp], precision: [c.tp, c.tp + c.fp],
      accuracy: [c.tp + c.tn, n], f1: [2 * c.tp, 2 * c.tp + c.fp + c.fn] };
    for (const name in c) one(`#count-${name}`).textContent = c[name];
    for (const name in of) {
      const [part, whole] = of[name], cell = one(`#rate-${name}`);
      cell.dataset.value = part / whole; cell.textContent = percent(part / whole);
      if (name !== "f1") one(`#of-${name}`).textContent = `${part} of ${whole}`;
    }
    const at = cutAt(i).toPrecision(3), last = set.score.length;
    const place = i === 0 ? "below every score" : i === last ? "above every score" : at;
    where.textContent = i === set.start ? `${at} (the decision threshold)` : place;
    const rate = (name) => `${name} ${percent(of[name][0] / of[name][1])}`;
    slider.setAttribute("aria-valuetext", `${where.textContent}: ${rate("sensitivity")}, ${rate("specificity")}`);
    const beyond = i === 0 ? ends[0] : i === last ? ends[1] : undefined;
    const x = i === set.start ? scale(cutAt(i)) : beyond ?? scale(cutAt(i));
    cut.setAttribute("x1", x); cut.setAttribute("x2", x);
    note.textContent = set.words;
    back.disabled = i === set.start;
  };
  const choose = () => {
    set = sets.sets[chooser.value];
    slider.max = set.score.length; slider.value = set.start;
    draw(); show();
  };
  slider.addEventListener("input", show);
  chooser.addEventListener("change", choose);
  addEventListener("resize", () => { draw(); show(); });
  back.addEventListener("click", () => { slider.value = set.start; show(); slider.focus(); });
  choose();
}

/* paper: open what is folded, except code, and fold it again */
let opened = [];
addEventListener("beforeprint", () => {
  opened = all("details:not(.code):not([open])");
  for (const d of opened) d.open = true;
  for (const img of all("img[loading]")) img.loading = "eager";
});
addEventListener("afterprint", () => { for (const d of opened) d.open = false; });
nameScrolling();
})();
