/* What a part of a report can do beyond being read, on the page and in a notebook; all is there to read without it. */
const leuknb = (() => {
"use strict";
const one = (query, within) => within.querySelector(query);
const all = (query, within) => [...within.querySelectorAll(query)];
const make = (tag, fields = {}, ...children) => {
  const e = Object.assign(document.createElement(tag), fields);
  e.append(...children);
  return e;
};

/* what scrolls sideways can be reached by keyboard, has a name and says so */
const nameScrolling = (within = document) => {
  for (const box of all(".scroll, .pair, pre", within)) {
    const more = box.scrollWidth > box.clientWidth + 1;
    box.classList.toggle("more", more);
    if (more) {
      const caption = one("caption", box) || one("img", box);
      box.tabIndex = 0; box.setAttribute("role", caption ? "region" : "group");
      box.setAttribute("aria-label", caption ? caption.textContent || caption.alt : "Scrolls sideways");
    } else for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
  }
};

/* a command that can be copied, where the browser allows it or not */
const copyText = async (text) => {
  try { await navigator.clipboard.writeText(text); return true; } catch { /* not allowed: the old way */ }
  const field = make("textarea", { value: text, readOnly: true, className: "unseen" });
  document.body.append(field); field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
};
const copying = (within) => {
  for (const command of all("pre.command", within)) {
    const button = make("button", { type: "button", className: "copy control", textContent: "Copy" });
    const told = make("span", { className: "small copied" });
    button.setAttribute("aria-label", `Copy the command ${command.textContent}`);
    told.setAttribute("role", "status");
    button.addEventListener("click", async () => {
      told.textContent = await copyText(command.textContent) ? "Copied." : "Not allowed here: select it and copy.";
      button.focus();
    });
    command.after(make("p", { className: "copying" }, button, " ", told));
  }
};

/* enlarging a picture */
let dialog;
const picture = make("img"), kept = make("span", { className: "kept" }), words = make("p", { id: "enlarged-words" });
const openDialog = () => {
  if (!dialog) {
    const close = make("button", { type: "button", textContent: "Close" });
    dialog = make("dialog", { ariaLabel: "Enlarged picture", className: "leuknb js" },
      make("div", { className: "tools" }, close), make("div", {}, picture, kept), words);
    document.body.append(dialog);
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }
  dialog.showModal();
};
/* in the dark a figure is dark around its photographs: they lie on it once more, with their own colours */
const keepColours = (img, over) => {
  over.style.backgroundImage = img.dataset.photographs ? `url("${img.src}")` : "none";
  over.style.clipPath = img.dataset.photographs || "none";
  return Boolean(img.dataset.photographs);
};
const enlarge = (img) => {
  openDialog();
  const figure = img.closest("figure"), caption = figure && one("figcaption", figure);
  picture.src = img.src; picture.alt = img.alt;
  picture.className = figure?.matches(".drawn") ? "drawn" : "";
  picture.parentElement.className = keepColours(img, kept) ? "pictured" : "";
  picture.style.width = `${Math.max(img.naturalWidth * (img.matches(".thumb") ? 3 : 1.5), 240)}px`;
  words.textContent = caption ? caption.textContent : img.dataset.words || "";
};
const enlarging = (within) => {
  for (const img of all("figure img, img.thumb, .output_png img", within)) {
    const button = make("button", { type: "button", className: "zoom" });
    button.setAttribute("aria-label", `Enlarge: ${img.dataset.words || img.alt}`);
    button.setAttribute("aria-haspopup", "dialog");
    img.replaceWith(button); button.append(img);
    const colours = make("span", { className: "kept" });
    if (keepColours(img, colours)) { button.classList.add("pictured"); button.append(colours); }
    button.addEventListener("click", () => enlarge(img));
  }
};

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
  table.dispatchEvent(new Event("sorted"));
};
const sorting = (within) => {
  for (const th of all("table.sortable th[data-sort]", within)) {
    const button = make("button", { type: "button", className: "sort" }, ...th.childNodes);
    th.append(button);
    const next = () => (th.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
    button.addEventListener("click", () => sortBy(th.closest("table"), th, next()));
  }
};

/* the images one by one: another classifier, a filter, page by page */
const PAGE = 25;
const imageByImage = (within) => {
  const block = one("#images-data", within);
  if (!block) return;
  const images = JSON.parse(block.textContent), table = one("#images-table", within), rows = [...table.tBodies[0].rows];
  const [chooser, text, truth, which, count, back, on] =
    ["model", "text", "truth", "which", "count", "back", "on"].map((name) => one(`#images-${name}`, within));
  let page = 0;
  const fits = (row) => {
    const wanted = text.value.trim().toLowerCase();
    return (!wanted || row.dataset.text.toLowerCase().includes(wanted))
      && (!truth.value || row.dataset.truth === truth.value)
      && (!which.value || (which.value === "wrong") === row.classList.contains("wrong"));
  };
  const show = () => {
    const found = [...table.tBodies[0].rows].filter(fits), last = Math.max(Math.ceil(found.length / PAGE) - 1, 0);
    page = Math.min(page, last);
    const shown = new Set(found.slice(page * PAGE, (page + 1) * PAGE));
    for (const row of rows) row.hidden = !shown.has(row);
    const first = page * PAGE + 1, end = page * PAGE + shown.size;
    const part = found.length > PAGE ? `, ${first} to ${end} of them here` : "";
    count.textContent = `${found.length} of ${rows.length} images${part}`;
    back.disabled = page === 0; on.disabled = page === last;
    nameScrolling(table.parentElement.parentElement);
  };
  const filter = () => { page = 0; show(); };
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
  table.addEventListener("sorted", filter);
  back.addEventListener("click", () => { page -= 1; show(); });
  on.addEventListener("click", () => { page += 1; show(); });
  chooser.addEventListener("change", choose);
  choose();
};

/* the threshold */
const threshold = (within) => {
  const block = one("#threshold-data", within);
  if (!block) return;
  const sets = JSON.parse(block.textContent);
  const slider = one("#threshold", within);
  const [chooser, where, back, strip, note] =
    ["set", "value", "back", "strip", "note"].map((name) => one(`#threshold-${name}`, within));
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
    for (const name in c) one(`#count-${name}`, within).textContent = c[name];
    for (const name in of) {
      const [part, whole] = of[name], cell = one(`#rate-${name}`, within);
      cell.dataset.value = part / whole; cell.textContent = percent(part / whole);
      if (name !== "f1") one(`#of-${name}`, within).textContent = `${part} of ${whole}`;
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
};

/* everything in one part of a document */
addEventListener("resize", () => nameScrolling());
document.addEventListener("toggle", () => nameScrolling(), true);
const enliven = (within) => {
  for (const give of [enlarging, copying, sorting, imageByImage, threshold, nameScrolling]) give(within);
};
return { all, enliven, one };
})();
