"use strict";

const MISSING = "—";

function key(row, column, isNumber) {
  const cell = row.cells[column];
  if (isNumber) {
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  }
  const text = cell.textContent.trim();
  return text === MISSING ? null : text;
}

function compare(a, b, sign) {
  if (a === null || b === null) {
    return (a === null) - (b === null);
  }
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
}

function sort(table, heading) {
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  const isNumber = heading.classList.contains("number");
  const column = heading.cellIndex;
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, key: key(row, column, isNumber) }));
  rows.sort((a, b) => compare(a.key, b.key, ascending ? 1 : -1));
  body.append(...rows.map(({ row }) => row));
  for (const other of table.tHead.rows[0].cells) {
    other.removeAttribute("aria-sort");
  }
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
}

function makeSortable(table) {
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading));
    heading.append(button);
  }
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const nearest = target?.closest("details");
  for (let details = nearest; details; details = details.parentElement.closest("details")) {
    details.open = true;
  }
  nearest?.scrollIntoView();
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
window.addEventListener("hashchange", openTarget);
openTarget();
