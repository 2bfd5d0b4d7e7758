"use strict";
// Without this a page is whole, but its tables do not sort and numbers of marks appear late.

// The text of a cell, and the number that it begins with, if it does.
function valueOf(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = text.replaceAll(",", "").match(/^[<>]?\s*([+\u2212-]?\d+(\.\d+)?(e[+-]?\d+)?)/);
  return { text, number: number && Number(number[1].replace("\u2212", "-")) };
}

function compare(one, other) {
  const difference = one.number === null || other.number === null ? 0 : one.number - other.number;
  return difference || one.text.localeCompare(other.text, undefined, { numeric: true });
}

// Rising at first, falling at the second click; cells without a value stay last.
function sort(button) {
  const header = button.closest("th"), table = button.closest("table");
  const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const rows = Array.from(table.tBodies[0].rows, row => [valueOf(row, header.cellIndex), row]);
  rows.sort(([one], [other]) =>
    (one.text === "") - (other.text === "") || sign * compare(one, other));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

for (const button of document.querySelectorAll("th button")) {
  button.disabled = false;
  button.addEventListener("click", () => sort(button));
}

// What scrolls can be scrolled with the keyboard.
for (const area of document.querySelectorAll(".wide")) {
  if (area.scrollWidth > area.clientWidth) area.tabIndex = 0;
}

// The title of a mark appears at once, and not a second time when the browser would show it.
let tip = null;
function hide() {
  if (tip) tip.remove();
  tip = null;
}

function show(mark, event) {
  const title = mark.querySelector("title");
  if (title) {
    mark.dataset.text = title.textContent;
    title.remove();
  }
  hide();
  tip = document.createElement("div");
  tip.className = "tip";
  tip.textContent = mark.dataset.text;
  document.body.append(tip);
  const left = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8);
  const above = event.clientY - tip.offsetHeight - 12;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above < 8 ? event.clientY + 20 : above}px`;
}

document.addEventListener("pointerover", event => {
  const mark = event.target.closest(".mark");
  if (mark) show(mark, event);
  else hide();
});
document.addEventListener("scroll", hide, { capture: true, passive: true });
document.addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
