"use strict";
// Search and filter: everything is in the page already, and is only shown or hidden.
(() => {
  const $ = (id) => document.getElementById(id);
  const tools = $("tools"), search = $("search"), outcome = $("outcome"), reason = $("reason"), found = $("found");
  const all = found.textContent;
  const rows = [...document.querySelectorAll(".a")].map((element) => ({
    element,
    text: `${element.querySelector("code").textContent} ${element.querySelector("bdi").textContent}`.toLowerCase(),
    outcome: element.dataset.o,
    reason: element.dataset.r || "",
    unit: element.closest(".unit"),
  }));
  const units = [...document.querySelectorAll(".unit")];
  const detailsOf = (unit) => unit.firstElementChild;

  let before = null; // The units that were open before anything was searched for.

  function apply() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const narrowed = words.length > 0 || outcome.value !== "" || reason.value !== "";
    const shown = new Set();
    let count = 0;
    for (const row of rows) {
      const fits = (!outcome.value || row.outcome === outcome.value) && (!reason.value || row.reason === reason.value)
        && words.every((word) => row.text.includes(word));
      if (row.element.hidden === fits) row.element.hidden = !fits;
      if (!fits) continue;
      count += 1;
      for (let unit = row.unit; unit && !shown.has(unit); unit = unit.parentElement.closest(".unit")) shown.add(unit);
    }
    if (narrowed && !before) before = units.filter((unit) => detailsOf(unit).open);
    for (const unit of units) {
      unit.hidden = narrowed && !shown.has(unit);
      if (narrowed) detailsOf(unit).open = shown.has(unit);
      else if (before) detailsOf(unit).open = before.includes(unit);
    }
    if (!narrowed) before = null;
    found.textContent = narrowed ? `${count.toLocaleString("en")} of ${all}` : all;
    $("none").hidden = count > 0 || !narrowed;
  }

  let asked = 0;
  const soon = () => { cancelAnimationFrame(asked); asked = requestAnimationFrame(apply); };
  for (const changed of ["input", "change"]) tools.addEventListener(changed, soon);
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.addEventListener("reset", () => setTimeout(soon));
  search.addEventListener("keydown", (event) => { if (event.key === "Escape") { search.value = ""; soon(); } });

  // The legend and the failures lead to their accounts; a reason in the tree leads to what it means.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-outcome], a[data-reason]");
    if (!link) return;
    search.value = "";
    outcome.value = link.dataset.outcome || "";
    reason.value = link.dataset.reason || "";
    apply();
  });

  const openAll = (open) => {
    for (const unit of units) detailsOf(unit).open = open;
    if (before) before = open ? units : [];
  };
  $("expand").addEventListener("click", () => openAll(true));
  $("collapse").addEventListener("click", () => openAll(false));

  // Paper has nothing to open.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of closed) details.open = false; });

  tools.hidden = false;
  // A browser that brings a form's values back after a reload shows what they select.
  addEventListener("pageshow", apply);
})();
