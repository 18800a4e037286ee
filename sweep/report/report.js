"use strict";
// Tables can be sorted, filtered and saved; while the sweep runs, the page reloads itself and stays where it was.
(() => {
  const page = document.documentElement;
  const tables = [...document.querySelectorAll(".table")];
  const make = (tag, parent, text) => {
    const made = parent.appendChild(document.createElement(tag));
    if (text) made.textContent = text;
    return made;
  };

  const first = (text) => {
    const fraction = text.match(/^(\d+)\/(\d+)$/);
    const number = fraction ? fraction[1] / fraction[2] : parseFloat(text.replace("−", "-"));
    return Number.isNaN(number) ? null : number;
  };
  const compare = (a, b) => {
    const [x, y] = [first(a), first(b)];
    if (x !== null && y !== null) return x - y;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  const sort = (table, column, descending) => {
    const heads = [...table.querySelectorAll("thead th")];
    heads.forEach((head, index) => head.setAttribute("aria-sort", index !== column ? "none" : descending ? "descending" : "ascending"));
    const body = table.querySelector("tbody");
    const text = (row) => row.cells[column].textContent.trim();
    const empty = (each) => each === "" || each === "missing" || each === "-";
    [...body.rows]
      .sort((a, b) => {
        const [x, y] = [text(a), text(b)];
        if (empty(x) || empty(y)) return empty(x) - empty(y); // what is not there stays last
        return descending ? compare(y, x) : compare(x, y);
      })
      .forEach((row) => body.appendChild(row));
  };
  const filter = (box) => {
    const words = box.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...box.querySelectorAll("tbody tr")];
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    box.querySelector("output").textContent = `${shown} of ${rows.length} rows`;
  };
  const save = (box) => {
    const rows = [...box.querySelectorAll("tr")].filter((row) => !row.hidden);
    const quoted = (cell) => `"${cell.textContent.trim().replace(/"/g, '""')}"`;
    const text = rows.map((row) => [...row.cells].map(quoted).join(",")).join("\r\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff" + text + "\r\n"], { type: "text/csv" }));
    link.download = box.dataset.name.replace(/[^\w.=-]+/g, "_") + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  for (const [number, box] of tables.entries()) {
    const table = box.querySelector("table");
    [...table.querySelectorAll("thead th")].forEach((head, column) => {
      const name = head.textContent;
      head.textContent = "";
      head.setAttribute("aria-sort", "none");
      const button = make("button", head, name);
      button.type = "button";
      button.addEventListener("click", () => sort(table, column, head.getAttribute("aria-sort") === "ascending"));
    });
    const tools = document.createElement("div");
    tools.className = "tools";
    const label = make("label", tools, "Filter rows");
    label.htmlFor = `filter-${number}`;
    label.hidden = table.rows.length < 6; // few rows need no filter
    const input = make("input", tools);
    input.type = "search";
    input.id = label.htmlFor;
    input.autocomplete = "off";
    input.addEventListener("input", () => filter(box));
    make("output", tools).htmlFor = input.id;
    for (const each of tools.children) each.hidden = label.hidden;
    const button = make("button", tools, "Save as CSV");
    button.type = "button";
    button.addEventListener("click", () => save(box));
    box.prepend(tools);
    filter(box);
  }

  const key = "sweep " + location.pathname;
  const kept = (value) => {
    try {
      if (value === undefined) return JSON.parse(sessionStorage.getItem(key));
      if (value === null) sessionStorage.removeItem(key);
      else sessionStorage.setItem(key, JSON.stringify(value));
    } catch { /* storage may be forbidden: then the page starts at its top */ }
    return null;
  };
  const before = kept();
  kept(null);
  history.scrollRestoration = before || page.dataset.written ? "manual" : "auto";
  if (before) {
    before.tables.slice(0, tables.length).forEach(({ text, column, descending }, number) => {
      if (column >= 0 && column < tables[number].querySelectorAll("thead th").length) sort(tables[number].querySelector("table"), column, descending);
      tables[number].querySelector("input").value = text;
      filter(tables[number]);
    });
    const there = document.getElementById(before.part);
    const shift = there ? there.getBoundingClientRect().top - before.top : 0; // parts above may have grown
    scrollTo({ top: scrollY + shift, behavior: "instant" });
  }
  if (!page.dataset.written) return;

  const every = Math.max(3, Math.min(60, Number(page.dataset.every)));
  let paused = Boolean(before && before.paused);
  const age = document.getElementById("age");
  const pause = make("button", age.parentElement);
  pause.type = "button";
  const show = () => {
    pause.textContent = paused ? "Reload by itself" : "Stop reloading";
    const minutes = Math.floor((Date.now() / 1000 - Number(page.dataset.written)) / 60);
    const silent = minutes >= 10 && ` Nothing new for ${minutes} minutes: a long point, or the sweep was killed.`;
    age.textContent = (paused ? "This page no longer reloads itself." : "This page reloads itself.") + (silent || "");
  };
  const place = () => {
    const parts = [...document.querySelectorAll("header, section")];
    const part = parts.findLast((each) => each.getBoundingClientRect().top <= 1) || parts[0];
    return { part: part.id, top: part.getBoundingClientRect().top };
  };
  const state = () => ({
    ...place(),
    paused,
    tables: tables.map((box) => {
      const sorts = [...box.querySelectorAll("thead th")].map((head) => head.getAttribute("aria-sort"));
      const column = sorts.findIndex((each) => each !== "none");
      return { text: box.querySelector("input").value, column, descending: sorts[column] === "descending" };
    }),
  });
  pause.addEventListener("click", () => { paused = !paused; show(); });
  show();
  setInterval(() => {
    show();
    const busy = document.activeElement && document.activeElement.tagName === "INPUT";
    if (paused || busy || String(getSelection())) return; // not while somebody types or selects
    kept(state());
    location.reload();
  }, 1000 * every);
})();
