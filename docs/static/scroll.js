// Wide tables, code and formulas scroll inside their own box. Where one is wider than its place it
// takes the keyboard's focus and a name, so that it can be scrolled without a mouse as well.
(() => {
  const BOXES = {
    ".table-wrapper": "Table, scrolls sideways",
    "div.highlight pre": "Code, scrolls sideways",
    ".math-wrapper": "Formula, scrolls sideways",
  };

  const update = (box, label) => {
    if (box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", label);
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
    }
  };

  for (const [selector, label] of Object.entries(BOXES)) {
    for (const box of document.querySelectorAll(selector)) {
      update(box, label);
      new ResizeObserver(() => update(box, label)).observe(box);
    }
  }
})();
