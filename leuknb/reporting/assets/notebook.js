/* Brings a report's parts to life in the outputs of a notebook, now and whenever one is shown anew. */
(() => {
"use strict";
document.getElementById("leuknb-style")?.remove();
const style = Object.assign(document.createElement("style"), { id: "leuknb-style", textContent: STYLE });
document.head.append(style);
const look = () => {
  for (const part of leuknb.all(".leuknb:not(.js)", document)) { part.classList.add("js"); leuknb.enliven(part); }
};
globalThis.leuknbWatch?.disconnect();
globalThis.leuknbWatch = new MutationObserver(look);
globalThis.leuknbWatch.observe(document.body, { childList: true, subtree: true });
look();
})();
