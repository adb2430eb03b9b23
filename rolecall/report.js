"use strict";
// Search and filter: show or hide what is already in the page.
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

  let before = null; // The units that were open before the search.

  function apply() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const filtered = words.length > 0 || outcome.value !== "" || reason.value !== "";
    const shown = new Set();
    let count = 0;
    for (const row of rows) {
      const matches = (!outcome.value || row.outcome === outcome.value) && (!reason.value || row.reason === reason.value)
        && words.every((word) => row.text.includes(word));
      if (row.element.hidden === matches) row.element.hidden = !matches;
      if (!matches) continue;
      count += 1;
      for (let unit = row.unit; unit && !shown.has(unit); unit = unit.parentElement.closest(".unit")) shown.add(unit);
    }
    if (filtered && !before) before = units.filter((unit) => detailsOf(unit).open);
    for (const unit of units) {
      unit.hidden = filtered && !shown.has(unit);
      if (filtered) detailsOf(unit).open = shown.has(unit);
      else if (before) detailsOf(unit).open = before.includes(unit);
    }
    if (!filtered) before = null;
    found.textContent = filtered ? `${count.toLocaleString("en")} of ${all}` : all;
    $("none").hidden = count > 0 || !filtered;
  }

  let frame = 0;
  const schedule = () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(apply); };
  for (const type of ["input", "change"]) tools.addEventListener(type, schedule);
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.addEventListener("reset", () => setTimeout(schedule));
  search.addEventListener("keydown", (event) => { if (event.key === "Escape") { search.value = ""; schedule(); } });

  // Links of the legend and of the failures filter the accounts.
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

  // Download the data that the page embeds.
  const embedded = (id) => JSON.parse($(id).textContent);
  function save(text, type, suffix) {
    const { stage, generated_at: at } = embedded("data");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = `rolecall-${stage}-${at.slice(0, 10)}.${suffix}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
  const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  $("csv").addEventListener("click", () => {
    const { columns, escaped } = embedded("cells");
    const lines = embedded("data").accounts.map((account) => {
      const cells = { ...account, ...escaped[account.account_id] };
      return columns.map((column) => quoted(String(cells[column]))).join(",");
    });
    save([columns.join(","), ...lines, ""].join("\n"), "text/csv", "csv");
  });
  $("json").addEventListener("click", () => save(JSON.stringify(embedded("data"), null, 2) + "\n", "application/json", "json"));

  // Print everything expanded.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of closed) details.open = false; });

  tools.hidden = $("download").hidden = false;
  // A browser may restore the form's values after a reload.
  addEventListener("pageshow", apply);
})();
