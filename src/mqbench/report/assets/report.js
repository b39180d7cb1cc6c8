"use strict";
// Theme, sortable tables, filters. Without this script the pages are whole, but neither sort nor filter.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const kept = {
    get: () => { try { return localStorage.getItem("mqbench-theme"); } catch { return null; } },
    set: (theme) => { try { localStorage.setItem("mqbench-theme", theme); } catch { /* a private window keeps nothing */ } },
  };
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  if (kept.get()) root.dataset.theme = kept.get();

  const theme = () => {
    const button = document.getElementById("theme");
    const name = () => { button.textContent = dark() ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      kept.set(root.dataset.theme);
      name();
    });
    name();
  };

  // What is sorted and filtered stands behind the # of the address, so that it can be sent and survives a reload.
  const state = () => new URLSearchParams(location.hash.slice(1));
  const remember = (name, value) => {
    const now = state();
    if ((now.get(name) ?? "") === (value || "")) return;
    if (value) now.set(name, value); else now.delete(name);
    history.replaceState(null, "", now.size ? "#" + now : location.pathname + location.search);
  };

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    return text === "" ? null : isNaN(text) ? text : Number(text);
  };
  const order = (a, b) => typeof a === "number" && typeof b === "number"
    ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });

  const sort = (table, column, up) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
    // what has no value stands at the end, whichever way
    rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : up ? order(a, b) : order(b, a));
    body.append(...rows.map(([, row]) => row));
    for (const [i, head] of [...table.tHead.rows[0].cells].entries()) {
      if (i === column) head.setAttribute("aria-sort", up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
    table.dispatchEvent(new Event("sorted"));
  };

  const sortable = (table) => {
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      if (!("sort" in head.dataset)) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        // numbers start with the largest, names with the first
        const up = now ? now === "descending" : head.dataset.sort !== "down";
        sort(table, column, up);
        if (table.id) remember("sort-" + table.id, (up ? "" : "-") + column);
      });
    }
    const wanted = table.id && state().get("sort-" + table.id);
    if (wanted) sort(table, Math.abs(Number(wanted)), !wanted.startsWith("-"));
  };

  const filters = (form) => {
    // form.dataset would be the field of that name
    const table = document.getElementById(form.getAttribute("data-table"));
    const said = form.querySelector("output");
    const more = form.querySelector("button[type=button]");
    let most = Number(table.dataset.most);
    const apply = () => {
      const asked = [...new FormData(form)].filter(([, value]) => value.trim() !== "");
      const rows = table.tBodies[0].rows;
      let found = 0;
      for (const row of rows) {
        const fits = asked.every(([name, value]) => name === "text"
          ? value.toLowerCase().split(/\s+/).every((word) => row.textContent.toLowerCase().includes(word))
          : row.dataset[name] === value);
        found += fits;
        // a browser takes seconds to lay out thousands of rows, and nobody reads them
        const shown = fits && found <= most;
        if (row.hidden === shown) row.hidden = !shown;
      }
      more.hidden = found <= most;
      said.textContent = (found > most ? "the first " + most + " of " + found + " that fit, of " : found + " of ")
        + rows.length + " rows";
      for (const field of form.elements) if (field.name) remember(field.name, field.value.trim());
    };
    for (const field of form.elements) {
      const wanted = field.name && state().get(field.name);
      if (wanted) field.value = wanted;
    }
    form.addEventListener("input", apply);
    table.addEventListener("sorted", apply);
    more.addEventListener("click", () => { most = Infinity; apply(); });
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  };

  const live = (seconds) => {
    const button = document.getElementById("live");
    let on = true;
    button.addEventListener("click", () => {
      on = !on;
      button.setAttribute("aria-pressed", String(on));
    });
    setInterval(() => {
      const typing = document.activeElement && document.activeElement.matches("input, select");
      if (on && !typing && !document.hidden) location.reload();
    }, 1000 * seconds);
  };

  document.addEventListener("DOMContentLoaded", () => {
    theme();
    document.querySelectorAll("table.sortable").forEach(sortable);
    document.querySelectorAll("form.filters").forEach(filters);
    if (root.dataset.live) live(Number(root.dataset.live));
  });
})();
