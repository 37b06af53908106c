// Defects of layout and of alternative texts in the loaded page, as an array of sentences.
// Called with {width, exclude}: the width of the viewport in CSS pixels, and a selector ("" for
// none) of elements whose content belongs to others.
({ width, exclude }) => {
  const TOLERANCE = 1; // CSS pixels: rounding of fractional layout
  const ICON = 48; // pixels: a smaller graphic belongs to the control or text that holds it
  const found = [];
  const excluded = (element) => exclude !== "" && element.closest(exclude) !== null;

  const name = (element) => {
    const id = element.id ? `#${element.id}` : "";
    const classes = [...element.classList].slice(0, 2).map((c) => `.${c}`).join("");
    const text = (element.textContent || "").trim().replace(/\s+/g, " ").slice(0, 40);
    return `<${element.localName}${id}${classes}>${text ? ` "${text}"` : ""}`;
  };

  const visible = (element) =>
    element.checkVisibility({ visibilityProperty: true, opacityProperty: true });

  // --- overflow of the document -------------------------------------------------------------
  const root = document.documentElement;
  const widest = Math.max(root.scrollWidth, document.body ? document.body.scrollWidth : 0);
  if (window.innerWidth > width + TOLERANCE && root.clientWidth > width + TOLERANCE)
    found.push(`overflow: laid out at ${root.clientWidth} px on a screen of ${width} px`);
  else if (widest > width + TOLERANCE)
    found.push(`overflow: the document is ${widest} px wide on a screen of ${width} px`);

  // --- what is cut off ----------------------------------------------------------------------
  const boxOf = (node) => {
    if (node.nodeType === Node.ELEMENT_NODE) return node.getBoundingClientRect();
    const range = document.createRange();
    range.selectNodeContents(node);
    return range.getBoundingClientRect();
  };
  const outside = (box, left, right) =>
    box.left < left - TOLERANCE || box.right > right + TOLERANCE;
  // An element that waits wholly outside: a drawer, a link for keyboards, a text for screen readers
  const waits = (box, fixed) => box.right <= 0 || (fixed && box.left >= width);

  // The sentence about a box that nobody can bring into view, null if it can be seen whole.
  const cut = (node) => {
    let box = boxOf(node);
    let fixed = false;
    if (box.width === 0 || box.height === 0) return null;
    const first = node.nodeType === Node.TEXT_NODE ? node.parentElement : node;
    for (let e = first; e && e !== root && e !== document.body; e = e.parentElement) {
      const style = getComputedStyle(e);
      const frame = e.getBoundingClientRect();
      if (e !== node && style.overflowX !== "visible") {
        if (frame.width <= 2 || frame.height <= 2 || style.clipPath !== "none") return null;
        const scrolls = style.overflowX === "auto" || style.overflowX === "scroll";
        if (!scrolls && style.textOverflow !== "ellipsis" && outside(box, frame.left, frame.right))
          return `cut off: ${name(first)} by ${name(e).split(" ")[0]}`;
        box = frame; // its content can be scrolled to, if it can be seen itself
      }
      if (style.position === "fixed") fixed = true;
      if (fixed && waits(frame, true)) return null;
    }
    if (!outside(box, 0, width) || waits(box, fixed)) return null;
    const where = `${Math.round(box.left)} to ${Math.round(box.right)} px`;
    return `cut off: ${name(first)} reaches from ${where} on a screen of ${width} px`;
  };

  const REPLACED = "img, svg, canvas, video, iframe, object, input, select, textarea, button";
  const parts = [...document.querySelectorAll(REPLACED)].filter((e) => !e.closest("svg svg, svg *"));
  if (document.body) {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode;
      if (text.data.trim() && !text.parentElement.closest("svg, script, style, noscript"))
        parts.push(text);
    }
  }
  const cuts = new Set();
  for (const part of parts) {
    const element = part.nodeType === Node.TEXT_NODE ? part.parentElement : part;
    if (excluded(element) || !visible(element)) continue;
    const sentence = cut(part);
    if (sentence) cuts.add(sentence);
  }
  found.push(...[...cuts].slice(0, 10));
  if (cuts.size > 10) found.push(`cut off: ${cuts.size - 10} more`);

  // --- alternative texts --------------------------------------------------------------------
  const decorative = (e) =>
    e.closest("[aria-hidden=true]") !== null ||
    ["presentation", "none"].includes(e.getAttribute("role"));
  const named = (e) => {
    const ids = (e.getAttribute("aria-labelledby") || "").split(/\s+/).filter(Boolean);
    const labels = ids.map((id) => document.getElementById(id)?.textContent || "");
    const title = e.querySelector(":scope > title")?.textContent || "";
    const texts = [e.getAttribute("aria-label"), e.getAttribute("alt"), title, ...labels];
    return texts.some((text) => text && text.trim());
  };
  const graphic = (e) => {
    if (e.matches("img, [role=img], input[type=image], area[href]")) return true;
    const box = e.getBoundingClientRect();
    return Math.max(box.width, box.height) > ICON && !e.matches("svg *");
  };
  const missing = [];
  for (const e of document.querySelectorAll(
    "img, svg, canvas, object, [role=img], input[type=image], area[href]",
  )) {
    if (excluded(e) || decorative(e) || !graphic(e)) continue;
    if (e.localName !== "img" && e.parentElement?.closest("[role=img]")) continue;
    if (e.localName === "canvas" && e.textContent.trim()) continue;
    if (!named(e)) missing.push(`alternative text missing: ${name(e)} ${e.outerHTML.slice(0, 90)}`);
    if (e.localName === "img" && e.complete && e.naturalWidth === 0 && e.getAttribute("src"))
      missing.push(`broken image: ${name(e)} ${e.outerHTML.slice(0, 90)}`);
  }
  found.push(...missing.slice(0, 10));
  if (missing.length > 10) found.push(`alternative text missing: ${missing.length - 10} more`);
  return found;
}
