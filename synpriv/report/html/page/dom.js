"use strict";

/** The data of the page, as synpriv/report/html/shape.py defines them, and its cells by their ids. */
let view;
const cells = new Map();

const byId = (id) => document.getElementById(id);

/** The text that an element holds as gzip in base64. */
async function inflate(id) {
  const packed = Uint8Array.from(atob(byId(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function loadView() {
  view = JSON.parse(await inflate("view"));
  for (const cell of view.cells) cells.set(cell.id, cell);
}

/** Text without what steers or turns what is read around; as synpriv.terminal.one_line. */
function plain(text) {
  return String(text)
    .replace(/[\t\n\r\v\f]/g, " ")
    .replace(
      /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu,
      (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`,
    )
    .trim();
}

/**
 * An element. Text only ever enters as text.
 * @param {string} tag
 * @param {Object<string, string>} attributes by name; `text` is its content
 * @param {...Node} children
 */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = plain(value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A list of lines, or nothing. */
function list(lines) {
  return make("ul", {}, ...lines.map((line) => make("li", { text: line })));
}

/** A value that is not known, and why. */
function absent(why) {
  return make(
    "span",
    {},
    make("span", { text: "-" }),
    make("span", { class: "beside", text: why }),
  );
}

/** Pairs of a name and what it is, a string or a node. */
function pairs(entries) {
  const inside = entries.map(([name, value]) => {
    const shown = value instanceof Node ? make("dd", {}, value) : make("dd", { text: value });
    return make("div", {}, make("dt", { text: name }), shown);
  });
  return make("dl", {}, ...inside);
}

/** A table from rows of strings or nodes, in a box of its own that scrolls; classes of columns. */
function table(caption, head, rows, classes = []) {
  const cell = (tag, value, more) =>
    value instanceof Node ? make(tag, more, value) : make(tag, { ...more, text: value });
  const top = make("tr", {}, ...head.map((name) => cell("th", name, { scope: "col" })));
  const body = rows.map((row) =>
    make("tr", {}, ...row.map((value, i) => cell("td", value, { class: classes[i] ?? "" }))),
  );
  const whole = make(
    "table",
    {},
    make("caption", { text: caption }),
    make("thead", {}, top),
    make("tbody", {}, ...body),
  );
  const box = { class: "scroll", role: "region", tabindex: "0", "aria-label": caption };
  return make("div", box, whole);
}

/** A picture of View.pictures; nothing but a PNG within the page is shown. */
function picture(key, words, why) {
  if (key === null || !Object.hasOwn(view.pictures, key)) return absent(why ?? "no picture kept");
  const source = view.pictures[key];
  if (!source.startsWith("data:image/png;base64,")) return absent("not a PNG");
  return make("img", { src: source, alt: plain(words), width: "56", height: "56" });
}
