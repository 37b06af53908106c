"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  document.documentElement.classList.add("js");

  // tables: a button in each header sorts the rows
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    const number = Number.parseFloat(text);
    return { text, number: text !== "" && Number.isFinite(number) && /^[-+.\d]/.test(text) ? number : null };
  };
  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("n");
        const before = head.getAttribute("aria-sort");
        const up = before ? before === "descending" : !numeric;
        all("th", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const x = value(a, column), y = value(b, column);
          if (numeric) {
            if (x.number === null || y.number === null) return (x.number === null) - (y.number === null);
            return up ? x.number - y.number : y.number - x.number;
          }
          return x.text.localeCompare(y.text) * (up ? 1 : -1);
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  // paired tests: one menu chooses the reference
  for (const group of all(".paired")) {
    const references = all(".reference", group);
    const label = document.createElement("label");
    const menu = document.createElement("select");
    label.append("Reference", menu);
    label.className = "choose";
    references.forEach((one, i) => menu.append(new Option(one.querySelector("summary").textContent.replace(/^against\s*/, ""), i)));
    menu.addEventListener("change", () => references.forEach((one, i) => { one.open = i === Number(menu.value); }));
    group.querySelector("h3").after(label);
  }

  // galleries: a text filters the cards
  for (const block of all(".gallery-block")) {
    const cards = all(".card", block);
    if (cards.length < 4) continue;
    const label = document.createElement("label");
    const field = document.createElement("input");
    const count = document.createElement("output");
    field.type = "search";
    label.className = "choose";
    label.append("Filter by class or image", field, count);
    field.addEventListener("input", () => {
      const text = field.value.trim().toLowerCase();
      cards.forEach((card) => { card.hidden = !card.dataset.text.includes(text); });
      count.textContent = text ? `${cards.filter((card) => !card.hidden).length} of ${cards.length}` : "";
    });
    block.querySelector(".gallery").before(label);
  }

  // a link to a run opens its section; print opens all
  const reveal = () => {
    let target = null;
    try { target = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch { return; }
    if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
