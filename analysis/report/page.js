const tip = document.getElementById("tip");

function showTip(mark) {
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const box = mark.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left + box.width / 2 - tip.offsetWidth / 2), innerWidth - tip.offsetWidth - 8);
  const above = box.top - tip.offsetHeight - 8;
  tip.style.left = left + "px";
  tip.style.top = (above > 8 ? above : box.bottom + 8) + "px";
}

for (const mark of document.querySelectorAll("[data-tip]")) {
  mark.addEventListener("pointerenter", () => showTip(mark));
  mark.addEventListener("pointerleave", () => { tip.hidden = true; });
  mark.addEventListener("focus", () => showTip(mark));
  mark.addEventListener("blur", () => { tip.hidden = true; });
}

const UNITS = { k: 1e3, M: 1e6, B: 1e9 };
const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

// The amount that a cell starts with: 41.2 ± 0.6, > 0.99, 9.06M (30 %), 3·10¹⁸ FLOPs, 10⁻⁵; NaN without one.
function amount(text) {
  const found = text.match(/^[<>]?\s*([+-]?\d[\d.]*(?:e[+-]?\d+)?)([kMB](?![a-zA-Z]))?(?:(·10)?(⁻?)([⁰¹²³⁴⁵⁶⁷⁸⁹]+))?/);
  if (!found) return NaN;
  const [, digits, unit, times, minus, power] = found;
  if (!power) return parseFloat(digits) * (UNITS[unit] || 1);
  const exponent = parseInt([...power].map(digit => SUPERSCRIPTS.indexOf(digit)).join(""), 10) * (minus ? -1 : 1);
  return (times ? parseFloat(digits) : 1) * 10 ** exponent;
}

function sortKey(text, isText) {
  const number = isText ? NaN : amount(text.trim());
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

function sortBy(heading) {
  const column = [...heading.parentNode.children].indexOf(heading);
  const body = heading.closest("table").tBodies[0];
  const isText = heading.classList.contains("text");
  const down = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...body.rows].map(row => [sortKey(row.cells[column].textContent, isText), row]);
  rows.sort(([a], [b]) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1));
  if (down) rows.reverse();
  body.append(...rows.map(([, row]) => row));
}

for (const heading of document.querySelectorAll("th")) {
  heading.addEventListener("click", () => sortBy(heading));
  heading.addEventListener("keydown", event => { if (event.key === "Enter") sortBy(heading); });
}

for (const button of document.querySelectorAll("[data-zoom]")) {
  button.addEventListener("click", () => {
    const sheet = button.closest(".plot").querySelector(".sheet");
    const svg = sheet.querySelector("svg");
    const old = parseFloat(svg.style.getPropertyValue("--zoom") || "1");
    const zoom = Math.min(6, Math.max(1, button.dataset.zoom === "in" ? old * 1.5 : old / 1.5));
    const middle = [(sheet.scrollLeft + sheet.clientWidth / 2) / sheet.scrollWidth,
                    (sheet.scrollTop + sheet.clientHeight / 2) / sheet.scrollHeight];
    sheet.style.maxHeight = zoom > 1 ? (sheet.dataset.height ||= sheet.clientHeight) + "px" : "";
    svg.style.setProperty("--zoom", zoom);
    sheet.scrollLeft = middle[0] * sheet.scrollWidth - sheet.clientWidth / 2;
    sheet.scrollTop = middle[1] * sheet.scrollHeight - sheet.clientHeight / 2;
  });
}
